"""Batch features: a row per entity and moment, by Spark or by DuckDB, from the same SQL.

Spark is the engine at scale; DuckDB referees it and stands in where there is no Java. Both read
the lake themselves and answer with Arrow tables of one schema, so nothing behind them can tell
which engine ran.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from features import batch_sql
from features.definitions import BATCH_WINDOW_DAYS, HOUR, VIEWS, Feature, stored_of
from features.position_curve import ESTIMATOR, FLAT, Curve, week_of
from features.schema import TIMESTAMP

EPOCH = date(1970, 1, 1)

AS_OF, CREATED = "as_of", "created_at"
"""When a row's values hold, and from when on it is treated as known."""

_SQL: Mapping[str, Callable[[], str]] = {
    "user_daily": batch_sql.user_daily,
    "item_daily": batch_sql.item_daily,
    "item_hourly": batch_sql.item_hourly,
    "user_category_daily": batch_sql.user_category_daily,
}


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which rows to compute, and from what."""

    positive_types: Sequence[str]  # event types that count as positives
    days: Sequence[date] = ()  # a row of day D covers [D - window, D) in UTC
    hours: Sequence[datetime] = ()  # full hours, UTC; a row of hour H covers [H - window, H)
    curves: Mapping[int, Curve] = field(default_factory=dict)  # week -> curve; FLAT where none
    seen_before: datetime | None = None  # as if nothing had arrived since; None = all that is there

    @property
    def views(self) -> tuple[str, ...]:
        """The views that have moments to be computed for."""
        asked = {timedelta(days=1): self.days, HOUR: self.hours}
        return tuple(view for view in _SQL if asked[VIEWS[view].every])

    @property
    def from_day(self) -> int:
        """The first day, since 1970, of which any event is needed."""
        firsts = [(min(self.days) - EPOCH).days - BATCH_WINDOW_DAYS] if self.days else []
        if self.hours:
            back = min(self.hours) - batch_sql.HOURS_BACK * HOUR
            firsts.append((back.astimezone(UTC).date() - EPOCH).days)
        return min(firsts)

    @property
    def weeks(self) -> range:
        """Weeks whose impressions are needed."""
        lasts = [*self.days, *(hour.astimezone(UTC).date() for hour in self.hours)]
        return range(week_of(EPOCH + timedelta(days=self.from_day)), week_of(max(lasts)) + 1)


def schema_of(view: str) -> pa.Schema:
    """Columns of a batch view's table: entity keys, as_of, created_at, what is stored, in order."""
    return pa.schema(
        [(key, pa.string()) for key in VIEWS[view].entity]
        + [(AS_OF, TIMESTAMP), (CREATED, TIMESTAMP)]
        + [(f.column, arrow_type(f)) for f in stored_of(view)]
    )


def files_of(offline: Path, view: str) -> Path:
    """Where a view's rows lie: a pattern of one file a day for batch views, else one file."""
    if VIEWS[view].source == "batch":
        return offline / view / "*.parquet"
    return offline / f"{view}.parquet"


def arrow_type(feature: Feature) -> pa.DataType:
    """How a feature is stored."""
    return pa.int64() if feature.dtype == "int" else pa.float64()


