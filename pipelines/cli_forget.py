"""`shortlist forget-user`: remove one user everywhere; the receipt is printed and kept."""

from datetime import UTC, datetime
from typing import Annotated

import typer

from features.errors import ContractError
from infra.settings import Settings
from infra.workspace import Workspace
from pipelines.steps import console


def register(app: typer.Typer) -> None:
    """Add this file's command to the command line."""
    app.command("forget-user", epilog="Example: [bold]shortlist forget-user u000003[/]")(
        forget_user
    )


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
