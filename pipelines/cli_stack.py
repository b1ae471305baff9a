"""`shortlist`'s commands about the running stack; the line's own are in cli.py."""

from typing import Annotated, Any

import typer

from features.errors import Unavailable
from infra.reports import report
from infra.settings import Settings
from infra.workspace import Workspace
from pipelines import cli_local
from pipelines.steps import console

Dataset = Annotated[
    str | None, typer.Option(help="Data set; SHORTLIST_DATASET, else world, when not given.")
]


def register(app: typer.Typer) -> None:
    """Add this file's commands to the command line, in the order in which --help lists them."""
    cli_local.register(app)
    app.command(epilog="Example: [bold]shortlist rebuild[/]")(rebuild)
    app.command(epilog="Example: [bold]shortlist recount --wait 60[/]")(recount)


def rebuild(
    dataset: Dataset = None,
    empty: Annotated[
        bool, typer.Option("--empty", help="First forget every row; wrong but newer ones go too.")
    ] = False,
) -> None:
    """Fill the online store again, from the offline store and the stream worker's states.

    The API and the worker may run meanwhile.
    """
    from pipelines.rebuild import rebuild as fill
    from pipelines.rebuild import rebuilt_as_of

    settings, workspace = _places(dataset)
    with report(workspace.reports, "rebuild", []) as metrics:
        now = rebuilt_as_of(workspace)
        metrics.update(fill(workspace, now, settings.partitions, empty=empty), as_of=now)
    _show(metrics)


def recount(
    dataset: Dataset = None,
    wait: Annotated[
        float, typer.Option(help="Seconds that the stream worker may take to catch up.")
    ] = 60.0,
) -> None:
    """Compare every user's online stream features with a recount of the whole event log.

    Ends with 1 when a row is wrong or missing.
    """
    from contextlib import closing

    from infra.event_log import open_log
    from pipelines.recount import recount as count
    from pipelines.stream import positive_types_of

    settings, workspace = _places(dataset)
    with report(workspace.reports, "recount", []) as metrics:
        try:
            with closing(open_log(workspace, settings.partitions)) as events:
                found = count(workspace, events, positive_types_of(workspace), wait_s=wait)
        except OSError as error:
            raise Unavailable(f"the event log does not answer: {error}") from error
        metrics.update(found)
    _show(metrics)
    if metrics["wrong"] or metrics["missing"]:
        raise typer.Exit(1)


def _places(dataset: str | None) -> tuple[Settings, Workspace]:
    settings = Settings(dataset=dataset) if dataset else Settings()
    return settings, Workspace.of(settings)


def _show(metrics: dict[str, Any]) -> None:
    console.print_json(data=metrics, default=str)
