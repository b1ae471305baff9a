"""`shortlist bench`: what stages cost, and whether what must be equal is."""

from pathlib import Path
from typing import Annotated

import typer

from infra.reports import report
from pipelines.steps import console

Dataset = Annotated[str, typer.Option(help="Data set: world, completejourney, or your own name.")]
Seed = Annotated[int, typer.Option(help="Seed of everything random in the step.")]

bench_app = typer.Typer(
    help="Time each stage of a request on the current bundle, fast way beside plain way.",
    invoke_without_command=True,
    epilog="Examples: [bold]shortlist bench --dataset world[/], [bold]shortlist bench pit[/], "
    "[bold]shortlist bench parity[/], [bold]shortlist bench online[/]",
)


def register(app: typer.Typer) -> None:
    """Add `bench` and what belongs to it to the command line."""
    app.add_typer(bench_app, name="bench")


@bench_app.callback()
def bench(context: typer.Context, dataset: Dataset = "world", seed: Seed = 0) -> None:
    """Time each stage of a request on the current bundle, fast way beside plain way, in one process."""
    from pipelines.bench import run_bench
    from pipelines.cli import _workspace

    if context.invoked_subcommand:
        return
    _, workspace = _workspace(dataset)
    with report(workspace.reports, "bench", [seed]) as metrics:
        metrics.update(run_bench(workspace, seed))


@bench_app.command(epilog="Example: [bold]shortlist bench parity --dataset completejourney[/]")
def parity(
    dataset: Annotated[
        list[str] | None, typer.Option(help="Data sets; world and completejourney if not given.")
    ] = None,
    days: Annotated[int, typer.Option(min=1, help="As-of days, the newest of the data.")] = 3,
    seed: Seed = 0,
) -> None:
    """Compute the same features by Spark, DuckDB and the fold, and compare every value; 1 = some differ."""
    from pipelines.cli import _workspace
    from pipelines.parity import compare, is_equal, summed

    workspaces = [_workspace(name)[1] for name in dataset or ("world", "completejourney")]
    with report(workspaces[0].reports, "parity", [seed]) as metrics:
        for workspace in workspaces:
            metrics[workspace.name] = compare(workspace, days, seed)
    console.print(summed(metrics))
    if not all(is_equal(compared) for compared in metrics.values()):
        raise typer.Exit(1)


@bench_app.command(epilog="Example: [bold]shortlist bench pit --labels 1000000 --rows 10000000[/]")
def pit(
    labels: Annotated[int, typer.Option(min=1, help="Label rows.")] = 1_000_000,
    rows: Annotated[int, typer.Option(min=1, help="Feature rows, daily snapshots.")] = 10_000_000,
    seed: Seed = 0,
    folder: Annotated[
        Path | None, typer.Option(help="Where the made tables lie meanwhile; removed at the end.")
    ] = None,
) -> None:
    """The point-in-time join beside a hand-written ASOF join with the same rule: time, rows, values."""
    from pipelines.bench_pit import run_bench
    from pipelines.cli import _workspace

    _, workspace = _workspace("world")
    with report(workspace.reports, "pit", [seed]) as metrics:
        metrics.update(run_bench(labels, rows, seed, folder))
    console.print(metrics)


@bench_app.command(epilog="Example: [bold]shortlist bench online --reads 2000[/]")
def online(
    dataset: Dataset = "world",
    reads: Annotated[int, typer.Option(min=1, help="Reads of a user, by each way.")] = 2_000,
    pairs: Annotated[int, typer.Option(min=1, help="Random (item, feature) pairs.")] = 10_000,
    seed: Seed = 0,
) -> None:
    """One user's online read on SQLite and Redis, idle and beside writers; item matrix against Feast.

    Ends with 1 when a pair differs.
    """
    from pipelines.bench_online import BACKENDS, online_speed
    from pipelines.cli import _workspace

    _, workspace = _workspace(dataset)
    with report(workspace.reports, "online", [seed]) as metrics:
        metrics.update(online_speed(workspace, reads=reads, pairs=pairs, seed=seed))
    console.print(metrics)
    if any(metrics[backend]["pairs_different"] for backend in BACKENDS):
        raise typer.Exit(1)
