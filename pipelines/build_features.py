"""Lake -> offline store: the batch views at the asked moments, and the stream view's history.

    offline/<batch view>/<day>.parquet   Spark or DuckDB; only what is missing or stale is computed
    offline/position_curve.parquet       what COEC features divide by, one curve a week
    offline/user_stream.parquet          what the stream worker would have pushed, as it was known
    offline/user_stream_states.parquet   the fold's last state per user, to start the worker from

Each file is replaced whole, by rename.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import date, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa

from features.batch import Wanted, midnight, rows_duckdb, rows_spark, schema_of
from features.definitions import BATCH_LAG, BATCH_VIEWS, HOUR, HOURLY_LAG, VIEWS
from features.errors import ContractError
from infra.spark import JAVA_NEEDED, LOCAL_MASTER, java_version, open_spark
from infra.workspace import Workspace
from pipelines.increments import Sources, increment, store
from pipelines.lake import read_info
from pipelines.position_curves import curves_of
from pipelines.stamps import lake_stamps
from pipelines.stream_history import write_stream_history


def build_features(
    workspace: Workspace,
    days: Sequence[date],
    engine: str = "auto",
    until: datetime | None = None,
    master: str = LOCAL_MASTER,
    hourly: bool = True,
) -> dict[str, Any]:
    """Compute every stored feature as of the given days, and of the hours since the first of them.

    Args:
        workspace: its lake is read, its offline folder is written.
        days: as-of days; a batch row of day D covers [D - window, D). They should reach from the
            day before the first training query to the day of the last, without gaps.
        engine: spark, duckdb, or auto = Spark where Java 17 or newer is found.
        until: hours known by then are computed; None = when the last day is known.
        master: of Spark; another one than the local one is a cluster that sees the same files.
        hourly: False = no rows of hours.

    Returns:
        engine, because, rows by view, seconds by part, computed: view -> moments by reason.

    Raises:
        ContractError: no days, an unknown engine, or an empty lake.
    """
    if not days:
        raise ContractError("no as-of days were given, expected at least one date; name the days")
    engine, because = choose_engine(engine)
    print(f"batch features by {engine}: {because}")
    since = time.monotonic()
    until = until or midnight(max(days)) + BATCH_LAG
    hours = hours_between(midnight(min(days)), until) if hourly else []
    batch = build_batch(workspace, days, hours, engine, master)
    batch_s = time.monotonic() - since
    _tell(batch)

    since = time.monotonic()
    types = read_info(workspace.lake).positive_types
    batch["rows"]["user_stream"] = write_stream_history(workspace, midnight(min(days)), types)
    seconds = {"batch": round(batch_s, 2), "stream": round(time.monotonic() - since, 2)}
    return {"engine": engine, "because": because, **batch, "seconds": seconds}


def build_batch(
    workspace: Workspace,
    days: Sequence[date],
    hours: Sequence[datetime],
    engine: str,
    master: str = LOCAL_MASTER,
) -> dict[str, Any]:
    """Compute what is missing or stale of the batch views; says what, and why.

    Args:
        workspace: as in `build_features`.
        days: of the daily views; empty = leave them alone.
        hours: of the hourly views, likewise.
        engine: spark or duckdb.
        master: as in `build_features`.

    Returns:
        rows: view -> rows computed now; computed: view -> moments by reason; dropped: view ->
        moments that were stale and not asked for.
    """
    types = read_info(workspace.lake).positive_types
    asked = {HOUR: list(hours)}
    moments = {v: asked.get(VIEWS[v].every, [midnight(day) for day in days]) for v in BATCH_VIEWS}
    moments = {view: asked_for for view, asked_for in moments.items() if asked_for}
    sources = Sources(workspace.lake, lake_stamps(workspace.lake))
    todo = {
        view: increment(workspace.offline, view, asked_for, types, sources)
        for view, asked_for in moments.items()
    }
    stale_hours = sorted(m for v, i in todo.items() if VIEWS[v].every == HOUR for m in i.compute)
    stale_days = {m.date() for v, i in todo.items() if VIEWS[v].every != HOUR for m in i.compute}
    rows: dict[str, pa.Table] = {}
    if stale_days or stale_hours:
        wanted = Wanted(types, sorted(stale_days), stale_hours)
        wanted = replace(wanted, curves=curves_of(workspace, wanted.weeks))
        rows = _rows(engine, workspace.lake, wanted, master)
    for view, part in todo.items():
        table = rows.get(view, schema_of(view).empty_table())
        store(workspace.offline, part, table)
    return {
        "rows": {view: len(rows.get(view, ())) for view in todo},
        "computed": {view: part.because for view, part in todo.items()},
        "dropped": {view: part.dropped for view, part in todo.items() if part.dropped},
    }


def hours_between(first: datetime, until: datetime) -> list[datetime]:
    """The full hours from `first` on whose rows are known at `until`."""
    count = (until - HOURLY_LAG - first) // HOUR
    return [first + step * HOUR for step in range(count + 1)]


def _tell(batch: Mapping[str, Any]) -> None:
    for view, because in batch["computed"].items():
        told = [f"{count} {why}" for why, count in because.items()]
        told += [f"{n} dropped as stale"] if (n := batch["dropped"].get(view)) else []
        print(f"  {view}: {', '.join(told) or 'nothing to do'}")


def choose_engine(engine: str) -> tuple[str, str]:
    """What `auto` means on this machine, and why; ContractError for an unknown engine."""
    if engine not in ("auto", "spark", "duckdb"):
        raise ContractError(f"engine is {engine!r}, expected auto, spark or duckdb")
    if engine != "auto":
        return engine, "as asked"
    java = java_version()
    if java is None:
        return "duckdb", "no Java found; same values, one machine"
    if java < JAVA_NEEDED:
        return "duckdb", f"Java {java} found, Spark needs {JAVA_NEEDED}; same values, one machine"
    return "spark", f"Java {java} found"


def _rows(engine: str, lake: Path, wanted: Wanted, master: str) -> dict[str, pa.Table]:
    if engine == "spark":
        with open_spark(master) as spark:
            return rows_spark(spark, lake, wanted)
    from infra.duck import open_duckdb

    with open_duckdb() as connection:
        return rows_duckdb(connection, lake, wanted)
