"""The point-in-time join: only what was known, aligned with the queries, equal to online."""

from dataclasses import replace
from datetime import timedelta

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from features.definitions import BATCH_LAG, BY_NAME
from features.feature_set import CURRENT
from features.point_in_time import item_matrix, user_rows
from features.store import OnlineStore
from infra.clients import open_feast
from infra.workspace import Workspace
from pipelines.build_features import build_features
from pipelines.materialize import apply_views
from tests.features.small_lake import DAY, event, item, user, write_lake
from tests.features.workspaces import CATEGORIES, DAYS, NOW, built_workspace


def at(user_ids, moments) -> pd.DataFrame:
    times = pd.Series(pd.DatetimeIndex(moments, tz="UTC").as_unit("us"))
    return pd.DataFrame({"user_id": list(user_ids), "event_at": times})


def offline_only(home, events, items, users, days=DAYS):
    workspace = Workspace(home, "small")
    write_lake(workspace.lake, events, items, users)
    build_features(workspace, days, engine="duckdb")
    store = open_feast(workspace)
    apply_views(store, workspace.offline)
    return workspace, store


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    return built_workspace(tmp_path_factory.mktemp("pit"))


@pytest.fixture(scope="module")
def feast(workspace):
    return open_feast(workspace)


def test_offline_and_online_give_the_same_row(workspace, feast):
    users = [f"u{number}" for number in range(7)] + ["nobody"]
    online = OnlineStore(feast)
    # The lake goes on after NOW; materialize and the join must both stop there.
    offline = user_rows(feast, at(users, [NOW] * 8), CATEGORIES)
    for user_id, got in zip(users, offline, strict=True):
        expected = online.read_user(user_id, CATEGORIES, NOW)
        assert got == replace(expected, missing=got.missing, age_s={})
        assert set(got.missing) == set(expected.missing)


def test_rows_are_aligned_with_unordered_and_repeated_queries(feast):
    users = ["u3", "nobody", "u1", "u3", "u3", "u0"]
    moments = [NOW, NOW, NOW - timedelta(days=3), NOW - timedelta(days=2), NOW, NOW]
    together = user_rows(feast, at(users, moments), CATEGORIES)
    alone = [
        user_rows(feast, at([user_id], [moment]), CATEGORIES)[0]
        for user_id, moment in zip(users, moments, strict=True)
    ]
    assert together == alone
    assert together[0] == together[4]
    assert together[0] != together[3]


def test_no_queries_no_rows(feast):
    assert user_rows(feast, at([], []), CATEGORIES) == []


def test_a_batch_row_is_unknown_until_the_lag_has_passed(feast):
    before, after = DAY + BATCH_LAG, DAY + BATCH_LAG + timedelta(microseconds=1)
    early, late = user_rows(feast, at(["u1", "u1"], [before, after]), CATEGORIES)
    ages = [row.values["account_age_days"] for row in (early, late)]
    assert ages[1] - ages[0] == pytest.approx(1.0)  # the row of the day before, then the day's


def test_a_row_outlives_its_ttl_in_no_query(feast):
    late = DAY + timedelta(days=2)
    kept, gone = user_rows(
        feast, at(["u1", "u1"], [late, late + timedelta(microseconds=2)]), CATEGORIES
    )
    assert "user_daily" not in kept.missing
    assert {"user_daily", "user_category_daily"} <= set(gone.missing)
    assert gone.values["account_age_days"] == BY_NAME["account_age_days"].default


def test_an_event_at_the_moment_itself_is_not_seen(tmp_path):
    _, store = offline_only(tmp_path, [event("1", 0.25)], [item("a")], [user("u")])
    moment = DAY - timedelta(days=0.25)
    same, next_us = user_rows(
        store, at(["u", "u"], [moment, moment + timedelta(microseconds=1)]), ["x"]
    )
    assert same.history_items == []
    assert next_us.history_items == ["a"]


