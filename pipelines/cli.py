"""`shortlist`: one command per step, and `demo`, which runs them all.

The steps are imported when called: `shortlist --help` must not wait for torch, Spark or Feast.
"""

import json
import os
import sys
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from features.errors import ContractError, RecommenderError
from infra.reports import report
from infra.settings import Settings
from infra.workspace import Workspace
from pipelines import (
    cli_bench,
    cli_data,
    cli_features,
    cli_loop,
    cli_skew,
    cli_stack,
    cli_stream,
    cli_world,
)
from pipelines.experiments import cli as experiments
from pipelines.lock import measured
from pipelines.steps import Steps, console
from pipelines.tell import flatten, rows_told, show_models

app = typer.Typer(
    name="shortlist",
    help="A reference recommender: data, features, models, evaluation, serving, monitoring.\n\n"
    "State lives under var/ (SHORTLIST_HOME moves it). Every command that measures writes "
    "var/reports/<name>.json.",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    add_completion=False,
)


class Scale(StrEnum):
    """The one dial: how much world, how many epochs."""

    tiny = "tiny"
    small = "small"
    full = "full"


class Engine(StrEnum):
    """What computes the batch features."""

    auto = "auto"
    spark = "spark"
    duckdb = "duckdb"


class LeakChoice(StrEnum):
    """Up to which moment a training row sees."""

    none = "none"
    day_end = "day-end"
    latest = "latest"


class Clock(StrEnum):
    """What the served API takes for now."""

    data = "data"
    real = "real"


Dataset = Annotated[
    str, typer.Option(help="Data set: world, completejourney, trivago, ml-100k, or your own name.")
]
ScaleOption = Annotated[Scale, typer.Option(help="How much: tiny (tests), small (the demo), full.")]
Seed = Annotated[int, typer.Option(help="Seed of everything random in the step.")]
EngineOption = Annotated[
    Engine, typer.Option(help="auto takes Spark where Java 17 is there, else DuckDB.")
]


def main() -> None:
    """Run the command line; our own errors end as one line and exit code 2, never as a traceback."""
    try:
        app()
    except RecommenderError as error:
        console.print(f"[red]shortlist:[/] {escape(str(error))}", soft_wrap=True)
        sys.exit(2)


def _workspace(dataset: str) -> tuple[Settings, Workspace]:
    """Settings and places for one data set; a bad setting or name is named, with what it may be."""
    from pydantic import ValidationError

    try:
        settings = Settings(dataset=dataset)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(map(str, first["loc"]))
        raise ContractError(
            f"setting '{field}' is {first['input']!r}: {first['msg']}; mend SHORTLIST_{field.upper()}"
        ) from None
    return settings, Workspace.of(settings)


@app.command(epilog="Example: [bold]shortlist doctor[/]")
def doctor() -> None:
    """Look at this machine: Python, Java, cores, memory, disk, ports, each with a verdict and a remedy."""
    from pipelines.doctor import examine

    settings, _ = _workspace("world")
    findings = examine(settings)
    table = Table("", "what", "seen", "remedy", box=None)
    colours = {"ok": "green", "note": "yellow", "fail": "red"}
    for finding in findings:
        verdict = f"[{colours[finding.verdict]}]{finding.verdict}[/]"
        table.add_row(verdict, finding.name, finding.seen, finding.remedy)
    console.print(table)
    if any(finding.verdict == "fail" for finding in findings):
        raise typer.Exit(1)


cli_world.register(app)

EventsFile = Annotated[
    Path | None, typer.Option("--events", help="CSV or Parquet file of your events.")
]
Name = Annotated[str | None, typer.Option(help="Name for your own data (with --events).")]
ItemsFile = Annotated[
    Path | None, typer.Option("--items", help="CSV or Parquet file of your items.")
]
UsersFile = Annotated[
    Path | None, typer.Option("--users", help="CSV or Parquet file of your users.")
]
Separator = Annotated[
    str | None, typer.Option(help="Column separator; found by itself when not given.")
]
NoHeader = Annotated[
    bool, typer.Option("--no-header", help="The file has no header; name columns by number.")
]
UserColumn = Annotated[str | None, typer.Option(help="Column of the user id (or 1, 2, ...).")]
ItemColumn = Annotated[str | None, typer.Option(help="Column of the item id.")]
TimeColumn = Annotated[
    str | None, typer.Option(help="Column of the time: ISO 8601, or epoch s, ms, µs.")
]
TypeColumn = Annotated[str | None, typer.Option(help="Column of the event type.")]
ValueColumn = Annotated[str | None, typer.Option(help="Column of the money or the rating.")]
EventType = Annotated[str, typer.Option(help="Type of all events where there is no type column.")]
HideSeen = Annotated[
    bool, typer.Option("--hide-seen", help="Never show again what a user already took.")
]
FromLog = Annotated[
    bool, typer.Option("--log", help="Copy the event log of the running API into the lake.")
]


