"""Lake -> offline store: the batch views of the as-of days, and the stream view's history.

    offline/user_daily.parquet, item_daily.parquet, user_category_daily.parquet   Spark or DuckDB
    offline/user_stream.parquet          what the stream worker would have pushed, as it was known
    offline/user_stream_states.parquet   the fold's last state per user, to start the worker from

Each file is replaced whole, by rename.
"""

import time
from collections.abc import Sequence
from datetime import date
from pathlib import Path

import pyarrow as pa

from features.batch import midnight, rows_duckdb, rows_spark
from features.errors import ContractError
from infra.spark import JAVA_NEEDED, java_version, open_spark
from infra.workspace import Workspace
from pipelines.lake import read_info
from pipelines.offline_file import replaced
from pipelines.stream_history import write_stream_history


def build_features(workspace: Workspace, days: Sequence[date], engine: str = "auto") -> dict:
    """Compute every stored feature as of the given days.

    Args:
        workspace: its lake is read, its offline folder is written.
        days: as-of days; a batch row of day D covers [D - window, D). They should reach from the
            day before the first training query to the day of the last, without gaps.
        engine: spark, duckdb, or auto = Spark where Java 17 or newer is found.

    Returns:
        engine, because, rows by view, seconds by part.

    Raises:
        ContractError: no days, an unknown engine, or an empty lake.
    """
    if not days:
        raise ContractError("no as-of days were given, expected at least one date; name the days")
    engine, because = _choose(engine)
    print(f"batch features by {engine}: {because}")
    positive_types = read_info(workspace.lake).positive_types
    workspace.offline.mkdir(parents=True, exist_ok=True)

    since = time.monotonic()
    rows = {}
    for view, table in _batch_rows(engine, workspace.lake, days, positive_types).items():
        with replaced(workspace.offline / f"{view}.parquet", table.schema) as write:
            write(table)
        rows[view] = table.num_rows
    batch_s = time.monotonic() - since

    since = time.monotonic()
    rows["user_stream"] = write_stream_history(workspace, midnight(min(days)), positive_types)
    seconds = {"batch": round(batch_s, 2), "stream": round(time.monotonic() - since, 2)}
    return {"engine": engine, "because": because, "rows": rows, "seconds": seconds}


def _choose(engine: str) -> tuple[str, str]:
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


def _batch_rows(
    engine: str, lake: Path, days: Sequence[date], positive_types: Sequence[str]
) -> dict[str, pa.Table]:
    if engine == "spark":
        with open_spark() as spark:
            return rows_spark(spark, lake, days, positive_types)
    from infra.duck import open_duckdb

    with open_duckdb() as connection:
        return rows_duckdb(connection, lake, days, positive_types)
