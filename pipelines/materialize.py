"""Offline store -> online store: the newest batch rows, and a start for the stream's state.

The stream worker starts a user from `state/seed.sqlite` when it has no state of its own; this step
owns that file and writes nothing else of the worker's. The seed is what came before the log: once
the lake holds events of the log, it stays as it is, because the worker folds those itself, and a
user whom it meets late would start from a state that has them already.
"""

import io
import json
import logging
import sqlite3
import uuid
from collections.abc import Collection
from contextlib import closing, redirect_stdout
from datetime import datetime
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from features.batch import AS_OF
from features.definitions import ITEM_VIEWS, VERSION, VIEWS
from features.request import microseconds
from features.schema import TIMESTAMP
from features.store import OnlineStore, answering
from infra.clients import open_feast
from infra.reports import write_json
from infra.workspace import Workspace
from pipelines.lake import log_is_in
from pipelines.stream_history import STATES

from features.repo.views import feast_objects  # isort: skip  # imports Feast: after infra.clients

SEED = "seed.sqlite"

log = logging.getLogger(__name__)


def materialize(workspace: Workspace, now: datetime, only: Collection[str] = ()) -> dict:
    """Bring the online store up to `now`.

    Args:
        workspace: its offline store is read; its online store and state seed are written.
        now: UTC. Nothing that became known later is written.
        only: batch views to write, and nothing else; none = everything.

    Returns:
        rows: view -> entities written; seeded: users whose state the worker may start from. A view
        that is online as of a later moment is left as it is: a clock was set back.

    Raises:
        FeaturesUnavailable: the online store does not answer; some rows may be written. Repeating
            it is safe.
    """
    store = open_feast(workspace)
    apply_views(store, workspace.offline)
    wanted = [
        v.name for v in VIEWS.values() if v.source == "batch" and (not only or v.name in only)
    ]
    known_at = _known_at(workspace)
    with answering(store):
        rows = {
            view: _batch_view(store, workspace.offline, view, now)
            for view in wanted
            if _is_next(view, known_at, now)
        }
    told = known_at | {view: now for view in rows}
    write_json(workspace.online_mark, {view: at.isoformat() for view, at in told.items()})
    if not set(ITEM_VIEWS).isdisjoint(rows):
        write_json(workspace.items_mark, {"known_at": now.isoformat(), "written": uuid.uuid4().hex})
    if only:
        return {"rows": rows, "seeded": 0}
    rows["user_stream"] = _stream_rows(OnlineStore(store), workspace.offline, now)
    return {"rows": rows, "seeded": seed(workspace, now)}


def _known_at(workspace: Workspace) -> dict[str, datetime]:
    """Batch view -> the moment as of which it is online; none where nobody knows."""
    if not workspace.online_mark.exists():
        return {}
    told = json.loads(workspace.online_mark.read_text())
    return {view: datetime.fromisoformat(at) for view, at in told.items()}


def _is_next(view: str, known_at: dict[str, datetime], now: datetime) -> bool:
    """Whether rows known at `now` may replace those that are online."""
    before = known_at.get(view)
    if before is None or now >= before:
        return True
    log.warning("%s is online as of %s, rows of %s would be older: left alone", view, before, now)
    return False


def apply_views(store: Any, offline: Path) -> None:
    """Tell Feast's registry the views of the definition table; repeating it changes nothing."""
    store.apply(feast_objects(offline))


def _batch_view(store: Any, offline: Path, view: str, now: datetime) -> int:
    """Write each entity's newest row known at `now`; Feast cuts by as_of, hence the lag."""
    ttl = VIEWS[view].ttl
    assert ttl is not None, f"{view} is a batch view and needs a TTL"
    start, end = now - ttl, now - VIEWS[view].lag
    if not list(offline.glob(f"{view}/*.parquet")):
        return 0
    with redirect_stdout(io.StringIO()):  # its progress is not ours
        store.materialize(start_date=start, end_date=end, feature_views=[view])
    inside = (pc.field(AS_OF) >= _scalar(start)) & (pc.field(AS_OF) <= _scalar(end))
    keys = pq.read_table(
        [str(path) for path in offline.glob(f"{view}/*.parquet")],
        columns=list(VIEWS[view].entity),
        filters=inside,
    )
    return keys.group_by(keys.column_names).aggregate([]).num_rows


def _stream_rows(online: OnlineStore, offline: Path, now: datetime) -> int:
    """Push each user's last row known at `now`; what the worker pushed since stays."""
    path = offline / "user_stream.parquet"
    if not path.exists():
        return 0
    until = pc.field(VERSION) <= microseconds(now)
    frame: pd.DataFrame = pq.read_table(path, filters=until).to_pandas()
    last = frame.sort_values(VERSION).drop_duplicates("user_id", keep="last")
    return sum(
        online.push_user_stream(last.iloc[start : start + ROWS_PER_PUSH])
        for start in range(0, len(last), ROWS_PER_PUSH)
    )


ROWS_PER_PUSH = 500
"""The store's write lock is held for one push; the worker waits for no more than this."""


def seed(workspace: Workspace, now: datetime) -> int:
    """Replace the seed by the fold's last states; states that reach past `now` are left out."""
    path = workspace.offline / f"{STATES}.parquet"
    if not path.exists() or log_is_in(workspace.lake):
        return 0
    states = pq.read_table(path, filters=pc.field(VERSION) <= microseconds(now))
    rows = zip(states["user_id"].to_pylist(), states["state"].to_pylist(), strict=True)
    workspace.state.mkdir(parents=True, exist_ok=True)
    with closing(sqlite3.connect(workspace.state / SEED, timeout=30)) as connection, connection:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute(SEED_TABLE)
        connection.execute("DELETE FROM states")
        connection.executemany("INSERT INTO states VALUES (?, ?)", rows)
    return states.num_rows


SEED_TABLE = "CREATE TABLE IF NOT EXISTS states (user_id TEXT PRIMARY KEY, state TEXT NOT NULL)"


def _scalar(moment: datetime) -> pa.Scalar:
    return pa.scalar(moment, TIMESTAMP)
