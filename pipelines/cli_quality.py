"""`shortlist quality`: the checks that stand before every training, to look at."""

from datetime import datetime
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from infra.settings import Settings
from infra.workspace import Workspace
from pipelines.steps import console

COLUMNS = ("check", "batch", "column", "found", "expected", "remedy")


def register(app: typer.Typer) -> None:
    """Add this file's command to the command line."""
    app.command(
        epilog="Examples: [bold]shortlist quality[/], "
        "[bold]shortlist quality --accept 2026-11-27[/]"
    )(quality)


def quality(
    dataset: Annotated[
        str | None, typer.Option(help="Data set; SHORTLIST_DATASET when not given.")
    ] = None,
    now: Annotated[
        datetime | None,
        typer.Option(help="Judge as of this moment (UTC); the end of the data when not given."),
    ] = None,
    accept: Annotated[
        datetime | None,
        typer.Option(formats=["%Y-%m-%d"], help="Let this day pass from now on: you have looked."),
    ] = None,
) -> None:
    """Judge the newest days of the lake and the newest feature rows; ends with 1 when one failed.

    A failed batch blocks training and promotion. Warnings block nothing.
    """
    from datetime import UTC

    from pipelines.check_quality import accept as let_pass
    from pipelines.check_quality import check_quality

    workspace = Workspace.of(Settings(dataset=dataset) if dataset else Settings())
    if accept is not None:
        let_pass(workspace, accept.date())
    checked = check_quality(workspace, None if now is None else now.replace(tzinfo=UTC))
    console.print(_table(checked))
    console.print(
        f"{len(checked['batches'])} batches judged, {len(checked['failed'])} checks failed, "
        f"{len(checked['warned'])} warnings; details: {workspace.reports / 'quality.json'}"
    )
    if not checked["passed"]:
        raise typer.Exit(1)


def _table(checked: dict[str, Any]) -> Table:
    table = Table("", *COLUMNS, box=None)
    for verdict, colour in (("failed", "red"), ("warned", "yellow")):
        for finding in checked[verdict]:
            cells = [escape(str(finding[name])) for name in COLUMNS]
            table.add_row(f"[{colour}]{verdict}[/]", *cells)
    return table
