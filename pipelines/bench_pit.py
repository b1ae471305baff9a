"""The point-in-time join at size: Feast's beside an ASOF join by hand, on the same made tables.

Daily snapshots of one entity, each known BATCH_LAG after its midnight, and labels at random moments.
Both sides read the same Parquet and answer the same question: of each label's entity, the newest row
that was known before the label and is not older than the TTL.
"""

import shutil
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from features.batch import AS_OF, CREATED
from features.definitions import BATCH_LAG, BATCH_TTL
from features.point_in_time import MOMENT, QUERY
from features.request import DAY_US, microseconds
from features.schema import TIMESTAMP
from infra.clients import open_feast
from infra.duck import open_duckdb
from infra.workspace import Workspace

VIEW, COLUMNS = "snapshot", 6
DAYS = 100
"""Snapshots of each entity: a season of daily rows."""

START = datetime(2026, 1, 1, tzinfo=UTC)
ROUNDS = 3
"""Each side is timed so often, in turns, and the best counts: neighbours disturb, they never help."""


def run_bench(labels: int, rows: int, seed: int, folder: Path | None = None) -> dict[str, Any]:
    """Seconds of both joins, their ratio, and whether they answered the same.

    Args:
        labels: rows of the label table.
        rows: rows of the feature table, about; a multiple of DAYS.
        seed: of entities, moments and values.
        folder: where the tables are made; None = a temporary folder. Emptied at the end.

    Returns:
        feast_s, asof_s, ratio, labels, rows, found, lost (labels without an answer row of their
        own), different (values that are not equal).
    """
    home = Path(tempfile.mkdtemp(prefix="shortlist-pit-", dir=folder))
    try:
        workspace = Workspace(home, "pit")
        entities = max(rows // DAYS, 1)
        _write_snapshots(workspace, entities, seed)
        asked = _labels(labels, entities, seed)
        store = open_feast(workspace)
        store.apply(_objects(workspace))
        sides: dict[str, Callable[[], pa.Table]] = {
            "feast": lambda: _by_feast(store, asked),
            "asof": lambda: _by_hand(workspace, asked),
        }
        seconds = dict.fromkeys(sides, float("inf"))
        found: dict[str, pa.Table] = {}
        for _ in range(ROUNDS):
            for name, join in sides.items():
                since = time.perf_counter()
                found[name] = join()
                seconds[name] = min(seconds[name], time.perf_counter() - since)
    finally:
        shutil.rmtree(home, ignore_errors=True)
    return {
        "feast_s": round(seconds["feast"], 3),
        "asof_s": round(seconds["asof"], 3),
        "ratio": round(seconds["feast"] / seconds["asof"], 3),
        "labels": labels,
        "rows": entities * DAYS,
        **compared(found["feast"], found["asof"], labels),
    }


def compared(ours: pa.Table, expected: pa.Table, labels: int) -> dict[str, int]:
    """Labels that got an answer, were lost, and values that differ."""
    ours, expected = ours.sort_by(QUERY), expected.sort_by(QUERY)
    lost = labels - len(np.intersect1d(ours[QUERY].to_numpy(), np.arange(labels)))
    if lost or ours.num_rows != expected.num_rows:
        return {"found": ours.num_rows, "lost": lost, "different": abs(labels - ours.num_rows)}
    different = 0
    for name in _names():
        a, b = (table[name].to_numpy(zero_copy_only=False) for table in (ours, expected))
        different += int((~((a == b) | (pd.isna(a) & pd.isna(b)))).sum())
    return {"found": int(ours[_names()[0]].drop_null().length()), "lost": 0, "different": different}


def _names() -> list[str]:
    return [f"value_{number}" for number in range(COLUMNS)]


def _write_snapshots(workspace: Workspace, entities: int, seed: int) -> None:
    """One file, a row group a day, as a daily job appends; each row knows its day and its entity."""
    workspace.offline.mkdir(parents=True)
    rng = np.random.default_rng(seed)
    ids = pa.array([f"e{number:07d}" for number in range(entities)])
    schema = pa.schema(
        [("user_id", pa.string()), (AS_OF, TIMESTAMP), (CREATED, TIMESTAMP)]
        + [(name, pa.float64()) for name in _names()]
    )
    lag_us = int(BATCH_LAG.total_seconds() * 1e6)
    with pq.ParquetWriter(workspace.offline / f"{VIEW}.parquet", schema) as writer:
        for day in range(DAYS):
            as_of = np.full(entities, microseconds(START) + day * DAY_US)
            times = [pa.array(as_of, TIMESTAMP), pa.array(as_of + lag_us, TIMESTAMP)]
            values = [pa.array(rng.random(entities)) for _ in range(COLUMNS)]
            writer.write_table(pa.table([ids, *times, *values], schema=schema))


def _labels(labels: int, entities: int, seed: int) -> pd.DataFrame:
    """Every twentieth label is of an entity that has no rows: it must not be lost either."""
    rng = np.random.default_rng(seed + 1)
    number = rng.integers(entities + entities // 20 + 1, size=labels)
    at = microseconds(START) + rng.integers(DAYS * DAY_US, size=labels)
    return pd.DataFrame(
        {
            "user_id": [f"e{value:07d}" for value in number],
            MOMENT: pd.to_datetime(at, unit="us", utc=True).as_unit("us"),
            QUERY: np.arange(labels),
        }
    )


def _objects(workspace: Workspace) -> list[Any]:
    from feast import Entity, FeatureView, Field, FileSource
    from feast.types import Float64, String
    from feast.value_type import ValueType

    entity = Entity(name="user_id", value_type=ValueType.STRING)
    source = FileSource(
        name=f"{VIEW}_file",
        path=str((workspace.offline / f"{VIEW}.parquet").resolve()),
        timestamp_field=AS_OF,
        created_timestamp_column=CREATED,
    )
    schema = [Field(name="user_id", dtype=String)]
    schema += [Field(name=name, dtype=Float64) for name in _names()]
    view = FeatureView(name=VIEW, entities=[entity], ttl=BATCH_TTL, schema=schema, source=source)
    return [entity, view]


def _by_feast(store: Any, asked: pd.DataFrame) -> pa.Table:
    job = store.get_historical_features(
        entity_df=asked,
        features=[f"{VIEW}:{name}" for name in _names()],
        filter_by_created_timestamp=True,
    )
    return job.to_arrow().select([QUERY, *_names()])


def _by_hand(workspace: Workspace, asked: pd.DataFrame) -> pa.Table:
    """Rows become known in the order of their days, so the newest known one is one ASOF away."""
    path = workspace.offline / f"{VIEW}.parquet"
    values = ", ".join(f"CASE WHEN young THEN {name} END AS {name}" for name in _names())
    with open_duckdb() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        connection.register("asked", pa.Table.from_pandas(asked, preserve_index=False))
        return connection.sql(
            f"""
            SELECT {QUERY}, {values} FROM (
              SELECT a.{QUERY}, f.*,
                     f.{AS_OF} >= a.{MOMENT} - INTERVAL {int(BATCH_TTL.total_seconds())} SECOND AS young
              FROM asked a ASOF LEFT JOIN read_parquet('{path}') f
                   ON a.user_id = f.user_id AND a.{MOMENT} >= f.{CREATED})"""
        ).to_arrow_table()
