"""`shortlist world`: the simulated shop made anew, and the check that it resembles published logs."""

import json
from collections.abc import Sequence
from typing import Annotated, Any

import typer

from features.errors import ContractError
from infra.reports import report
from pipelines.lock import only_one
from pipelines.steps import console
from pipelines.world.config import DEFAULT_FAMILY, FAMILIES

Scale = Annotated[str, typer.Option(help="How much: tiny (tests), small (the demo), full.")]
Seed = Annotated[int, typer.Option(help="Seed of everything random in the world.")]

OPTIONS = ("scale", "seed", "family", "preset")

world_app = typer.Typer(
    help="Make the simulated shop anew: users with tastes, items, a logged past; into an empty lake.",
    invoke_without_command=True,
    epilog="Examples: [bold]shortlist world --scale tiny --seed 7[/], "
    "[bold]shortlist world --set users=500 --set churn=0.02[/], "
    "[bold]shortlist world check --families all --seeds 5[/]",
)


def register(app: typer.Typer) -> None:
    """Add `world` and `world check` to the command line."""
    app.add_typer(world_app, name="world")


@world_app.callback()
def world(
    context: typer.Context,
    scale: Scale = "small",
    seed: Seed = 0,
    family: Annotated[str, typer.Option(help="position, trust or cascade.")] = DEFAULT_FAMILY,
    preset: Annotated[str, typer.Option(help="A named world; docs/world.md lists them.")] = "base",
    changed: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="NAME=VALUE", help="One parameter of docs/world.md; again for more."
        ),
    ] = None,
) -> None:
    """Make the simulated shop anew: users with tastes, items, a logged past; into an empty lake."""
    from pipelines.bootstrap import fresh_world
    from pipelines.cli import _show, _workspace

    if context.invoked_subcommand:
        return
    changes = _parameters(changed or [])
    _, workspace = _workspace("world")
    with (
        only_one(workspace, "shortlist world"),
        report(workspace.reports, "world-made", [seed]) as metrics,
    ):
        made = fresh_world(workspace, scale, seed, family=family, preset=preset, **changes)
        metrics.update(made[1])
    _show(metrics)


@world_app.command(epilog="Example: [bold]shortlist world check --families trust --seeds 2[/]")
def check(
    families: Annotated[str, typer.Option(help="all, or names with commas.")] = "all",
    seeds: Annotated[int, typer.Option(min=1, help="How many worlds of each family.")] = 5,
    scale: Scale = "small",
) -> None:
    """Compare the world with published logs: facts, switches, examination, speed, memory."""
    from pipelines.cli import _workspace
    from pipelines.world.check import check_world, unmet

    chosen = FAMILIES if families == "all" else tuple(families.split(","))
    _, workspace = _workspace("world")
    with report(workspace.reports, "world", list(range(seeds))) as metrics:
        metrics.update(check_world(chosen, list(range(seeds)), scale, console))
    missed = unmet(metrics)
    for line in missed:
        console.print(f"[red]not met:[/] {line}")
    if missed:
        raise typer.Exit(1)


def _parameters(pairs: Sequence[str]) -> dict[str, Any]:
    """NAME=VALUE as parameters of a world; values are JSON where they can be read as such.

    Examples:
        >>> _parameters(["users=500", "churn=often"])
        {'users': 500, 'churn': 'often'}
    """
    found: dict[str, Any] = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        if not equals:
            raise ContractError(f"--set is {pair!r}; expected NAME=VALUE, such as users=500")
        if name in OPTIONS:
            raise ContractError(f"--set {pair}: {name} has an option of its own, --{name}")
        try:
            found[name] = json.loads(text)
        except ValueError:
            found[name] = text
    return found
