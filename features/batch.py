"""Batch features: a row per entity and as-of day, by Spark or by DuckDB, from the same SQL.

Spark is the engine at scale; DuckDB referees it and stands in where there is no Java. Both read
the lake themselves and answer with Arrow tables of one schema, so nothing behind them can tell
which engine ran.
"""

from collections.abc import Sequence
from datetime import UTC, date, datetime, time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from features import batch_sql
from features.definitions import BATCH_LAG, VIEWS, of_view
from features.schema import TIMESTAMP

EPOCH = date(1970, 1, 1)

AS_OF, CREATED = "as_of", "created_at"
"""When a row's values hold, and from when on it is treated as known."""

_SQL = {
    "user_daily": batch_sql.user_daily,
    "item_daily": batch_sql.item_daily,
    "user_category_daily": batch_sql.user_category_daily,
}


def schema_of(view: str) -> pa.Schema:
    """Columns of a batch view's table: entity keys, as_of, created_at, features in table order."""
    return pa.schema(
        [(key, pa.string()) for key in VIEWS[view].entity]
        + [(AS_OF, TIMESTAMP), (CREATED, TIMESTAMP)]
        + [(f.name, pa.int64() if f.dtype == "int" else pa.float64()) for f in of_view(view)]
    )


def rows_duckdb(
    connection: Any, lake: Path, days: Sequence[date], positive_types: Sequence[str]
) -> dict[str, pa.Table]:
    """The batch views by DuckDB.

    Args:
        connection: an open DuckDB connection of its own; temporary views are made in it.
        lake: the lake's folder (see pipelines/lake.py).
        days: as-of days; a row of day D covers [D - window, D) in UTC.
        positive_types: event types that count as positives.

    Returns:
        View name -> table with the schema of `schema_of`, sorted by entity and as_of.
    """
    connection.execute("SET TimeZone = 'UTC'")
    connection.execute("CREATE OR REPLACE TEMP MACRO unix_micros(t) AS epoch_us(t)")
    connection.execute("CREATE OR REPLACE TEMP MACRO unix_date(d) AS d - DATE '1970-01-01'")
    events = (lake / "events" / "*" / "part.parquet").as_posix()
    sources = {
        "events": f"read_parquet('{_quoted(events)}', hive_partitioning = true)",
        "items": f"read_parquet('{_quoted((lake / 'items.parquet').as_posix())}')",
        "users": f"read_parquet('{_quoted((lake / 'users.parquet').as_posix())}')",
    }
    for name, source in sources.items():
        connection.execute(f"CREATE OR REPLACE TEMP VIEW {name} AS SELECT * FROM {source}")
    # Facts are read by every view: computed once. The rest is small and stays a view.
    for name, text in _parts(days, positive_types).items():
        kind = "TABLE" if name == "facts" else "VIEW"
        connection.execute(f"CREATE OR REPLACE TEMP {kind} {name} AS {text}")
    return {
        view: _finished(view, connection.sql(sql()).to_arrow_table()) for view, sql in _SQL.items()
    }


def rows_spark(
    spark: Any, lake: Path, days: Sequence[date], positive_types: Sequence[str]
) -> dict[str, pa.Table]:
    """The batch views by Spark; the same values as `rows_duckdb`.

    Args:
        spark: an open session with its time zone at UTC.
        lake: as in `rows_duckdb`.
        days: as in `rows_duckdb`.
        positive_types: as in `rows_duckdb`.

    Interview: Why compute features twice, with two engines?
        They are not computed twice in production: one SQL text runs on Spark where the data is
        large, and the same text on DuckDB is a referee that needs no cluster. Equal values from
        two engines with separate readers, planners and time handling catch what a unit test of
        either cannot: a time zone, an integer division, a null that was dropped.
        Trade-off: the SQL is limited to what both understand.
        Shown by: tests/features/test_batch.py::test_spark_and_duckdb_agree_on_every_value
    """
    sources = {
        "events": lake / "events",
        "items": lake / "items.parquet",
        "users": lake / "users.parquet",
    }
    for name, path in sources.items():
        spark.read.parquet(str(path)).createOrReplaceTempView(name)
    for name, text in _parts(days, positive_types).items():
        frame = spark.sql(text)
        (frame.cache() if name == "facts" else frame).createOrReplaceTempView(name)
    try:
        return {view: _finished(view, spark.sql(sql()).toArrow()) for view, sql in _SQL.items()}
    finally:
        spark.catalog.uncacheTable("facts")


def _parts(days: Sequence[date], positive_types: Sequence[str]) -> dict[str, str]:
    """What the view queries read, in the order in which it can be made."""
    numbers = ", ".join(f"({(day - EPOCH).days})" for day in sorted(set(days)))
    return {
        "days": f"SELECT * FROM (VALUES {numbers}) AS t(day)",
        "facts": batch_sql.facts(positive_types),
        "known_users": batch_sql.known("users", "user_id"),
        "known_items": batch_sql.known("items", "item_id"),
        "sessions": batch_sql.SESSIONS,
    }


def _finished(view: str, rows: pa.Table) -> pa.Table:
    """Turn the day number into the row's two times, fix the schema, sort."""
    day = rows["day"].to_numpy().astype(np.int64)
    midnight = day * batch_sql.DAY_US
    lag_us = int(BATCH_LAG.total_seconds() * 1e6)
    times = {AS_OF: midnight, CREATED: midnight + lag_us}
    columns = [
        pa.array(times[field.name], TIMESTAMP)
        if field.name in times
        else rows[field.name].cast(field.type)
        for field in schema_of(view)
    ]
    keys = [*VIEWS[view].entity, AS_OF]
    return pa.table(columns, schema=schema_of(view)).sort_by([(k, "ascending") for k in keys])


def _quoted(path: str) -> str:
    return path.replace("'", "''")


def midnight(day: date) -> datetime:
    """00:00 UTC of the day, where its row is stamped."""
    return datetime.combine(day, time(), tzinfo=UTC)