def rows_duckdb(connection: Any, lake: Path, wanted: Wanted) -> dict[str, pa.Table]:
    """The batch views by DuckDB.

    Args:
        connection: an open DuckDB connection of its own; temporary views are made in it.
        lake: the lake's folder (see pipelines/lake.py).
        wanted: at least one moment.

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
        text = f"SELECT * FROM {source} WHERE {_seen(name, wanted)}"
        connection.execute(f"CREATE OR REPLACE TEMP VIEW {name} AS {text}")
    # What several views read is computed once. The rest is small and stays a view.
    for name, text in _parts(wanted).items():
        kind = "TABLE" if name in ("levels", "facts") else "VIEW"
        connection.execute(f"CREATE OR REPLACE TEMP {kind} {name} AS {text}")
    return {
        view: _finished(view, connection.sql(_SQL[view]()).to_arrow_table())
        for view in wanted.views
    }


def rows_spark(spark: Any, lake: Path, wanted: Wanted) -> dict[str, pa.Table]:
    """The batch views by Spark; the same values as `rows_duckdb`.

    Args:
        spark: an open session with its time zone at UTC.
        lake: as in `rows_duckdb`.
        wanted: as in `rows_duckdb`.

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
        spark.read.parquet(str(path)).where(_seen(name, wanted)).createOrReplaceTempView(name)
    for name, text in _parts(wanted).items():
        frame = spark.sql(text)
        (frame.cache() if name == "facts" else frame).createOrReplaceTempView(name)
    try:
        # By files, as a cluster would: collected, millions of rows would have to fit into one heap.
        with TemporaryDirectory(prefix=".rows-", dir=lake.parent) as folder:
            found = {}
            for view in wanted.views:
                spark.sql(_SQL[view]()).write.parquet(f"{folder}/{view}")
                found[view] = _finished(view, pq.read_table(f"{folder}/{view}"))
            return found
    finally:
        spark.catalog.uncacheTable("facts")


def fingerprint(view: str, positive_types: Sequence[str]) -> str:
    """Changes with whatever a row of the view is computed by: SQL, constants, definitions.

    What it is computed from, the lake and the curves, is not in it.
    """
    anchor = Wanted(positive_types, days=[EPOCH], hours=[midnight(EPOCH)])
    parts = {name: text for name, text in _parts(anchor).items() if name not in ("curves", "weeks")}
    told = repr((schema_of(view).to_string(), VIEWS[view].lag, ESTIMATOR, parts, _SQL[view]()))
    return hashlib.sha256(told.encode()).hexdigest()[:16]


def _parts(wanted: Wanted) -> dict[str, str]:
    """What the view queries read, in the order in which it can be made."""
    hours = (int(hour.timestamp()) // 3600 for hour in wanted.hours)
    return {
        "days": _numbers((day - EPOCH).days for day in wanted.days),
        "hours": _numbers(hours),
        "curves": _curves(wanted),
        "weeks": _numbers(wanted.weeks),
        "levels": batch_sql.LEVELS,
        "facts": batch_sql.facts(wanted.positive_types, wanted.from_day),
        "known_users": batch_sql.known("users", "user_id"),
        "known_items": batch_sql.known("items", "item_id"),
        "sessions": batch_sql.SESSIONS,
    }


def _numbers(numbers: Any) -> str:
    rows = ", ".join(f"({number})" for number in sorted(set(numbers)))
    if not rows:
        return "SELECT 0 AS moment WHERE 1 = 0"
    return f"SELECT * FROM (VALUES {rows}) AS t(moment)"


def _curves(wanted: Wanted) -> str:
    rows = ", ".join(
        f"({week}, {position}, {rate:.17e})"
        for week in wanted.weeks
        for position, rate in sorted(wanted.curves.get(week, FLAT).items())
    )
    return f"SELECT * FROM (VALUES {rows}) AS t(week, position, rate)"


def _seen(source: str, wanted: Wanted) -> str:
    """Which rows of the lake had arrived; the tables of entities say only when one was made."""
    if wanted.seen_before is None:
        return "true"
    until_us = int(wanted.seen_before.timestamp() * 1e6)
    if source == "events":
        return f"unix_micros(seen_at) < {until_us}"
    return f"created_at IS NULL OR unix_micros(created_at) < {until_us}"


def _finished(view: str, rows: pa.Table) -> pa.Table:
    """Turn the moment's number into the row's two times, fix the schema, sort."""
    every_us = VIEWS[view].every // timedelta(microseconds=1)
    as_of = rows["moment"].to_numpy().astype(np.int64) * every_us
    times = {AS_OF: as_of, CREATED: as_of + VIEWS[view].lag // timedelta(microseconds=1)}
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
