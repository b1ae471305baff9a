"""`shortlist loop`: days of serving, reacting and learning, in worlds whose truth is known."""

from enum import StrEnum
from typing import Annotated

import typer

from infra.reports import report
from pipelines.seeds import Seeds, parse_seeds
from pipelines.steps import console
from pipelines.world.config import DEFAULT_FAMILY, FAMILIES


class Over(StrEnum):
    """How visitors reach an arm."""

    process = "process"
    http = "http"


class Retraining(StrEnum):
    """When an arm learns from its own log."""

    daily = "daily"
    never = "never"
    policy = "policy"


EXAMPLES = (
    "Examples: [bold]shortlist loop --scale tiny --days 3[/] (a minute), "
    "[bold]shortlist loop --days 10 --families all --seeds 5 --resume[/]"
)


def register(app: typer.Typer) -> None:
    """Add `loop` and `aa` to the command line."""
    app.command(epilog=EXAMPLES)(loop)
    app.command(epilog="Example: [bold]shortlist aa --runs 40[/]")(aa)


def loop(
    days: Annotated[int, typer.Option(min=1, help="Days after the logged past.")] = 10,
    arms: Annotated[
        str, typer.Option(help="Twins to compare: popular, full, oracle.")
    ] = "popular,full,oracle",
    retrain: Annotated[
        Retraining,
        typer.Option(help="policy = when the drift report of the day before says so."),
    ] = Retraining.policy,
    families: Annotated[
        str, typer.Option("--families", "--family", help="all, or names with commas.")
    ] = DEFAULT_FAMILY,
    seeds: Seeds = "1",
    scale: Annotated[str, typer.Option(help="tiny, small or full.")] = "small",
    preset: Annotated[str, typer.Option(help="A named world; docs/world.md lists them.")] = "base",
    jobs: Annotated[int, typer.Option(min=1, help="Worlds at a time, one core each.")] = 2,
    over: Annotated[
        Over, typer.Option(help="http = the real API, a slate at a time; needs --arms full.")
    ] = Over.process,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on from the days that are committed.")
    ] = False,
) -> None:
    """Let the same people live with each policy for days, and compare what it truly earned them.

    Every arm is a twin of the same world: same users, sessions and luck, with a log, a lake,
    features and models of its own. Writes var/reports/loop.json and var/reports/loop/index.html.
    """
    from pipelines.cli import _workspace
    from pipelines.loop.page import write_page
    from pipelines.loop.plan import Plan
    from pipelines.loop.run import run
    from pipelines.loop.shelf import read_shelf
    from pipelines.loop.summary import summarise
    from pipelines.loop.tell import tell

    chosen = FAMILIES if families == "all" else tuple(families.split(","))
    plan = Plan(
        days=days,
        arms=tuple(arms.split(",")),
        retrain=retrain.value,
        families=chosen,
        seeds=tuple(parse_seeds(seeds)),
        scale=scale,
        preset=preset,
        over=over.value,
    )
    settings, workspace = _workspace("world")
    with report(workspace.reports, "loop", list(plan.seeds)) as metrics:
        folder = run(plan, settings.home, resume=resume, jobs=jobs)
        metrics.update(summarise(read_shelf(folder, plan), plan, settings.experiment_salt))
    tell(metrics)
    console.print(f"page: {write_page(workspace.reports)}\nbooks: {folder}", soft_wrap=True)


def aa(
    runs: Annotated[
        int, typer.Option(min=1, help="Experiments of something against itself.")
    ] = 200,
    scale: Annotated[str, typer.Option(help="tiny, small or full.")] = "tiny",
    jobs: Annotated[int, typer.Option(min=1, help="Worlds at a time, one core each.")] = 2,
) -> None:
    """A/A through the whole stack: how many 95 % intervals miss zero, where both arms are the same."""
    from pipelines.cli import _show, _workspace
    from pipelines.loop.aa import measure, seeds_of, verdict

    settings, workspace = _workspace("world")
    with report(workspace.reports, "aa", seeds_of(runs)) as metrics:
        found = verdict(measure(settings.home, runs, scale, jobs))
        metrics.update(found)
    _show(found)
    if not found["ok"]:
        raise typer.Exit(1)
