"""Online reads and writes of features, through an opened Feast store.

A read asks the online store directly with views that were looked up once: the request path never
touches the registry, which another process may be rewriting. Three things that Feast leaves to its
caller are done here: a row older than its view's TTL counts as missing, absent values become the
definition's defaults, and an older push never overwrites a newer one. Which backend holds the rows
is not known here; its lock and its errors come with the opened store.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

import numpy as np
import pandas as pd

from features.batch import AS_OF, CREATED
from features.definitions import (
    HISTORY_AT,
    HISTORY_ITEMS,
    ITEM_VIEWS,
    LAST_EVENT_AT,
    PAIR_VIEWS,
    USER_VIEWS,
    VERSION,
    VIEWS,
    Feature,
    stored_of,
)
from features.errors import FeaturesUnavailable
from features.feature_set import CURRENT
from features.request import UserRow

PUSH_SOURCE = "user_stream_push"

STREAM_COLUMNS = (HISTORY_ITEMS, HISTORY_AT, LAST_EVENT_AT, VERSION)
"""Columns of `user_stream` beside its features."""


@dataclass(frozen=True, slots=True)
class ItemRows:
    """Stored features of N items, as they are online."""

    matrix: np.ndarray  # (N, Fi) float64
    as_of: dict[str, datetime | None]  # view -> when its newest row holds; None = it has none


Stored = tuple[datetime | None, dict[str, Any]]
"""(time its values hold, value by feature name); (None, {}) where there is no row."""


class FeatureStore(Protocol):
    """What serving needs of a feature store."""

    def read_user(self, user_id: str, categories: Sequence[str], now: datetime) -> UserRow:
        """Everything known about one user at `now`."""


class OnlineStore:
    """One workspace's online features."""

    def __init__(self, store: Any) -> None:
        """Look the views up.

        Args:
            store: an opened store (infra/clients.py) whose views are applied. Beside Feast's own
                methods it has `alone()`, the writers' lock, and `away`, the errors of a store
                that does not answer; all of them are raised here as FeaturesUnavailable.

        Raises:
            FeaturesUnavailable: the views are not applied yet.
        """
        known = {view.name: view for view in store.list_feature_views()}
        stored = [view.name for view in VIEWS.values() if view.source != "request"]
        if absent := [name for name in stored if name not in known]:
            raise FeaturesUnavailable(
                f"the feature registry has no view {', '.join(absent)}; run `shortlist features`"
            )
        self._store = store
        self._provider = store._get_provider()
        self._views = {name: known[name] for name in stored}

    def read_user(self, user_id: str, categories: Sequence[str], now: datetime) -> UserRow:
        """Everything known about one user at `now`.

        Args:
            user_id: the user; one whom no view knows gets every default.
            categories: names to look for; the whole vocabulary of the bundle.
            now: UTC; ages are counted from it.

        Returns:
            A row whose `missing` names the views that had no row within their TTL.

        Raises:
            FeaturesUnavailable: the store does not answer.

        Interview: Your feature store has a TTL. What happens online when a row is older?
            Nothing: Feast's TTL bounds the point-in-time join, while its online read returns
            whatever was written last, however old. So the age is checked here, an expired row
            becomes the same default as in training, and `missing` tells the caller.
            Trade-off: a store that expires rows itself (Redis key TTL) saves the check but drops
            the whole entity, all views at once.
            Shown by: tests/features/test_store.py::test_a_row_older_than_its_ttl_counts_as_missing
        """
        found = {view: self._read(view, [{"user_id": user_id}])[0] for view in USER_VIEWS}
        keys = [{"user_id": user_id, "category": category} for category in categories]
        rows: dict[str, dict[str, Any]] = {}
        moments: dict[str, datetime | None] = {}
        for view in PAIR_VIEWS:
            per_category = self._read(view, keys)
            moments[view] = max((m for m, _ in per_category if m), default=None)
            for category, (as_of, values) in zip(categories, per_category, strict=True):
                if as_of is not None and is_young(view, as_of, now):
                    rows.setdefault(category, {}).update(values)
        moments |= {view: as_of for view, (as_of, _) in found.items()}
        young = {view for view, moment in moments.items() if moment and is_young(view, moment, now)}
        return user_row(
            {view: values for view, (_, values) in found.items() if view in young},
            rows,
            missing=tuple(view for view in moments if view not in young),
            age_s={v: (now - m).total_seconds() for v, m in moments.items() if m is not None},
        )

    def read_items(
        self,
        item_ids: Sequence[str],
        now: datetime | None = None,
        columns: Sequence[Feature] = CURRENT.item,
    ) -> "ItemRows":
        """Stored features of items; serving fills its matrix with it, never within a request.

        Args:
            item_ids: (N,) ids.
            now: rows that are older than their view's TTL by then count as missing; None = all count.
            columns: features of items, in the order wanted.

        Returns:
            The values with defaults where an item has no row, and each view's newest time.
        """
        matrix = np.tile([f.default for f in columns], (len(item_ids), 1)).astype(np.float64)
        newest: dict[str, datetime | None] = {}
        for view in ITEM_VIEWS:
            names = [f.column for f in columns if f.view == view]
            places = [place for place, f in enumerate(columns) if f.view == view]
            if not names:
                continue
            rows = self._read(view, [{"item_id": item_id} for item_id in item_ids], only=names)
            newest[view] = max((as_of for as_of, _ in rows if as_of), default=None)
            for row, (as_of, values) in enumerate(rows):
                if as_of is not None and (now is None or is_young(view, as_of, now)):
                    matrix[row, places] = [
                        values.get(n, matrix[row, p]) for n, p in zip(names, places, strict=True)
                    ]
        return ItemRows(matrix, newest)

    def read_stream(self, user_ids: Sequence[str]) -> dict[str, dict[str, Any]]:
        """Every column of `user_stream` as it is stored, whatever its age; only users with a row."""
        rows = self._read("user_stream", [{"user_id": user_id} for user_id in user_ids])
        return {u: row for u, (_, row) in zip(user_ids, rows, strict=True) if row}

    def read_versions(self, user_ids: Sequence[str]) -> dict[str, int]:
        """The version that is stored of each user; 0 where there is no row."""
        rows = self._read("user_stream", [{"user_id": u} for u in user_ids], only=[VERSION])
        return {u: row.get(VERSION, 0) for u, (_, row) in zip(user_ids, rows, strict=True)}

    def push_user_stream(self, rows: pd.DataFrame) -> int:
        """Write the rows of `user_stream` that are newer than what is stored.

        Args:
            rows: user_id, as_of, created_at and every column of the view; absolute values. Of
                several rows of one user the one with the highest version counts.

        Returns:
            How many rows were written.

        Raises:
            FeaturesUnavailable: the store does not answer, or another writer kept the lock; some
                rows may be written. Push again.

        Interview: Two processes write the same feature. How do you keep the newer value?
            Each row carries a version that only grows; a writer takes the store's write lock, reads
            the versions that are there, and writes only what is newer. Without the lock, reading
            and writing are two steps and the older of two racing writers can come last.
            Trade-off: one extra read per batch, and a lock in Redis runs out: a writer that sleeps
            inside for longer can still come last. The stream worker looks for rows that went
            back and pushes them again.
            Shown by: tests/features/test_store.py::test_of_two_racing_writers_the_newer_value_stays
        """
        newest = rows.sort_values(VERSION).drop_duplicates("user_id", keep="last")
        if newest.empty:
            return 0
        with answering(self._store), self._store.alone():
            stored = self.read_versions(newest["user_id"].tolist())
            fresh = newest[newest[VERSION] > newest["user_id"].map(stored)]
            if len(fresh):
                self._store.push(PUSH_SOURCE, fresh)
        return len(fresh)

    def _read(
        self, view: str, keys: Sequence[dict[str, str]], only: Sequence[str] = ()
    ) -> list[Stored]:
        """One row per key, in order; of all columns unless some are named.

        SQLite takes at most READ_LIMIT keys in one statement.
        """
        out: list[Stored] = []
        with answering(self._store):
            for start in range(0, len(keys), READ_LIMIT):
                out += self._read_chunk(view, keys[start : start + READ_LIMIT], only)
        return out

    def _read_chunk(
        self, view: str, keys: Sequence[dict[str, str]], only: Sequence[str]
    ) -> list[Stored]:
        # Feast is there already, with whoever opened the store; this file must not need it.
        from feast.protos.feast.types.EntityKey_pb2 import EntityKey
        from feast.protos.feast.types.Value_pb2 import Value

        protos = [
            EntityKey(
                join_keys=list(key), entity_values=[Value(string_val=v) for v in key.values()]
            )
            for key in keys
        ]
        names = list(only) or None  # a list of its own: Feast appends to it
        rows = self._provider.online_read(self._store.config, self._views[view], protos, names)
        return [_row(as_of, values) for as_of, values in rows]


