"""`shortlist`'s commands about the stream: what was set aside, and how fast and exact it is."""

from contextlib import closing
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from features.errors import Unavailable
from infra.reports import report
from infra.settings import Settings
from infra.workspace import Workspace
from pipelines.steps import console

SHOWN = 50
"""Letters that `list` prints; a file has all."""

Dataset = Annotated[str | None, typer.Option(help="Data set; SHORTLIST_DATASET when not given.")]

dead_letters = typer.Typer(
    help="Records of the event log that were no events: list, mend, replay.", no_args_is_help=True
)


def register(app: typer.Typer) -> None:
    """Add this file's commands to the command line."""
    app.add_typer(dead_letters, name="dead-letters")


@dead_letters.command("list", epilog="Example: [bold]shortlist dead-letters list --to bad.jsonl[/]")
def list_letters(
    dataset: Dataset = None,
    to: Annotated[Path | None, typer.Option(help="Write all to this file, to mend them.")] = None,
    everything: Annotated[
        bool, typer.Option("--all", help="Those that were replayed, too.")
    ] = False,
) -> None:
    """Each record that was set aside: where it stood, why, and what it was."""
    from pipelines.dead_letters import letters, write_letters

    with _log(dataset) as log:
        found = [letter for letter in letters(log) if everything or not letter.replayed]
    if to is not None:
        write_letters(to, found)
        console.print(f"{len(found)} letters in {to}: mend `record` in each line, then "
                      f"shortlist dead-letters replay --from {to}")  # fmt: skip
        return
    table = Table("partition", "offset", "reason", "record", box=None)
    for letter in found[:SHOWN]:
        record = letter.record[:60]
        table.add_row(
            str(letter.partition), str(letter.offset), escape(letter.reason), escape(record)
        )
    console.print(table)
    console.print(f"{len(found)} dead letters")


@dead_letters.command(
    "replay", epilog="Example: [bold]shortlist dead-letters replay --from bad.jsonl[/]"
)
def replay_letters(
    dataset: Dataset = None,
    source: Annotated[
        Path | None, typer.Option("--from", help="Mended letters; all, as they are, if not given.")
    ] = None,
) -> None:
    """Append records to the event log again, those that are events now; each counts once."""
    from pipelines.dead_letters import letters, read_letters, replay

    workspace = _places(dataset)[1]
    with report(workspace.reports, "dead-letters", []) as metrics, _log(dataset) as log:
        metrics.update(replay(log, letters(log) if source is None else read_letters(source)))
    console.print_json(data=metrics)
    if metrics["still_bad"]:
        raise typer.Exit(1)


def _places(dataset: str | None) -> tuple[Settings, Workspace]:
    settings = Settings(dataset=dataset) if dataset else Settings()
    return settings, Workspace.of(settings)


def _log(dataset: str | None) -> "closing":
    from infra.event_log import open_log

    settings, workspace = _places(dataset)
    try:
        return closing(open_log(workspace, settings.partitions))
    except OSError as error:
        raise Unavailable(f"the event log does not answer: {error}") from error
