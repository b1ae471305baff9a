"""`shortlist features`: compute them, and say where one comes from and who reads it."""

from datetime import date, datetime, timedelta
from typing import Annotated, Any

import typer

from infra.reports import report
from infra.spark import LOCAL_MASTER
from pipelines.lock import measured
from pipelines.steps import console

Dataset = Annotated[str, typer.Option(help="Data set: world, completejourney, or your own name.")]

features_app = typer.Typer(
    help="Compute the batch and streaming features that are missing or stale, and load the online store.",
    invoke_without_command=True,
    epilog="Examples: [bold]shortlist features --engine duckdb[/], "
    "[bold]shortlist features --as-of 2026-03-01[/], "
    "[bold]shortlist features lineage item_coec_30d[/]",
)


def register(app: typer.Typer) -> None:
    """Add `features` and `features lineage` to the command line."""
    app.add_typer(features_app, name="features")


@features_app.callback()
def features(
    context: typer.Context,
    dataset: Dataset = "world",
    engine: Annotated[
        str,
        typer.Option(help="auto takes Spark where Java 17 is there, else DuckDB; spark; duckdb."),
    ] = "auto",
    as_of: Annotated[
        datetime | None,
        typer.Option(formats=["%Y-%m-%d"], help="Only this day's batch rows; nothing goes online."),
    ] = None,
    master: Annotated[
        str, typer.Option(help="Spark's master; a cluster must see the same files.")
    ] = LOCAL_MASTER,
) -> None:
    """Compute the batch and streaming features that are missing or stale, and load the online store."""
    from pipelines.cli import _workspace
    from pipelines.run import make_features
    from pipelines.steps import Steps

    if context.invoked_subcommand:
        return
    _, workspace = _workspace(dataset)
    with measured(workspace, "features", []) as metrics:
        if as_of is None:
            metrics.update(make_features(workspace, engine, Steps(), master=master))
        else:
            metrics.update(_one_day(workspace, as_of.date(), engine, master))
    console.print(metrics)


def _one_day(workspace: Any, day: date, engine: str, master: str) -> dict[str, Any]:
    from features.batch import midnight
    from pipelines.build_features import build_batch, choose_engine, hours_between

    engine, because = choose_engine(engine)
    hours = hours_between(midnight(day), midnight(day + timedelta(days=1)))
    return {"engine": engine, "because": because} | build_batch(
        workspace, [day], hours, engine, master
    )


@features_app.command(epilog="Example: [bold]shortlist features lineage item_trend_7d[/]")
def lineage(
    name: Annotated[str, typer.Argument(help="A feature, or the column of one of its versions.")],
    dataset: Dataset = "world",
) -> None:
    """One feature: its versions, source, window, code, who names it, and which bundles read it."""
    from pipelines.cli import _show, _workspace
    from pipelines.lineage import lineage as trace

    _, workspace = _workspace(dataset)
    with report(workspace.reports, "lineage", []) as metrics:
        metrics.update(trace(workspace, name))
    _show(metrics)
