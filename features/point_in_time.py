"""Features as they were known at past moments: the training side of features/store.py.

Three clocks decide what a query at moment t may see, and all must lie before t:

    as_of       the moment whose state a row describes
    created_at  the moment the row became known: a batch row of day D only at D + BATCH_LAG
    t           exclusive. An event at exactly t is what the label will be; Feast's join includes
                equality, so it is asked for t - 1 µs.

The joins are Feast's (`filter_by_created_timestamp=True`, TTL from the definitions). Two detours
keep them small: categories are asked only for (user, category) pairs that exist at all, and the
history lists are fetched afterwards by (user, version), because the join sorts every candidate row.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.dataset as ds

from features.definitions import HISTORY_AT, HISTORY_ITEMS, LAST_EVENT_AT, VERSION, of_view
from features.request import STORED_USER_VIEWS, UserRow
from features.store import user_row

MOMENT = "event_timestamp"
"""Feast's name for the moment asked for."""

JUST_BEFORE = pd.Timedelta(microseconds=1)

QUERY = "query"
"""Place of a query in the caller's frame; Feast's join keeps rows but not their order."""


def user_rows(store: Any, queries: pd.DataFrame, categories: Sequence[str]) -> list[UserRow]:
    """What was known about each query's user just before its moment.

    Args:
        store: an opened `feast.FeatureStore` whose views are applied.
        queries: columns user_id (str) and event_at (`datetime64[us, UTC]`); any order, repeats
            allowed.
        categories: names to look for, the vocabulary of the bundle.

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
            MOMENT: _just_before(queries["event_at"]),
            QUERY: np.arange(len(queries)),
        }
    )
    found = _joined(store, asked, _user_references())
    histories = _histories(store, found)
    per_category = _category_rows(store, asked, categories)
    return [
        _one(row, histories, per_category.get(row[QUERY], {})) for row in found.to_pylist()
    ]  # `found` is in the order of the queries


def item_matrix(
    store: Any, item_ids: Sequence[str], moments: Sequence[datetime]
) -> dict[datetime, np.ndarray]:
    """item_daily of every item at every moment.

    Args:
        store: as in `user_rows`.
        item_ids: (N,) ids, in the order of the rows.
        moments: UTC.

    Returns:
        moment -> (N, Fi) float64 in the order of of_view("item_daily"); defaults where unknown.
    """
    columns = of_view("item_daily")
    N, M = len(item_ids), len(moments)
    if not N or not M:
        return {moment: np.empty((N, len(columns))) for moment in moments}
    times = _just_before(pd.Series(pd.DatetimeIndex(list(moments))))
    asked = pd.DataFrame(
        {
            "item_id": np.tile(np.asarray(item_ids, dtype=object), M),
            MOMENT: times.repeat(N),
            QUERY: np.arange(N * M),
        }
    )
    found = _joined(store, asked, [f"item_daily:{f.name}" for f in columns])
    values = [found[f.name].cast(pa.float64()).fill_null(f.default).to_numpy() for f in columns]
    matrix = np.column_stack(values).reshape(M, N, len(columns))
    return dict(zip(moments, matrix, strict=True))


def _joined(store: Any, asked: pd.DataFrame, references: list[str]) -> pa.Table:
    """Feast's point-in-time join, back in the order of the queries."""
    job = store.get_historical_features(
        entity_df=asked, features=references, filter_by_created_timestamp=True
    )
    found: pa.Table = job.to_arrow().sort_by(QUERY)
    assert found.num_rows == len(asked), f"{len(asked)} queries gave {found.num_rows} rows"
    return found


def _user_references() -> list[str]:
    names = [f"{view}:{f.name}" for view in STORED_USER_VIEWS for f in of_view(view)]
    return [*names, f"user_stream:{LAST_EVENT_AT}", f"user_stream:{VERSION}"]


def _just_before(moments: pd.Series) -> pd.DatetimeIndex:
    return pd.DatetimeIndex(moments).as_unit("us") - JUST_BEFORE


def _histories(store: Any, found: pa.Table) -> dict[tuple[str, int], tuple[list, list]]:
    """(user, version) -> items and times of the history, of the versions that the join chose."""
    path = store.get_feature_view("user_stream").batch_source.path
    versions = found[VERSION].drop_null().unique()
    table = ds.dataset(path).to_table(
        columns=["user_id", VERSION, HISTORY_ITEMS, HISTORY_AT],
        filter=ds.field(VERSION).isin(versions),
    )
    lists = zip(table[HISTORY_ITEMS].to_pylist(), table[HISTORY_AT].to_pylist(), strict=True)
    keys = zip(table["user_id"].to_pylist(), table[VERSION].to_pylist(), strict=True)
    return dict(zip(keys, lists, strict=True))


def _category_rows(
    store: Any, asked: pd.DataFrame, categories: Sequence[str]
) -> dict[int, dict[str, dict[str, float]]]:
    """By query and category; a pair that never has a row needs no join to be absent."""
    path = store.get_feature_view("user_category_daily").batch_source.path
    table = ds.dataset(path).to_table(
        columns=["user_id", "category"], filter=ds.field("category").isin(list(categories))
    )
    pairs = table.group_by(["user_id", "category"]).aggregate([]).to_pandas()
    crossed = asked.merge(pairs, on="user_id")
    if crossed.empty:
        return {}
    columns = of_view("user_category_daily")
    crossed = crossed.rename(columns={QUERY: "owner"}).assign(**{QUERY: np.arange(len(crossed))})
    found = _joined(store, crossed, [f"user_category_daily:{f.name}" for f in columns])
    found = found.filter(found[columns[0].name].is_valid())
    values = zip(*(found[f.name].cast(pa.float64()).to_pylist() for f in columns), strict=True)
    names = [f.name for f in columns]
    out: dict[int, dict[str, dict[str, float]]] = {}
    owners, known = found["owner"].to_pylist(), found["category"].to_pylist()
    for owner, category, row in zip(owners, known, values, strict=True):
        out.setdefault(owner, {})[category] = dict(zip(names, row, strict=True))
    return out


def _one(
    row: dict[str, Any],
    histories: dict[tuple[str, int], tuple[list, list]],
    category_rows: dict[str, dict[str, float]],
) -> UserRow:
    """A UserRow from one joined row, where null means that a view had none."""
    found: dict[str, dict[str, Any]] = {}
    for view in STORED_USER_VIEWS:
        names = [f.name for f in of_view(view)]
        if row[names[0]] is not None:
            found[view] = {name: row[name] for name in names}
    if "user_stream" in found:
        items, times = histories[row["user_id"], row[VERSION]]
        found["user_stream"] |= {
            HISTORY_ITEMS: items, HISTORY_AT: times, LAST_EVENT_AT: row[LAST_EVENT_AT]
        }  # fmt: skip
    missing = [view for view in STORED_USER_VIEWS if view not in found]
    if not category_rows:
        missing.append("user_category_daily")
    return user_row(found, category_rows, missing=tuple(missing), age_s={})
