"""Online reads and writes of features, through an opened Feast store.

A read asks the online store directly with views that were looked up once: the request path never
touches the registry, which another process may be rewriting. Three things that Feast leaves to its
caller are done here: a row older than its view's TTL counts as missing, absent values become the
definition's defaults, and an older push never overwrites a newer one. Which backend holds the rows
is not known here; its way to write and its errors come with the opened store.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

import numpy as np
import pandas as pd

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

    def __init__(self, store: Any, views: Mapping[str, Any] | None = None) -> None:
        """Look the views up.

        Args:
            store: an opened store (infra/clients.py) whose views are applied. Beside Feast's own
                methods it has `read_many`, `write_newer`, and `away`, the errors of a store that
                does not answer; all of them are raised here as FeaturesUnavailable.
            views: Feast's views by name; None = as the registry has them. Who gives them needs no
                registry, and starts also where it is lost.

        Raises:
            FeaturesUnavailable: the views are not applied yet.
        """
        known = views or {view.name: view for view in store.list_feature_views()}
        stored = [view.name for view in VIEWS.values() if view.source != "request"]
        if absent := [name for name in stored if name not in known]:
            raise FeaturesUnavailable(
                f"the feature registry has no view {', '.join(absent)}; run `shortlist features`"
            )
        self._store = store
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
        keys = [{"user_id": user_id, "category": category} for category in categories]
        asked = [(view, [{"user_id": user_id}]) for view in USER_VIEWS]
        answers = self._read_many([*asked, *((view, keys) for view in PAIR_VIEWS)])
        found = {view: rows[0] for view, rows in zip(USER_VIEWS, answers, strict=False)}
        rows: dict[str, dict[str, Any]] = {}
        moments: dict[str, datetime | None] = {}
        for view, per_category in zip(PAIR_VIEWS, answers[len(USER_VIEWS) :], strict=True):
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
            # A clock that was set back makes rows of the future: they are new, not of negative age.
            age_s={
                v: max((now - m).total_seconds(), 0.0) for v, m in moments.items() if m is not None
            },
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

    def read_versions(self, user_ids: Sequence[str], view: str = "user_stream") -> dict[str, int]:
        """The version that is stored of each user (or item); 0 where there is no row."""
        key = VIEWS[view].entity[0]
        rows = self._read(view, [{key: u} for u in user_ids], only=[VERSION])
        return {u: row.get(VERSION, 0) for u, (_, row) in zip(user_ids, rows, strict=True)}

    def read_item_stream(self, item_ids: Sequence[str]) -> dict[str, dict[str, int]]:
        """Every column of `item_stream` as it is stored; only items with a row."""
        rows = self._read("item_stream", [{"item_id": item_id} for item_id in item_ids])
        return {i: row for i, (_, row) in zip(item_ids, rows, strict=True) if row}

    def push(self, view: str, rows: Mapping[str, Mapping[str, Any]]) -> int:
        """Write the rows of a stream view that are newer than what is stored.

        Args:
            view: `user_stream` or `item_stream`.
            rows: entity id -> every column of the view, in absolute values, with its version.

        Returns:
            How many rows were written.

        Raises:
            FeaturesUnavailable: the store does not answer; some rows may be written. Push again.
        """
        key = VIEWS[view].entity[0]
        encoded = [
            (_entity({key: name}), row[VERSION], _as_of(row[VERSION]), _values(view, row))
            for name, row in rows.items()
        ]
        with answering(self._store):
            return self._store.write_newer(self._views[view], encoded, VERSION)

    def push_user_stream(self, rows: pd.DataFrame) -> int:
        """As `push`, for a frame with user_id and every column of `user_stream`.

        Of several rows of one user the one with the highest version counts.
        """
        newest = rows.sort_values(VERSION).drop_duplicates("user_id", keep="last")
        names = [f.column for f in stored_of("user_stream")] + list(STREAM_COLUMNS)
        records = newest[["user_id", *names]].to_dict("records")
        named = [{str(name): value for name, value in row.items()} for row in records]
        return self.push("user_stream", {row.pop("user_id"): row for row in named})

    def _read(
        self, view: str, keys: Sequence[dict[str, str]], only: Sequence[str] = ()
    ) -> list[Stored]:
        """One row per key, in order; of all columns unless some are named."""
        return self._read_many([(view, keys)], only)[0]

    def _read_many(
        self, asked: Sequence[tuple[str, Sequence[dict[str, str]]]], only: Sequence[str] = ()
    ) -> list[list[Stored]]:
        """As `_read`, of several views; SQLite takes at most READ_LIMIT keys in one statement."""
        parts = [
            (place, view, [_entity(key) for key in keys[start : start + READ_LIMIT]])
            for place, (view, keys) in enumerate(asked)
            for start in range(0, len(keys), READ_LIMIT)
        ]
        with answering(self._store):  # each with a list of names of its own: Feast appends to it
            answers = self._store.read_many(
                [(self._views[view], protos, list(only) or None) for _, view, protos in parts]
            )
        out: list[list[Stored]] = [[] for _ in asked]
        for (place, _, _), rows in zip(parts, answers, strict=True):
            out[place] += [_row(as_of, values) for as_of, values in rows]
        return out


def _entity(key: Mapping[str, str]) -> Any:
    # Feast is there already, with whoever opened the store; this file must not need it.
    from feast.protos.feast.types.EntityKey_pb2 import EntityKey
    from feast.protos.feast.types.Value_pb2 import Value

    return EntityKey(join_keys=list(key), entity_values=[Value(string_val=v) for v in key.values()])


def _as_of(version: int) -> datetime:
    return EPOCH + timedelta(microseconds=version)


def _values(view: str, row: Mapping[str, Any]) -> dict[str, Any]:
    """A row's columns as Feast's own values."""
    from feast.protos.feast.types.Value_pb2 import Int64List, StringList, Value

    floats = _FLOATS[view]
    found = {
        name: Value(double_val=value) if name in floats else Value(int64_val=int(value))
        for name, value in row.items()
        if name not in (HISTORY_ITEMS, HISTORY_AT)
    }
    if view == "user_stream":
        found[HISTORY_ITEMS] = Value(string_list_val=StringList(val=row[HISTORY_ITEMS]))
        found[HISTORY_AT] = Value(int64_list_val=Int64List(val=row[HISTORY_AT]))
    return found


_FLOATS = {view: {f.column for f in stored_of(view) if f.dtype == "float"} for view in VIEWS}
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


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
