"""The stream view's past: what the worker would have pushed, had it run all along.

The same fold as the worker's, over the lake in order of *arrival*. A row is stamped with its
state's version, but never later than it arrived, and becomes known when its event was seen, so a
point-in-time join finds at moment t what the online store would have answered at t.
"""

import json
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any

import pandas as pd
import pyarrow as pa

from features.batch import AS_OF, CREATED, arrow_type
from features.definitions import HISTORY_AT, HISTORY_ITEMS, LAST_EVENT_AT, VERSION, stored_of
from features.request import microseconds
from features.schema import TIMESTAMP
from features.streaming import State, empty, judged, row_of
from features.streaming_fast import Event, fold_run
from infra.workspace import Workspace
from pipelines.lake import read_events
from pipelines.offline_file import replaced

HISTORY_SCHEMA = pa.schema(
    [("user_id", pa.string()), (AS_OF, TIMESTAMP), (CREATED, TIMESTAMP)]
    + [(f.column, arrow_type(f)) for f in stored_of("user_stream")]
    + [
        (HISTORY_ITEMS, pa.list_(pa.string())),
        (HISTORY_AT, pa.list_(pa.int64())),
        (LAST_EVENT_AT, pa.int64()),
        (VERSION, pa.int64()),
    ]
)

STATES = "user_stream_states"
STATES_SCHEMA = pa.schema([("user_id", pa.string()), (VERSION, pa.int64()), ("state", pa.string())])

ROWS_PER_WRITE = 20_000
"""Rows held in memory before they go to the file; each carries a whole history."""

COLUMNS = ["event_id", "event_type", "user_id", "item_id", "session_id", "event_at", "seen_at"]


def write_stream_history(
    workspace: Workspace, since: datetime, positive_types: Sequence[str]
) -> int:
    """Fold the whole lake; write the history from `since` on, and every user's last state.

    Returns:
        Rows of history.
    """
    events = read_events(workspace.lake, columns=COLUMNS)
    states: dict[str, State] = {}
    rows = stream_history(events, microseconds(since), positive_types, states)
    count = 0
    with replaced(workspace.offline / "user_stream.parquet", HISTORY_SCHEMA) as write:
        for batch in _batches(rows):
            write(_table(batch))
            count += len(batch)
    with replaced(workspace.offline / f"{STATES}.parquet", STATES_SCHEMA) as write:
        versions = [state["version"] for state in states.values()]
        texts = [json.dumps(state) for state in states.values()]
        write(pa.table([list(states), versions, texts], schema=STATES_SCHEMA))
    return count


def stream_history(
    events: pd.DataFrame, since_us: int, positive_types: Sequence[str], states: dict[str, State]
) -> Iterator[dict[str, Any]]:
    """Rows of `user_stream`, times in µs since 1970.

    One row per user and moment of arrival (a slate of ten impressions is one), for every change
    from `since_us` on, and each user's last row before it.

    Args:
        events: with the columns COLUMNS, in any order.
        since_us: µs since 1970.
        positive_types: types that enter the history.
        states: filled with each user's last state.
    """
    arrived: dict[str, int] = {}  # user -> arrival of the newest event, whose row may still change
    for user_id, seen_at, event in in_order_of_arrival(events):
        if (state := states.get(user_id)) is None:
            state = states[user_id] = empty()
        *_, event_at = event
        if judged(state, event[1], event_at) != "new":
            continue
        is_wanted = max(event_at, state[VERSION] + 1) >= since_us
        if is_wanted and arrived.get(user_id, seen_at) != seen_at:
            yield _row(user_id, arrived[user_id], state)
        fold_run(state, [event], positive_types)
        arrived[user_id] = seen_at
    for user_id, seen_at in arrived.items():
        yield _row(user_id, seen_at, states[user_id])


def _row(user_id: str, seen_at: int, state: State) -> dict[str, Any]:
    """With lists of its own: the fold goes on with those of the state.

    Where a phone's clock runs ahead, the state's version lies in the future; the online store answers
    with it from the moment it arrives, so that is where a join must find it.
    """
    row = row_of(state)
    row |= {HISTORY_ITEMS: [*row[HISTORY_ITEMS]], HISTORY_AT: [*row[HISTORY_AT]]}
    return {"user_id": user_id, AS_OF: min(row[VERSION], seen_at), CREATED: seen_at, **row}


def in_order_of_arrival(events: pd.DataFrame) -> Iterator[tuple[str, int, Event]]:
    """(user id, arrival in µs, event as the fold takes it), of a frame with the columns COLUMNS."""
    ordered = events.sort_values(["seen_at", "event_at", "event_id"], kind="stable")
    for name in ("event_at", "seen_at"):
        ordered[name] = ordered[name].astype("datetime64[us, UTC]").astype("int64")
    sessions = ordered["session_id"].astype(object)
    ordered["session_id"] = sessions.where(sessions.notna(), None)
    rows = ordered[COLUMNS].itertuples(index=False, name=None)
    for place, (event_id, kind, user_id, item_id, session_id, event_at, seen_at) in enumerate(rows):
        yield user_id, seen_at, (place, event_id, kind, item_id, session_id, event_at)


def _batches(rows: Iterator[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    """Lists of up to ROWS_PER_WRITE rows; at least one list, so that the file has its schema."""
    batch: list[dict[str, Any]] = []
    for row in rows:
        batch.append(row)
        if len(batch) == ROWS_PER_WRITE:
            yield batch
            batch = []
    yield batch


def _table(rows: list[dict[str, Any]]) -> pa.Table:
    # Times come as µs; Arrow casts them without a detour over datetime objects.
    columns = [
        pa.array([row[field.name] for row in rows], type=_held_as(field.type)).cast(field.type)
        for field in HISTORY_SCHEMA
    ]
    return pa.table(columns, schema=HISTORY_SCHEMA)


def _held_as(kind: pa.DataType) -> pa.DataType:
    return pa.int64() if pa.types.is_timestamp(kind) else kind