def test_an_event_that_arrived_late_is_seen_from_its_arrival_on(tmp_path):
    happened, arrived = DAY - timedelta(hours=20), DAY - timedelta(hours=10)
    late = event("1", 20 / 24, seen_at=arrived)
    _, store = offline_only(tmp_path, [late], [item("a")], [user("u")])
    moments = [happened + timedelta(hours=1), arrived + timedelta(seconds=1)]
    before, after = user_rows(store, at(["u", "u"], moments), ["x"])
    assert before.history_items == []
    assert after.history_items == ["a"]


def test_a_join_that_looks_ahead_would_be_caught(tmp_path):
    """The leaky clock: whether an event is a click is a coin, so nothing known before predicts it.

    Every user has one event. A join on the day of the label reads a row that counts the label, and
    predicts the coin; ours must not, and must give everybody the same row.
    """
    coin = np.random.default_rng(0).random(60) < 0.5
    events = [
        event(f"e{n}", 1.2 + n / 100, "click" if heads else "view", user_id=f"u{n}")
        for n, heads in enumerate(coin)
    ]
    users = [user(f"u{n}") for n in range(60)]
    workspace, store = offline_only(tmp_path, events, [item("a")], users)
    queries = at([e["user_id"] for e in events], [e["event_at"] for e in events])

    ours = user_rows(store, queries, ["x"])
    assert {row.values["positives_7d"] for row in ours} == {0.0}
    assert {tuple(row.history_items) for row in ours} == {()}
    assert all(row.category_rows == {} for row in ours)

    daily = pq.read_table(workspace.offline / "user_daily").to_pandas()
    daily["date"] = (daily["as_of"] - pd.Timedelta(days=1)).dt.date  # the day that it describes
    leaky = queries.assign(date=queries["event_at"].dt.date).merge(daily, on=["user_id", "date"])
    assert len(leaky) == 60
    np.testing.assert_array_equal(leaky["positives_7d"].to_numpy() > 0, coin)

    stream = pq.read_table(workspace.offline / "user_stream.parquet").to_pandas()
    inclusive = pd.merge_asof(
        queries.sort_values("event_at"), stream.sort_values("as_of"),
        left_on="event_at", right_on="as_of", by="user_id",
    ).sort_values("event_at", ascending=False)  # fmt: skip
    np.testing.assert_array_equal(inclusive["positives_24h"].to_numpy() > 0, coin)


def test_a_backfilled_row_is_not_known_before_it_was_made(tmp_path):
    workspace, store = offline_only(tmp_path, [event("1", 3)], [item("a")], [user("u")])
    for path in workspace.offline.glob("user_daily/*.parquet"):
        frame = pq.read_table(path)
        made = pd.Series([NOW + timedelta(days=1)] * len(frame)).astype("datetime64[us, UTC]")
        column = frame.schema.get_field_index("created_at")
        pq.write_table(frame.set_column(column, frame.schema.field(column), [made]), path)
    (row,) = user_rows(store, at(["u"], [NOW]), ["x"])
    assert "user_daily" in row.missing


def test_item_matrix_has_a_row_per_item_and_defaults_where_unknown(workspace, feast):
    item_ids = ["i3", "nobody", "i0", "i3"]
    moments = [NOW, NOW - timedelta(days=2), DAY - timedelta(days=300)]
    got = item_matrix(feast, item_ids, moments)
    assert list(got) == moments
    columns = CURRENT.item
    assert all(matrix.shape == (4, len(columns)) for matrix in got.values())
    np.testing.assert_array_equal(got[NOW], OnlineStore(feast).read_items(item_ids, NOW).matrix)
    np.testing.assert_array_equal(got[NOW][0], got[NOW][3])
    assert not np.array_equal(got[moments[0]], got[moments[1]])
    assert (got[moments[2]] == [f.default for f in columns]).all()
    assert item_matrix(feast, [], [NOW])[NOW].shape == (0, len(columns))
