"""`shortlist`'s commands for local services, and the smoke test of any stack."""

import time
from enum import StrEnum
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from pipelines.steps import console

NOTHING_RUNS = "Nothing runs. Start it with: shortlist up"


class StackScale(StrEnum):
    """How much shop, and how much training."""

    tiny = "tiny"
    small = "small"
    full = "full"


def register(app: typer.Typer) -> None:
    """Add this file's commands to the command line, in the order in which --help lists them."""
    app.command(epilog="Example: [bold]shortlist up --scale tiny --rate 5[/]")(up)
    app.command(epilog="Example: [bold]shortlist down[/]   or   [bold]shortlist down --wipe[/]")(
        down
    )
    app.command(epilog="Example: [bold]shortlist status[/]")(status)
    app.command(epilog="Example: [bold]shortlist logs stream --follow[/]")(logs)
    app.command(epilog="Example: [bold]shortlist smoke --url http://127.0.0.1:8000[/]")(smoke)


def up(
    scale: Annotated[
        StackScale, typer.Option(help="How much shop and training: tiny, small, full.")
    ] = StackScale.small,
    seed: Annotated[int, typer.Option(help="Seed of the simulated shop.")] = 0,
    rate: Annotated[
        float, typer.Option(min=0, help="Visits a second of the simulated users.")
    ] = 2.0,
    no_users: Annotated[bool, typer.Option("--no-users", help="Nobody visits by himself.")] = False,
    port: Annotated[int | None, typer.Option(help="Port of the API and the page.")] = None,
    wait: Annotated[
        bool, typer.Option("--wait/--no-wait", help="Wait for the first trained bundle.")
    ] = True,
    wait_seconds: Annotated[float, typer.Option(help="Longest wait for it.")] = 1800.0,
) -> None:
    """The whole stack without containers: Kafka, Redis, MLflow, the API, its workers, and users who visit.

    Serves the simulated shop (data set world) at this machine's time, and keeps all that it needs in
    <home>/services, apart from what `demo` and `run` keep. What was there goes on.
    """
    from pipelines.cli import _workspace
    from pipelines.local.places import address_of, env_file
    from pipelines.local.up import up as start

    settings, _ = _workspace("world")
    if port:
        settings = settings.model_copy(update={"port": port})
    seconds = start(
        settings, scale.value, seed, 0.0 if no_users else rate, wait_seconds if wait else None
    )
    ready = f"{max(seconds.values()):.0f} s"
    what = "a trained bundle is served" if wait else "all parts are well"
    console.print(f"\n[bold green]Up:[/] {what} after {ready}")
    console.print(f"  the page    {address_of(settings)}/")
    console.print(f"  MLflow      {settings.mlflow}/")
    console.print("  how it is   shortlist status      shortlist logs [NAME] --follow")
    console.print(f"  try it all  shortlist smoke --url {address_of(settings)}")
    console.print(
        f"  other commands on it: [bold](set -a; . {env_file(settings)}; shortlist ...)[/]"
    )
    console.print("  stop        shortlist down        (--wipe also deletes its data)")


def down(
    wipe: Annotated[
        bool, typer.Option("--wipe", help="Also delete its data: log, features, tracking, lake.")
    ] = False,
) -> None:
    """Stop the local services, in order; the data stay unless --wipe says otherwise."""
    from pipelines.cli import _workspace
    from pipelines.local.status import down as stop
    from pipelines.local.status import kept
    from pipelines.local.status import wipe as delete

    settings, _ = _workspace("world")
    folder = kept(settings) if wipe else None  # refused before anything is stopped
    since = time.monotonic()
    ran, lost = stop(settings)
    if lost:
        console.print(f"[yellow]ended without their supervisor:[/] {', '.join(lost)}")
    console.print(f"stopped in {time.monotonic() - since:.1f} s" if ran else "nothing was running")
    if folder is not None:
        console.print(f"deleting {folder} (Kafka, Redis, MLflow, spool, data set, logs)")
        delete(folder)


def status() -> None:
    """Each part of the local services: process, port, memory, and how it is when asked now."""
    from pipelines.cli import _workspace
    from pipelines.local.status import Standing
    from pipelines.local.status import status as look

    settings, _ = _workspace("world")
    found = look(settings)
    if not found:
        console.print(NOTHING_RUNS)
        raise typer.Exit(1)
    table = Table("", "state", "pid", "port", "up", "MiB", "health", box=None)

    def row(part: Standing) -> list[str]:
        colour = "green" if part.is_well else "red"
        return [
            part.name,
            part.state.lower(),
            str(part.pid or ""),
            str(part.port or ""),
            "" if part.up_s is None else _duration(part.up_s),
            "" if part.memory_mib is None else f"{part.memory_mib:.0f}",
            f"[{colour}]{escape(part.health)}[/]",
        ]

    for part in found:
        table.add_row(*row(part))
    console.print(table)
    if not all(part.is_well for part in found):
        raise typer.Exit(1)


def logs(
    name: Annotated[str | None, typer.Argument(help="One part; all when not given.")] = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until Ctrl-C.")] = False,
    lines: Annotated[int, typer.Option(min=0, help="Lines of each log.")] = 20,
) -> None:
    """The end of the local services' logs."""
    from pipelines.cli import _workspace
    from pipelines.local.status import show_logs

    settings, _ = _workspace("world")
    show_logs(settings, name, lines, follow)


def smoke(
    url: Annotated[str | None, typer.Option(help="Where the API answers.")] = None,
    mlflow: Annotated[str | None, typer.Option(help="Where MLflow answers.")] = None,
    prometheus: Annotated[str | None, typer.Option(help="Where Prometheus answers.")] = None,
    stream: Annotated[
        str | None, typer.Option(help="Stream worker's metrics, where there is no Prometheus.")
    ] = None,
    wait: Annotated[
        float, typer.Option(help="Longest wait for the first trained bundle, seconds.")
    ] = 600.0,
    users: Annotated[
        bool, typer.Option("--users/--no-users", help="Whether simulated users should be visiting.")
    ] = True,
) -> None:
    """Try a running stack as a user would, and say for each check what was seen.

    Works on `serve`, on `up` and on compose. What a mode does not have is named as skipped; what is
    named by an option has to be there.
    """
    from infra.reports import report
    from pipelines.cli import _workspace
    from pipelines.local.places import address_of
    from pipelines.local.status import as_running
    from pipelines.smoke.run import run, show
    from pipelines.smoke.stack import Given, Stack

    settings, workspace = _workspace("world")
    settings = as_running(settings, url)
    address = (url or address_of(settings)).rstrip("/")
    stack = Stack(Given(address, mlflow, prometheus, stream, wait, users), settings)
    with report(workspace.reports, "smoke", []) as metrics:
        results = run(stack)
        metrics.update({result.name: result.told() for result in results})
    show(results)
    if any(result.ok is False for result in results):
        raise typer.Exit(1)


def _duration(seconds: float) -> str:
    """Hours and minutes, or minutes and seconds.

    Examples:
        >>> _duration(59.4), _duration(3725)
        ('0:59', '1 h 02')
    """
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes}:{rest:02d}" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d}"