@app.command(
    name="ingest",
    epilog="Examples: [bold]shortlist ingest --dataset trivago[/], [bold]shortlist ingest --log[/]",
)
def ingest_command(
    dataset: Dataset = "world",
    log: FromLog = False,
) -> None:
    """Validate a public data set, or what the API logged, and add it to the lake.

    What does not fit goes to quarantine with a reason. Your own files: [bold]shortlist run --name[/].
    """
    from pipelines.ingest import ingest, ingest_log

    settings, workspace = _workspace(dataset)
    with measured(workspace, "ingest", []) as metrics:
        if log:
            metrics.update(ingest_log(workspace, _event_log(settings)))
        else:
            metrics.update(ingest(workspace, _public(settings, dataset), now=datetime.now(UTC)))
    _show(metrics)


@app.command(epilog="Example: [bold]shortlist run --dataset completejourney[/]")
def run(
    dataset: Dataset = "world",
    name: Name = None,
    events: EventsFile = None,
    items: ItemsFile = None,
    users: UsersFile = None,
    separator: Separator = None,
    no_header: NoHeader = False,
    user_column: UserColumn = None,
    item_column: ItemColumn = None,
    time_column: TimeColumn = None,
    type_column: TypeColumn = None,
    value_column: ValueColumn = None,
    event_type: EventType = "purchase",
    hide_seen: HideSeen = False,
    scale: ScaleOption = Scale.small,
    seed: Seed = 0,
    engine: EngineOption = Engine.auto,
) -> None:
    """The whole line on one data set: ingest, features, training, evaluation, published bundle.

    Your own file: [bold]shortlist run --name shop --events sales.csv --user-column customer
    --item-column sku --time-column day[/]  (docs/bring-your-own-data.md).
    """
    from pipelines.bootstrap import fresh_world
    from pipelines.ingest import ingest
    from pipelines.loaders.own_files import load as own_tables
    from pipelines.run import run_line

    if (name is None) != (events is None):
        raise ContractError("your own data needs both --name NAME and --events FILE")
    settings, workspace = _workspace(name or dataset)
    given = (user_column, item_column, time_column, type_column, value_column)
    ours = ("user_id", "item_id", "event_at", "event_type", "value")
    columns = {mine: theirs for mine, theirs in zip(ours, given, strict=True) if theirs is not None}
    steps = Steps()
    with measured(workspace, "run", [seed]) as metrics:
        with steps.step("ingest", "validate, quarantine, lake") as done:
            if name is not None and events is not None:
                tables = own_tables(
                    name, events, items, users, columns=columns, separator=separator,
                    header=not no_header, event_type=event_type, hide_seen=hide_seen,
                )  # fmt: skip
                ingested = ingest(workspace, tables, now=datetime.now(UTC))
            elif dataset == "world":
                _, ingested = fresh_world(workspace, scale.value, seed)
            else:
                ingested = ingest(workspace, _public(settings, dataset), now=datetime.now(UTC))
            done.append(rows_told(ingested))
        line = run_line(workspace, scale.value, seed, engine.value, steps)
        metrics.update(ingested)
        metrics.update(flatten(line["evaluation"]))
        metrics["bundle"] = line["bundle"]
        metrics["promotion"] = line["promotion"]
        metrics["ranker"] = line["ranker"]
        metrics["seconds_by_step"] = steps.seconds
    show_models(metrics)
    console.print(f"\n[bold]Next:[/] shortlist serve --dataset {workspace.name}")


cli_features.register(app)


@app.command(epilog="Example: [bold]shortlist train --scale tiny --seed 1[/]")
def train(
    dataset: Dataset = "world",
    scale: ScaleOption = Scale.small,
    seed: Seed = 0,
    leak: Annotated[
        LeakChoice,
        typer.Option(
            help="Show the harm of a join that looks ahead; what it makes is never served."
        ),
    ] = LeakChoice.none,
) -> None:
    """Train retrieval and ranker on everything before the test window; stage a bundle."""
    from pipelines.run import train as train_both

    _, workspace = _workspace(dataset)
    with measured(workspace, "train", [seed]) as metrics:
        metrics.update(train_both(workspace, scale.value, seed, Steps(), leak.value))


@app.command(epilog="Example: [bold]shortlist evaluate --dataset completejourney[/]")
def evaluate(dataset: Dataset = "world", seed: Seed = 0) -> None:
    """Grade the staged bundle and every baseline on the last 20 % of time."""
    from pipelines.days import split_of
    from pipelines.evaluate import evaluate as grade

    _, workspace = _workspace(dataset)
    with measured(workspace, "evaluate", [seed]) as metrics:
        metrics.update(flatten(grade(workspace, split_of(workspace), seed)))
    show_models(metrics)


