"""`shortlist skew`: what was served, beside what would be trained on; and the drill that tries it."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from infra.reports import report
from pipelines.steps import console

Dataset = Annotated[str, typer.Option(help="Data set: world, completejourney, or your own name.")]
Requests = Annotated[int, typer.Option(min=1, help="Of the newest logged requests.")]

EXAMPLES = (
    "Examples: [bold]shortlist skew[/], [bold]shortlist skew --requests 1000[/], "
    "[bold]shortlist skew --since 2026-03-02T09:30[/] (after something was mended)"
)


def register(app: typer.Typer, benches: typer.Typer) -> None:
    """Add `skew` and `bench skew` to the command line."""
    app.command(epilog=EXAMPLES)(skew)
    benches.command("skew", epilog="Example: [bold]shortlist bench skew --requests 1000[/]")(drill)


def skew(
    dataset: Dataset = "world",
    requests: Requests = 10_000,
    since: Annotated[
        datetime | None,
        typer.Option(help="Only what was served from this moment on, UTC."),
    ] = None,
    limit: Annotated[
        float, typer.Option(min=0, max=1, help="Share of a feature's values that may be skewed.")
    ] = 0.001,
) -> None:
    """Compare the features that were served with the same ones computed again, value by value.

    Serving logs the exact values that the model read. This takes the log into the lake, computes every
    one of them again as training would, point in time, with the bundle that served, and says of
    each feature how many values are

    [bold]equal[/] (integers exactly, floats to a millionth),
    [bold]behind[/] (what was known a little earlier: a row was on its way),
    [bold]restated[/] (what the row said when it was written, before late events changed it), or
    [bold]skewed[/], with an example and what it looks like: another window, a null as a default, a count
    taken twice, an hour that is off.

    More than the limit skewed ends with 1, and `shortlist promote` refuses a bundle that reads such a
    feature until a newer comparison is clean. Writes var/reports/skew.json.
    """
    from infra.event_log import open_log
    from monitoring.skew import read_slates
    from pipelines import skew as step
    from pipelines.cli import _workspace
    from pipelines.lock import only_one
    from pipelines.steps import Steps

    settings, workspace = _workspace(dataset)
    since = since.replace(tzinfo=since.tzinfo or UTC) if since else None
    with only_one(workspace, "shortlist skew"), report(workspace.reports, "skew", []) as metrics:
        with closing(open_log(workspace, settings.partitions)) as log:
            slates = read_slates(log, requests, since)
            with Steps().step("bring up", "log to lake, features of the slates' days") as done:
                step.bring_up(workspace, log, slates, settings.engine)
                done.append(f"{len(slates)} slates")
        with progress("computed again", len(slates)) as tell:
            metrics.update(step.skew(workspace, slates, limit, tell))
    show(metrics)
    if metrics["over"]:
        raise typer.Exit(1)


def drill(
    requests: Requests = 10_000,
    faulty: Annotated[int, typer.Option(min=1, help="Requests served with each fault.")] = 1_000,
    scale: Annotated[str, typer.Option(help="Of the world: tiny, small or full.")] = "tiny",
    seed: Annotated[int, typer.Option(help="Of the world and the training.")] = 0,
) -> None:
    """Whether `skew` finds what is there and nothing else: a clean run, and one with each fault.

    Lets a simulated shop live for days with the real funnel, in this process, once as it is and once with
    each of: a count of 7 days for one of 30, a missing value as 0, a count taken twice. Ends with 1
    when the clean run shows skew or a fault is not named. Writes var/reports/skew-drill.json.
    """
    from pipelines.cli import _workspace
    from pipelines.loop.skew_drill import failures, run_drill

    _, workspace = _workspace("world")
    with report(workspace.reports, "skew-drill", [seed]) as metrics:
        metrics.update(run_drill(workspace.home, requests, faulty, scale, seed, progress))
    console.print_json(data={name: run["told"] for name, run in metrics.items()})
    missed = failures(metrics)
    for line in missed:
        console.print(f"[red]not met:[/] {line}")
    if missed:
        raise typer.Exit(1)


@contextmanager
def progress(doing: str, total: int) -> Iterator[Callable[[int], None]]:
    """A bar; yields what moves it on."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(
        *columns, TextColumn("left"), TimeRemainingColumn(), console=console, transient=True
    ) as bar:
        task = bar.add_task(doing, total=total)
        yield lambda done: bar.advance(task, done)


def show(found: Mapping[str, Any]) -> None:
    """One line per feature that is not equal everywhere, the worst first, and the verdict."""
    table = Table("feature", "equal", "behind", "restated", "skewed", "worst", "it", box=None)
    features = sorted(found["features"].items(), key=lambda pair: (-pair[1]["share"], pair[0]))
    for name, one in features:
        if one["equal"] == one["rows"]:
            continue
        shares = [f"{one[kind] / one['rows']:.2%}" for kind in ("equal", "behind", "restated")]
        table.add_row(name, *shares, f"{one['share']:.2%}", f"{one['worst']:.6g}", _about(one))
    if table.row_count:
        console.print(table)
    same = sum(one["equal"] == one["rows"] for _, one in features)
    console.print(
        f"{same} of {len(features)} features equal in every one of {found['rows']:,} rows "
        f"({found['requests']:,} requests, {len(found['bundles'])} bundles)"
    )
    for why, slates in found["skipped"].items():
        console.print(f"{slates} slates not compared: {why}")
    colour = "red" if found["over"] else "green"
    console.print(f"[{colour}]{escape(found['because'])}[/]", soft_wrap=True)


def _about(one: Mapping[str, Any]) -> str:
    """What the skewed values look like, and an example of them."""
    if one["example"] is None:
        return ""
    example = one["example"]
    return (
        f"{one['looks_like'] or 'no pattern'}; {example['served']} served, "
        f"{example['recomputed']} recomputed: {example['item_id']} of {example['request_id']}"
    )
