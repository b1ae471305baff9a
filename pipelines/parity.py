"""The same features by every engine that computes them, at the same instants, value by value.

Spark and DuckDB run one SQL text with separate readers, planners and clocks. The fold keeps a user's
last positives; from them the same counts can be read, for users whose kept history reaches back far
enough.
"""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from rich.table import Table

from features.batch import AS_OF, Wanted, midnight, rows_duckdb, rows_spark
from features.definitions import BY_COLUMN, DAY, HISTORY_LENGTH, NEVER_DAYS, VIEWS
from features.request import DAY_US, microseconds
from features.streaming import State, empty
from features.streaming_fast import fold_run
from infra.duck import open_duckdb
from infra.spark import JAVA_NEEDED, java_version, open_spark
from infra.workspace import Workspace
from pipelines.build_features import hours_between
from pipelines.days import serve_from, split_of
from pipelines.lake import read_events, read_info
from pipelines.position_curves import curves_of
from pipelines.stream_history import COLUMNS, in_order_of_arrival

TOLERANCE = 1e-9
"""Relative, of floats: engines add in different orders. Integers are equal or they are not."""


def compare(workspace: Workspace, days: int, seed: int) -> dict[str, Any]:
    """Every value of the newest as-of days and their hours.

    Args:
        workspace: with a filled lake.
        days: how many as-of days, the newest that the data has.
        seed: noted in the report; nothing here is random.

    Returns:
        pairs: "spark and duckdb", "fold and duckdb" -> column -> {values, different, worst}, or why
        they were not compared; moments.
    """
    last = serve_from(split_of(workspace)).date()
    as_of_days = [last - timedelta(days=back) for back in range(days)]
    hours = hours_between(midnight(min(as_of_days)), midnight(last))
    wanted = Wanted(read_info(workspace.lake).positive_types, as_of_days, hours)
    wanted = Wanted(wanted.positive_types, as_of_days, hours, curves_of(workspace, wanted.weeks))
    with open_duckdb() as connection:
        referee = rows_duckdb(connection, workspace.lake, wanted)
    pairs: dict[str, Any] = {"fold and duckdb": _fold(workspace, referee, wanted)}
    if (java_version() or 0) >= JAVA_NEEDED:
        with open_spark() as spark:
            pairs["spark and duckdb"] = differences(
                rows_spark(spark, workspace.lake, wanted), referee
            )
    else:
        pairs["spark and duckdb"] = f"not compared: Spark needs Java {JAVA_NEEDED}"
    return {
        "moments": {"days": len(as_of_days), "hours": len(hours)},
        "tolerance": TOLERANCE,
        "pairs": pairs,
    }


def summed(compared: Mapping[str, Any]) -> Table:
    """A line per data set and pair; the report has every column."""
    table = Table("data set", "pair", "columns", "values", "different", "worst", box=None)
    for name, told in compared.items():
        for pair, columns in told["pairs"].items():
            if not isinstance(columns, Mapping):
                table.add_row(name, pair, columns)
                continue
            total = {key: [c[key] for c in columns.values()] for key in ("values", "different")}
            worst = max((column["worst"] for column in columns.values()), default=0.0)
            counts = (len(columns), sum(total["values"]), sum(total["different"]))
            table.add_row(name, pair, *(f"{count:,}" for count in counts), f"{worst:.1e}")
    return table


def is_equal(compared: Mapping[str, Any]) -> bool:
    """Whether no value differed; pairs that could not be compared do not count."""
    pairs = [pair for pair in compared["pairs"].values() if isinstance(pair, Mapping)]
    return all(column["different"] == 0 for pair in pairs for column in pair.values())


def differences(
    got: Mapping[str, pa.Table], expected: Mapping[str, pa.Table]
) -> dict[str, dict[str, float]]:
    """Column -> how many values were compared, how many differ, and the largest relative distance.

    A row that only one side has counts as different in every column of its view.
    """
    out = {}
    for view, table in expected.items():
        keys = [*VIEWS[view].entity, AS_OF]
        both = table.to_pandas().merge(
            got[view].to_pandas(), on=keys, how="outer", suffixes=("", " got"), indicator=True
        )
        alone = int((both["_merge"] != "both").sum())
        both = both[both["_merge"] == "both"]
        for column in table.column_names[len(keys) + 1 :]:
            a, b = both[column].to_numpy(), both[f"{column} got"].to_numpy()
            out[column] = _compared(column, a, b, alone)
    return out


