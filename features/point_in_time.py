"""Features as they were known at past moments: the training side of features/store.py.

Three clocks decide what a query at moment t may see, and all must lie before t:

    as_of       the moment whose state a row describes
    created_at  the moment the row became known: a batch row of day D only at D + BATCH_LAG
    t           exclusive. An event at exactly t is what the label will be; Feast's join includes
                equality, so it is asked for t - 1 µs.

The joins are Feast's (`filter_by_created_timestamp=True`, TTL from the definitions). Two detours
keep them small: categories are asked only for (user, category) pairs that exist at all, and the
history lists are fetched afterwards by (user, version), because the join sorts every candidate row.

A `leak` asks at a wrong moment on purpose, so that its harm can be shown: `day-end` takes the state at
the end of the label's own day, `latest` the newest there is, and both ignore when it became known.
"""

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

from features.batch import AS_OF
from features.definitions import (
    HISTORY_AT,
    HISTORY_ITEMS,
    LAST_EVENT_AT,
    PAIR_VIEWS,
    USER_VIEWS,
    VERSION,
    Feature,
    stored_of,
)
from features.feature_set import CURRENT
from features.request import UserRow
from features.store import user_row

Leak = Literal["none", "day-end", "latest"]
"""How far a training set looks ahead; everything but `none` is a demonstration of a mistake."""

MOMENT = "event_timestamp"
"""Feast's name for the moment asked for."""

JUST_BEFORE = pd.Timedelta(microseconds=1)

QUERY = "query"
"""Place of a query in the caller's frame; Feast's join keeps rows but not their order."""


def user_rows(
    store: Any, queries: pd.DataFrame, categories: Sequence[str], leak: Leak = "none"
) -> list[UserRow]:
    """What was known about each query's user just before its moment.

    Args:
        store: an opened `feast.FeatureStore` whose views are applied.
        queries: columns user_id (str) and event_at (`datetime64[us, UTC]`); any order, repeats
            allowed.
        categories: names to look for, the vocabulary of the bundle.
        leak: `none`, unless a mistake is to be shown.

    Returns:
        One UserRow per query, in order; `missing` as online, `age_s` empty (Feast does not say).

    Interview: What is a point-in-time join, and how does it usually leak?
        For each label it takes the newest feature row that was *known* before it. It leaks by
        joining on the day of the label (the row counts the label itself), by taking `<=` where the
        label's own event is already folded in, and by trusting a row's time when the row was
        computed later: a backfilled row is stamped in the past.
        Trade-off: strictness costs freshness; rows are treated as late as the slowest pipeline
        makes them.
        Shown by: tests/features/test_point_in_time.py::test_a_join_that_looks_ahead_would_be_caught
    """
    if queries.empty:
        return []
    asked = pd.DataFrame(
        {
            "user_id": queries["user_id"].to_numpy(),
            MOMENT: _asked_at(store, queries["event_at"], leak),
            QUERY: np.arange(len(queries)),
        }
    )
    found = _joined(store, asked, _user_references(), leak)
    histories = _histories(store, found)
    per_category = _category_rows(store, asked, categories, leak)
    return [
        _one(row, histories, per_category.get(row[QUERY], {})) for row in found.to_pylist()
    ]  # `found` is in the order of the queries


def item_rows(
    store: Any,
    item_ids: Sequence[str],
    moments: Sequence[datetime],
    columns: Sequence[Feature] = CURRENT.item,
    leak: Leak = "none",
) -> np.ndarray:
    """What was known about items just before moments, one of each per row; repeats cost nothing.

    Args:
        store: as in `user_rows`.
        item_ids: (R,) ids.
        moments: (R,) UTC.
        columns: features of items, in the order wanted.
        leak: as in `user_rows`.

    Returns:
        (R, Fi) float64; defaults where unknown.
    """
    if not len(item_ids):
        return np.empty((0, len(columns)))
    pairs = pd.DataFrame({"item_id": np.asarray(item_ids, dtype=object), "at": list(moments)})
    place = pairs.groupby(["item_id", "at"], sort=False).ngroup().to_numpy()
    distinct = pairs.drop_duplicates(ignore_index=True)
    asked = pd.DataFrame(
        {
            "item_id": distinct["item_id"],
            MOMENT: _asked_at(store, distinct["at"], leak),
            QUERY: np.arange(len(distinct)),
        }
    )
    made = [f for f in columns if _files(store, f.view)]  # a view that nobody runs has none
    values = np.tile([f.default for f in columns], (len(distinct), 1)).astype(np.float64)
    if made:
        names = [f.column for f in made]
        views = list(dict.fromkeys(f.view for f in made))
        found = _joined(store, asked, _references(views, names), leak)
        for f in made:
            known = found[f.column].cast(pa.float64()).fill_null(f.default)
            values[:, columns.index(f)] = known.to_numpy()
    return values[place]


