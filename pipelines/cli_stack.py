"""`shortlist`'s commands about the running stack; the line's own are in cli.py."""

import os
from enum import StrEnum
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

DatasetOfStack = Annotated[
    str | None, typer.Option("--dataset", help="Data set; SHORTLIST_DATASET when not given.")
]


class StreamSource(StrEnum):
    """What the stream's online rows can be made of again."""

    states = "states"
    log = "log"
    lake = "lake"


def register(app: typer.Typer) -> None:
    """Add this file's commands to the command line, in the order in which --help lists them."""
    cli_local.register(app)
    app.command(epilog="Example: [bold]shortlist rebuild[/]")(rebuild)
    app.command(epilog="Example: [bold]shortlist recount --wait 60[/]")(recount)
    app.command(epilog="Example: [bold]shortlist bootstrap --scale tiny --seed 7[/]")(bootstrap)
    app.command(
        epilog="Examples: [bold]shortlist monitor[/], [bold]shortlist monitor --once[/] (cron, CronJob)"
    )(monitor)
    app.command(
        epilog="Example: [bold]shortlist users --url http://127.0.0.1:8000 --rate 2 --seconds 60[/]"
    )(users)
    app.command(epilog="Example: [bold]shortlist load --rate 100 --seconds 30[/]")(load)
    app.command(epilog="Examples: [bold]shortlist token[/], [bold]shortlist token --rotate[/]")(
        token
    )


def bootstrap(
    scale: Annotated[
        str | None, typer.Option(help="tiny, small or full; SHORTLIST_SCALE when not given.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of the simulated shop.")] = 0,
    dataset: DatasetOfStack = None,
) -> None:
    """Make what the API needs for its first answer: a simulated past up to now, and a popular list.

    Does nothing where a bundle is promoted already, and mends what a broken run left. The monitor
    trains the first model.
    """
    from infra.clock import real_clock
    from infra.reports import report
    from models.versions import current
    from pipelines.bootstrap import bootstrap as make
    from pipelines.cli import _workspace
    from pipelines.steps import Steps, console

    settings, workspace = _workspace(_named(dataset))
    if (there := current(workspace.bundles)) is not None:
        console.print(f"bundle {there} is promoted already; nothing to do")
        return
    steps = Steps()
    with report(workspace.reports, "bootstrap", [seed]) as metrics:
        metrics.update(make(workspace, scale or settings.scale, seed, real_clock(), steps))
        metrics["seconds_by_step"] = steps.seconds
    console.print(f"bundle {metrics['bundle']} answers by popularity; the monitor trains the next")


def monitor(
    once: Annotated[
        bool, typer.Option("--once", help="One round; exit code 1 if a part of it failed.")
    ] = False,
    dataset: DatasetOfStack = None,
) -> None:
    """Keep features fresh, train the first model, retrain on drift, record it; until Ctrl-C.

    Looks every SHORTLIST_MONITOR_EVERY_S seconds. Logs a JSON line for each thing it does and why;
    Prometheus metrics on SHORTLIST_METRICS_PORT.
    """
    from pipelines.cli import _workspace
    from pipelines.monitor import watch

    settings, _ = _workspace(_named(dataset))
    if not watch(settings, once):
        raise typer.Exit(1)


def users(
    url: Annotated[str, typer.Option(help="The API, without a path.")] = "http://127.0.0.1:8000",
    rate: Annotated[float, typer.Option(help="Slates per second, of all users together.")] = 1.0,
    seconds: Annotated[
        float | None, typer.Option(help="End after this long; never when not given.")
    ] = None,
    seed: Annotated[
        int | None, typer.Option(help="Seed of who comes; another one at each start by default.")
    ] = None,
) -> None:
    """Let the simulated shop's users visit a running API in real time, until Ctrl-C.

    They wait until it is ready, stay away while it is gone, and come back. Every ten seconds a line
    says how many slates, clicks per slate, from which rung, and how many errors.
    """
    import signal
    import threading
    import time

    from pipelines.cli import _workspace
    from pipelines.steps import console
    from pipelines.world.generate import open_world
    from pipelines.world.live import live

    _, workspace = _workspace("world")
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    seed = int(time.time()) if seed is None else seed
    world = open_world(workspace.home)
    tally = live(world, url, rate=rate, seed=seed, stop=stop, seconds=seconds)
    console.print(f"in all {tally.slates} slates, {tally.clicks} clicks, "
                  f"{tally.errors.total()} errors, {tally.skipped} turned round")  # fmt: skip


