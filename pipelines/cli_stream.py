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
    help="Records of the event log that were no events: list, mend, replay.",
    epilog="Example: [bold]shortlist dead-letters list[/]",
    no_args_is_help=True,
)


Seed = Annotated[int, typer.Option(help="Seed of the traffic.")]


def register(app: typer.Typer, benches: typer.Typer) -> None:
    """Add this file's commands to the command line."""
    app.add_typer(dead_letters, name="dead-letters")
    benches.command("stream", epilog="Example: [bold]shortlist bench stream[/]")(bench_stream)
    benches.command(
        "stream-crash", epilog="Example: [bold]shortlist bench stream-crash --kills 20[/]"
    )(bench_crash)


def bench_stream(
    events: Annotated[int, typer.Option(help="Events of each measurement.")] = 100_000,
    seconds: Annotated[float, typer.Option(help="How long freshness is measured.")] = 20.0,
    rate: Annotated[float, typer.Option(help="Events a second meanwhile.")] = 2_000.0,
    seed: Seed = 0,
) -> None:
    """How fast: the fold with durable state, from Kafka to Redis, and how fresh a feature is."""
    from pipelines.bench_stream import stream_speed

    with report(Settings().home / "reports", "stream", [seed]) as metrics:
        metrics.update(stream_speed(events, seconds, rate, seed))
    console.print_json(data=metrics)


def bench_crash(
    kills: Annotated[int, typer.Option(help="How often the worker is killed.")] = 200,
    events: Annotated[int, typer.Option(help="Records in all.")] = 1_000_000,
    backend: Annotated[
        list[str] | None, typer.Option(help="embedded, kafka; both when not given.")
    ] = None,
    seed: Seed = 0,
) -> None:
    """Whether it is exact: kill the worker again and again, then recount everything.

    Ends with 1 when a row is wrong, an event lost or counted twice.
    """
    from pipelines.bench_crash import BACKENDS, stream_crash

    with report(Settings().home / "reports", "stream-crash", [seed]) as metrics:
        metrics.update(stream_crash(kills, events, seed, backend or BACKENDS))
    console.print_json(data=metrics)
    if any(
        found["wrong_keys"] or found["lost"] or found["late_counted"] != found["late_expected"]
        for found in metrics.values()
    ):
        raise typer.Exit(1)


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