def _row(as_of: datetime | None, values: Mapping[str, Any] | None) -> Stored:
    """Plain values of one row. Of a key that it has not, Redis tells 1970 and empty values."""
    plain = {name: _plain(value) for name, value in (values or {}).items()}
    known = {name: value for name, value in plain.items() if value is not None}
    return (as_of, known) if known else (None, {})


@contextmanager
def answering(store: Any) -> Iterator[None]:
    """Turn the backend's own errors into ours; the text of theirs may carry addresses.

    Raises:
        FeaturesUnavailable: the online store does not answer.
    """
    try:
        yield
    except store.away as error:
        kind = type(error).__name__
        raise FeaturesUnavailable(f"features: the store failed ({kind})") from error


READ_LIMIT = 500
"""Entity keys per statement, below the 999 variables of old SQLite builds."""


def is_young(view: str, as_of: datetime, now: datetime) -> bool:
    """Whether a row may still be used: the same rule as the TTL of the point-in-time join."""
    ttl = VIEWS[view].ttl
    return ttl is None or now - as_of <= ttl


def user_row(
    found: dict[str, dict[str, Any]],
    category_rows: dict[str, dict[str, float]],
    *,
    missing: tuple[str, ...],
    age_s: dict[str, float],
) -> UserRow:
    """A UserRow from the values of each view, online or offline; defaults where a view has none."""
    values = {
        f.column: float(found.get(view, {}).get(f.column, f.default))
        for view in USER_VIEWS
        for f in stored_of(view)
    }
    stream = found.get("user_stream", {})
    return UserRow(
        values=values,
        category_rows=category_rows,
        history_items=list(stream.get(HISTORY_ITEMS, ())),
        history_at=[int(at) for at in stream.get(HISTORY_AT, ())],
        last_event_at=int(stream.get(LAST_EVENT_AT, 0)),
        missing=missing,
        age_s=age_s,
    )


def _plain(value: Any) -> Any:
    """A protobuf value as Python: a number, a string, or the list inside."""
    kind = value.WhichOneof("val")
    if kind is None:
        return None
    found: Any = getattr(value, kind)
    return list(found.val) if kind.endswith("_list_val") else found


def stream_frame(rows: dict[str, dict[str, Any]], seen_at: datetime) -> pd.DataFrame:
    """Fold rows by user as the frame that `push_user_stream` takes.

    Args:
        rows: user_id -> row of the fold.
        seen_at: when the worker saw them; becomes `created_at`.
    """
    frame = pd.DataFrame([{"user_id": user_id, **row} for user_id, row in rows.items()])
    as_of = pd.to_datetime(frame[VERSION], unit="us", utc=True)
    frame[AS_OF] = as_of.astype("datetime64[us, UTC]")
    frame[CREATED] = pd.Series(seen_at, index=frame.index).astype("datetime64[us, UTC]")
    return frame