def rebuild(
    dataset: Dataset = None,
    empty: Annotated[
        bool, typer.Option("--empty", help="First forget every row; wrong but newer ones go too.")
    ] = False,
    source: Annotated[
        StreamSource, typer.Option("--from", help="What the stream's rows are made of.")
    ] = StreamSource.states,
) -> None:
    """Fill the online store again: batch rows from the offline store, the stream's from its states.

    Or from the whole log, or from the lake. The API and the worker may run meanwhile.
    """
    from pipelines.rebuild import rebuild as fill
    from pipelines.rebuild import rebuilt_as_of

    settings, workspace = _places(dataset)
    with report(workspace.reports, "rebuild", []) as metrics:
        now, stream = rebuilt_as_of(workspace), _replay(source, settings, workspace)
        found = fill(workspace, now, settings.partitions, empty=empty, stream=stream)
        metrics.update(found, as_of=now.isoformat())
    _show(metrics)


def _replay(source: StreamSource, settings: Any, workspace: Any) -> Any:
    """What `rebuild` calls for the stream's rows; None = its own way, from the states."""
    from contextlib import closing

    from infra.event_log import open_log
    from pipelines.replay import from_lake, from_log
    from pipelines.stream import positive_types_of

    def log(online: Any) -> int:
        with closing(open_log(workspace, settings.partitions)) as opened:
            return from_log(workspace, online, opened, positive_types_of(workspace))

    def lake(online: Any) -> int:
        return from_lake(workspace, online, settings.partitions, positive_types_of(workspace))

    return {StreamSource.states: None, StreamSource.log: log, StreamSource.lake: lake}[source]


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


def _named(dataset: str | None) -> str:
    return dataset or os.environ.get("SHORTLIST_DATASET", "world")


def load(
    url: Annotated[
        str | None, typer.Option(help="API to load; a stack of its own, on a copy, when not given.")
    ] = None,
    rate: Annotated[float, typer.Option(help="Requests per second, reads and clicks.")] = 100.0,
    seconds: Annotated[float, typer.Option(help="How long, after the warm-up.")] = 30.0,
    events_share: Annotated[float, typer.Option(help="Part of the requests: clicks.")] = 0.2,
    users: Annotated[
        int | None, typer.Option(help="Different users; those known and a few new by default.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of the arrivals and of who arrives.")] = 0,
    timeout: Annotated[float, typer.Option(help="Seconds until a request is given up.")] = 5.0,
    own_host: Annotated[
        bool, typer.Option("--i-own-this-host", help="Allow private addresses, not only loopback.")
    ] = False,
    dataset: Annotated[str, typer.Option(help="Data set of the stack of its own.")] = "world",
) -> None:
    """Open-loop load on the API: latency from the intended send time, time by stage, CPU by request.

    The clicks are real events for an API named with --url: do not load what you learn from.
    """
    from pipelines.cli import _workspace
    from pipelines.load.command import run
    from pipelines.load.run import Asked

    settings, workspace = _workspace(dataset)
    asked = Asked(rate, seconds, events_share, users, seed, timeout)
    if run(settings, workspace, asked, url, own_host)["errors"]:
        raise typer.Exit(1)


def token(
    rotate: Annotated[bool, typer.Option(help="Replace it; the old one is dead at once.")] = False,
) -> None:
    """Print the token of the admin port; made where there is none yet."""
    from infra.admin_token import ensure, token_file
    from infra.admin_token import rotate as replace
    from pipelines.cli import _workspace

    path = token_file(_workspace("world")[0])
    print(replace(path) if rotate else ensure(path))
