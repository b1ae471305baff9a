"""`shortlist quality` and `shortlist forget-user`: what may be learned from, and from whom no longer."""

from datetime import UTC, datetime
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from features.errors import ContractError
from infra.settings import Settings
from infra.workspace import Workspace
from pipelines.steps import console

COLUMNS = ("check", "batch", "column", "found", "expected", "remedy")


def register(app: typer.Typer) -> None:
    """Add this file's commands to the command line."""
    app.command(
        epilog="Examples: [bold]shortlist quality[/], "
        "[bold]shortlist quality --accept 2026-11-27[/]"
    )(quality)
    app.command("forget-user", epilog="Example: [bold]shortlist forget-user u000003[/]")(
        forget_user
    )


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


def forget_user(
    user_id: Annotated[str, typer.Argument(help="As the events spell it.")],
    dataset: Annotated[
        str | None, typer.Option(help="Data set; SHORTLIST_DATASET when not given.")
    ] = None,
) -> None:
    """Remove a user from online store, lake, states, logs and the next bundle, for good.

    The id stays blocked: its later events are not stored. Waits for a step that is at work.
    """
    from pipelines.forget import forget
    from pipelines.lock import only_one

    settings = Settings(dataset=dataset) if dataset else Settings()
    workspace = Workspace.of(settings)
    # No report: it would keep the command line, and so the id.
    with only_one(workspace, "shortlist forget-user", wait=True):
        receipt = forget(workspace, user_id, settings.partitions, datetime.now(UTC))
    console.print_json(data=receipt)
    if not receipt["found"]:
        raise ContractError(
            f"nothing is known of user '{user_id}' in data set '{workspace.name}', expected an id "
            f"as its events spell it; the receipt says so, in {workspace.receipts}"
        )