def _compared(column: str, a: np.ndarray, b: np.ndarray, alone: int = 0) -> dict[str, float]:
    apart = np.abs(a - b) / np.maximum(np.maximum(np.abs(a), np.abs(b)), 1e-300)
    limit = 0.0 if BY_COLUMN[column].dtype == "int" else TOLERANCE
    different = int((apart > limit).sum()) + alone
    return {"values": len(a), "different": different, "worst": float(apart.max(initial=0.0))}


FOLDED = ("positives_7d", "positives_30d", "user_idle_days")
"""What the batch counts and a kept history of positives tells as well."""


def _fold(
    workspace: Workspace, referee: Mapping[str, pa.Table], wanted: Wanted
) -> dict[str, dict[str, float]]:
    """Batch values of users against those read off the fold's state at the same midnight.

    What the fold set aside as late is left out of the batch too: that it is not in the stream is the
    rule, and not a difference.
    """
    events = read_events(workspace.lake, columns=COLUMNS)
    told: dict[str, list[tuple[float, float]]] = {column: [] for column in FOLDED}
    for day in wanted.days:
        states, late = states_at(events, day, wanted.positive_types)
        table = _without(workspace.lake, late, replace(wanted, days=[day])) if late else referee
        rows, at_us = table["user_daily"].to_pandas(), microseconds(midnight(day))
        batch = rows[rows[AS_OF] == pd.Timestamp(midnight(day))].set_index("user_id")
        for user_id, state in states.items():
            for column, value in from_history(state["history_at"], at_us).items():
                told[column].append((batch.at[user_id, column], value))
    values = {column: np.array(pairs, dtype=float).reshape(-1, 2) for column, pairs in told.items()}
    return {column: _compared(column, *pairs.T) for column, pairs in values.items()}


def states_at(
    events: pd.DataFrame, day: date, positive_types: Sequence[str]
) -> tuple[dict[str, State], set[str]]:
    """The fold's state of every user at 00:00 of a day, over what happened before; late events' ids."""
    before = events[events["event_at"] < pd.Timestamp(midnight(day))]
    states: dict[str, State] = {}
    late: set[str] = set()
    for user_id, _, event in in_order_of_arrival(before):
        state = states.setdefault(user_id, empty())
        late.update(event_id for _, event_id, *_ in fold_run(state, [event], positive_types)[1])
    return states, late


def _without(lake: Path, event_ids: set[str], wanted: Wanted) -> dict[str, pa.Table]:
    """The batch rows of the lake without some events."""
    left_out = pa.array(sorted(event_ids))
    with TemporaryDirectory() as folder, open_duckdb() as connection:
        for path in lake.glob("*.parquet"):
            shutil.copy(path, folder)
        for path in sorted(lake.glob("events/*/part.parquet")):
            table = pq.read_table(path, partitioning=None)
            kept = table.filter(pc.invert(pc.is_in(table["event_id"], left_out)))
            target = Path(folder) / path.relative_to(lake)
            target.parent.mkdir(parents=True)
            pq.write_table(kept, target)
        return rows_duckdb(connection, Path(folder), wanted)


def from_history(history_at: Sequence[int], at_us: int) -> dict[str, float]:
    """FOLDED read off a kept history; a count is left out where the history may be cut inside it."""
    out = {}
    for column in ("positives_7d", "positives_30d"):
        window = BY_COLUMN[column].window
        assert window is not None, f"{column} counts inside a window"
        since = at_us - window // DAY * DAY_US
        if len(history_at) < HISTORY_LENGTH or history_at[-1] < since:
            out[column] = float(sum(at >= since for at in history_at))
    newest = history_at[0] if history_at else 0
    out["user_idle_days"] = min((at_us - newest) / DAY_US, NEVER_DAYS)
    return out