@app.command(
    epilog="Example: [bold]shortlist promote[/]   or   [bold]shortlist promote 2026-03-01-1a2b3c4d --force[/]"
)
def promote(
    bundle: Annotated[
        str | None, typer.Argument(help="Bundle id; the staged one when not given.")
    ] = None,
    dataset: Dataset = "world",
    force: Annotated[bool, typer.Option(help="Point at it although the gate says no.")] = False,
) -> None:
    """Publish the staged bundle and let serving use it, if it is not worse than the champion."""
    from pipelines.promote import promote as point
    from pipelines.promote import publish_bundle
    from pipelines.tracking import note, try_follow

    _, workspace = _workspace(dataset)
    with measured(workspace, "promote", []) as metrics:
        metrics.update(point(workspace, bundle or publish_bundle(workspace), force=force))
    _show(metrics)
    note(workspace, metrics["bundle"], verdict=metrics["verdict"])
    console.print(f"MLflow: {try_follow(workspace)}", soft_wrap=True)
    if not metrics["promoted"]:
        raise typer.Exit(1)


@app.command(epilog="Example: [bold]shortlist rollback[/]")
def rollback(dataset: Dataset = "world") -> None:
    """Point serving back at the bundle before; a running API follows within a second."""
    from pipelines.promote import rollback as back
    from pipelines.tracking import try_follow

    _, workspace = _workspace(dataset)
    with report(workspace.reports, f"rollback-{workspace.name}", []) as metrics:
        metrics.update(back(workspace))  # without the lock: a rollback waits for nobody
    _show(metrics)
    console.print(f"MLflow: {try_follow(workspace)}", soft_wrap=True)


@app.command(epilog="Example: [bold]shortlist drift --dataset world[/]")
def drift(dataset: Dataset = "world") -> None:
    """Compare what was served since the bundle was published with its reference; say: retrain or not."""
    from pipelines.check_drift import check_drift

    settings, workspace = _workspace(dataset)
    with report(workspace.reports, f"drift-{workspace.name}", []) as metrics:
        metrics.update(check_drift(workspace, _event_log(settings)))
    _show(metrics)


@app.command(epilog="Example: [bold]shortlist serve --dataset completejourney --port 8001[/]")
def serve(
    dataset: Dataset = "world",
    host: Annotated[
        str | None, typer.Option(help="Address to listen on (default: loopback).")
    ] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on.")] = None,
    clock: Annotated[
        Clock, typer.Option(help="data: now is when the data ends; real: this machine's time.")
    ] = Clock.data,
) -> None:
    """The API, its page and the stream worker, on loopback, until Ctrl-C."""
    from pipelines.serve import serve_forever

    settings, workspace = _workspace(dataset)
    chosen = {"host": host or settings.host, "port": port or settings.port}
    serve_forever(settings.model_copy(update=chosen), workspace, clock.value)


@app.command(epilog="Example: [bold]shortlist demo --scale tiny[/]")
def demo(
    scale: ScaleOption = Scale.small,
    seed: Seed = 0,
    engine: EngineOption = Engine.auto,
    port: Annotated[int | None, typer.Option(help="Port of the API and the page.")] = None,
) -> None:
    """The main job: a simulated shop from raw events to a drift-triggered retraining, over the real API."""
    from pipelines.demo import run_demo

    settings, workspace = _workspace("world")
    if port:
        settings = settings.model_copy(update={"port": port})
    run_demo(settings, workspace, scale.value, seed, engine.value)


for part in (cli_bench, cli_stack, cli_loop, cli_data):
    part.register(app)
for part_with_bench in (cli_stream, cli_skew):
    part_with_bench.register(app, cli_bench.bench_app)
app.add_typer(experiments.app)


def _public(settings: Settings, dataset: str) -> Any:
    """The tables of a public data set, by name."""
    from pipelines.loaders import completejourney, ml_100k, trivago

    loaders = {"completejourney": completejourney, "trivago": trivago, "ml-100k": ml_100k}
    if dataset not in loaders:
        raise ContractError(
            f"no data set '{dataset}'; there are world, {', '.join(loaders)}, "
            "or your own with: shortlist run --name NAME --events FILE"
        )
    return loaders[dataset].load(settings.data_dir / dataset)


def _event_log(settings: Settings) -> Any:
    from infra.event_log import open_log

    return open_log(Workspace.of(settings), settings.partitions)


def _show(metrics: dict[str, Any]) -> None:
    console.print_json(json.dumps(metrics, default=str))


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "2")
    main()