def item_matrix(
    store: Any,
    item_ids: Sequence[str],
    moments: Sequence[datetime],
    columns: Sequence[Feature] = CURRENT.item,
) -> dict[datetime, np.ndarray]:
    """`item_rows` of every item at every moment: moment -> (N, Fi)."""
    N, M = len(item_ids), len(moments)
    rows = item_rows(store, list(item_ids) * M, [m for m in moments for _ in range(N)], columns)
    return dict(zip(moments, rows.reshape(M, N, len(columns)), strict=True))


def _joined(store: Any, asked: pd.DataFrame, references: list[str], leak: Leak) -> pa.Table:
    """Feast's point-in-time join, back in the order of the queries."""
    job = store.get_historical_features(
        entity_df=asked, features=references, filter_by_created_timestamp=leak == "none"
    )
    found: pa.Table = job.to_arrow().sort_by(QUERY)
    assert found.num_rows == len(asked), f"{len(asked)} queries gave {found.num_rows} rows"
    return found


def _asked_at(store: Any, moments: pd.Series, leak: Leak) -> pd.DatetimeIndex:
    """The moment up to which, itself included, each query may see."""
    times = pd.DatetimeIndex(moments).tz_convert("UTC").as_unit("us")
    if leak == "none":
        return times - JUST_BEFORE
    if leak == "day-end":
        return times.floor("D") + pd.Timedelta(days=1)
    newest = max(pc.max(_read(store, "user_daily", [AS_OF])[AS_OF]).as_py(), times.max())
    return pd.DatetimeIndex([newest] * len(times)).as_unit("us")


def _read(store: Any, view: str, columns: list[str], where: Any = None) -> pa.Table:
    """Columns of a view's offline rows."""
    return ds.dataset(_files(store, view)).to_table(columns=columns, filter=where)


def _files(store: Any, view: str) -> list[str]:
    path = Path(store.get_feature_view(view).batch_source.path)
    return sorted(str(file) for file in path.parent.glob(path.name))


def _references(views: Sequence[str], only: Sequence[str] | None = None) -> list[str]:
    return [
        f"{view}:{f.column}"
        for view in views
        for f in stored_of(view)
        if only is None or f.column in only
    ]


def _user_references() -> list[str]:
    return [*_references(USER_VIEWS), f"user_stream:{LAST_EVENT_AT}", f"user_stream:{VERSION}"]


def _histories(store: Any, found: pa.Table) -> dict[tuple[str, int], tuple[list, list]]:
    """(user, version) -> items and times of the history, of the versions that the join chose."""
    versions = found[VERSION].drop_null().unique()
    columns = ["user_id", VERSION, HISTORY_ITEMS, HISTORY_AT]
    table = _read(store, "user_stream", columns, ds.field(VERSION).isin(versions))
    lists = zip(table[HISTORY_ITEMS].to_pylist(), table[HISTORY_AT].to_pylist(), strict=True)
    keys = zip(table["user_id"].to_pylist(), table[VERSION].to_pylist(), strict=True)
    return dict(zip(keys, lists, strict=True))


def _category_rows(
    store: Any, asked: pd.DataFrame, categories: Sequence[str], leak: Leak
) -> dict[int, dict[str, dict[str, float]]]:
    """By query and category; a pair that never has a row needs no join to be absent."""
    out: dict[int, dict[str, dict[str, float]]] = {}
    named = ds.field("category").isin(list(categories))
    for view in PAIR_VIEWS:
        pairs = _read(store, view, ["user_id", "category"], named)
        pairs = pairs.group_by(["user_id", "category"]).aggregate([])
        crossed = asked.merge(pairs.to_pandas(), on="user_id")
        if crossed.empty:
            continue
        crossed = crossed.rename(columns={QUERY: "owner"})
        crossed = crossed.assign(**{QUERY: np.arange(len(crossed))})
        found = _joined(store, crossed, _references([view]), leak)
        names = [f.column for f in stored_of(view)]
        found = found.filter(found[names[0]].is_valid())
        values = zip(*(found[name].cast(pa.float64()).to_pylist() for name in names), strict=True)
        owners, known = found["owner"].to_pylist(), found["category"].to_pylist()
        for owner, category, row in zip(owners, known, values, strict=True):
            cell = out.setdefault(owner, {}).setdefault(category, {})
            cell.update(zip(names, row, strict=True))
    return out


def _one(
    row: dict[str, Any],
    histories: dict[tuple[str, int], tuple[list, list]],
    category_rows: dict[str, dict[str, float]],
) -> UserRow:
    """A UserRow from one joined row, where null means that a view had none."""
    found: dict[str, dict[str, Any]] = {}
    for view in USER_VIEWS:
        names = [f.column for f in stored_of(view)]
        if row[names[0]] is not None:
            found[view] = {name: row[name] for name in names}
    if "user_stream" in found:
        items, times = histories[row["user_id"], row[VERSION]]
        found["user_stream"] |= {
            HISTORY_ITEMS: items, HISTORY_AT: times, LAST_EVENT_AT: row[LAST_EVENT_AT]
        }  # fmt: skip
    missing = [view for view in USER_VIEWS if view not in found]
    if not category_rows:
        missing.extend(PAIR_VIEWS)
    return user_row(found, category_rows, missing=tuple(missing), age_s={})
