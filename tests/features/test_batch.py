"""Batch features: by hand, against plain Python, and one engine against the other."""

from datetime import timedelta

import duckdb
import pandas as pd
import pyarrow as pa
import pytest

from features.batch import Wanted, fingerprint, rows_duckdb, rows_spark, schema_of
from features.batch_sql import AGGREGATES, DERIVED
from features.definitions import BATCH_VIEWS, BATCH_WINDOW_DAYS, VIEWS, stored_of
from features.definitions import DAY as ONE_DAY
from features.position_curve import MAX_POSITION
from features.request import microseconds
from features.streaming import fold
from infra.spark import JAVA_NEEDED, java_version, open_spark
from tests.features.plain_batch import PlainBatch
from tests.features.small_lake import DAY, POSITIVE, event, item, random_lake, user, write_lake

DAYS = [DAY.date(), DAY.date() - timedelta(days=1), DAY.date() - timedelta(days=40)]
HOURS = [DAY - timedelta(hours=back) for back in (-5, 0, 1, 23, 24, 25, 100)]
CURVES = {
    week: {place: 0.3 / (place + 1) + week * 1e-6 for place in range(MAX_POSITION + 1)}
    for week in range(2915, 2930)  # the first weeks of the lake, and the newest, have none
}
WANTED = Wanted(POSITIVE, DAYS, HOURS, CURVES)

needs_java = pytest.mark.skipif(
    (java_version() or 0) < JAVA_NEEDED, reason=f"Spark needs Java {JAVA_NEEDED} or newer"
)


def by_duckdb(lake, wanted=WANTED):
    with duckdb.connect(config={"threads": 1}) as connection:
        return rows_duckdb(connection, lake, wanted)


def as_of(table: pa.Table, day=DAY) -> dict:
    """Rows of one day by entity, feature values only."""
    names = set(table.column_names)
    keys = [key for key in ("user_id", "item_id", "category") if key in names]
    return {
        tuple(row[key] for key in keys): {n: row[n] for n in names - {*keys, "as_of", "created_at"}}
        for row in table.to_pylist()
        if row["as_of"] == day
    }


def test_every_stored_feature_is_computed_and_no_other():
    stored = {f.column for view in BATCH_VIEWS for f in stored_of(view)}
    assert set(AGGREGATES) | set(DERIVED) == stored
    assert not set(AGGREGATES) & set(DERIVED)
    for view in BATCH_VIEWS:
        assert all((f.window or ONE_DAY) <= BATCH_WINDOW_DAYS * ONE_DAY for f in stored_of(view))


def test_a_mean_is_the_same_in_whatever_order_the_prices_come(tmp_path):
    assert 0.1 + 0.2 + 0.3 != 0.3 + 0.2 + 0.1, "a plain sum would tell the order, or the threads"
    items = [item(name, price=price) for name, price in (("a", 0.1), ("b", 0.2), ("c", 0.3))]
    means = set()
    for order in ("abc", "cba"):
        clicks = [event(f"{n}", 5 - n / 24, item_id=name) for n, name in enumerate(order)]
        lake = write_lake(tmp_path / order, clicks, items, [user("u")])
        means.add(as_of(by_duckdb(lake)["user_daily"])[("u",)]["price_mean_90d"])
    assert means == {0.6 / 3}


def test_an_absurd_price_stops_nothing(tmp_path):
    items = [item("a", price=1e300), item("b", price=2.0)]
    clicks = [event("1", 5, item_id="a"), event("2", 4, item_id="b", user_id="v")]
    lake = write_lake(tmp_path, clicks, items, [user("u"), user("v")])
    rows = as_of(by_duckdb(lake)["user_daily"])
    assert rows[("u",)]["price_mean_90d"] > 1e19
    assert rows[("v",)]["price_mean_90d"] == 2.0


def test_two_users_by_hand(tmp_path):
    lake = write_lake(
        tmp_path,
        [
            event("1", 0.5, "impression"),
            event("2", 0.5, "click"),
            event("3", 2.0, "purchase", item_id="b", session_id="s"),
            event("4", 2.0 - 10 / 1440, "cart", item_id="b", session_id="s"),
            event("5", 40.0, "rating", value=4.0),
            event("6", 0.0, "purchase"),  # at 00:00 of the day itself: not part of it
        ],
        [item("a", price=10.0), item("b", "y", price=40.0)],
        [user("u", days_before=42.0), user("new", days_before=3.0)],
    )
    rows = by_duckdb(lake)
    users = as_of(rows["user_daily"])
    assert users["u",] == {
        "account_age_days": 42.0,
        "purchase_frequency_90d": 1 / 6,  # one in 42 days = 6 weeks
        "purchases_30d": 1,
        "positives_7d": 3,
        "positives_30d": 3,
        "sessions_30d": 2,
        "session_minutes_mean_30d": pytest.approx((0 + 10) / 2),
        "active_days_30d": 2,
        "user_click_rate_30d": (1 + 1) / (1 + 20),
        "user_coec_30d": (0 + 1)
        / (0.05 + 1),  # shown once in a week without a curve; no slate click
        "price_mean_90d": (10 + 40 + 40 + 10) / 4,
        "price_quantile_90d": 0.5,  # each item is alone in its category
        "categories_90d": 2,
        "user_idle_days": 0.5,
    }
    assert users["new",]["account_age_days"] == 3.0
    assert users["new",]["user_idle_days"] == 90.0
    items = as_of(rows["item_daily"])
    assert items["a",]["item_rating_90d"] == 4.0
    assert items["b",]["item_trend_7d"] == pytest.approx((2 / 7 + 1) / (2 / 30 + 1))
    assert items["b",]["item_trend_7d_v2"] == pytest.approx((2 + 1) / (2 * 7 / 30 + 1))
    assert items["b",]["item_repeat_share_90d"] == 1.0  # one user, twice
    assert as_of(rows["user_category_daily"]) == {
        ("u", "x"): {
            "category_positives_30d": 1,
            "category_positives_90d": 2,
            "category_share_90d": 2 / 4,
            "category_coec_30d": pytest.approx(1 / 1.05),
            "category_idle_days": 0.5,
        },
        ("u", "y"): {
            "category_positives_30d": 2,
            "category_positives_90d": 2,
            "category_share_90d": 2 / 4,
            "category_coec_30d": 1.0,
            "category_idle_days": pytest.approx(2.0 - 10 / 1440),
        },
    }


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_values_equal_a_slow_reading_in_plain_python(tmp_path, seed):
    events, items, users = random_lake(tmp_path, seed)
    rows = by_duckdb(tmp_path)
    keys = {
        "user_daily": [(f"u{number}",) for number in range(9)],
        "item_daily": [(f"i{number}",) for number in range(12)],
        "item_hourly": [(f"i{number}",) for number in range(12)],
        "user_category_daily": [(f"u{n}", c) for n in range(9) for c in "xyz"],
    }
    for view, entities in keys.items():
        moments = HOURS if view == "item_hourly" else (DAY, DAY - timedelta(days=40))
        for day in moments:
            plain = PlainBatch(events, items, users, day, POSITIVE, CURVES)
            got = as_of(rows[view], day)
            expected = {key: getattr(plain, view)(*key) for key in entities}
            expected = {key: values for key, values in expected.items() if values is not None}
            assert set(got) == set(expected)
            for key, values in expected.items():
                assert got[key] == pytest.approx(values, rel=1e-9), (view, key, day)


def test_a_row_is_stamped_with_its_day_and_known_after_the_lag(tmp_path):
    random_lake(tmp_path)
    for view, table in by_duckdb(tmp_path).items():
        assert table.schema == schema_of(view)
        days = {DAY, DAY - timedelta(days=1), DAY - timedelta(days=40)}
        asked = days if VIEWS[view].every == ONE_DAY else set(HOURS)
        assert set(table["as_of"].to_pylist()) <= asked
        for row in table.select(["as_of", "created_at"]).to_pylist():
            assert row["created_at"] == row["as_of"] + VIEWS[view].lag
        keys = table.select([*VIEWS[view].entity, "as_of"]).to_pandas()
        assert not keys.duplicated().any()


def test_events_after_the_day_change_nothing(tmp_path):
    events, items, users = random_lake(tmp_path / "all")
    write_lake(tmp_path / "past", [e for e in events if e["event_at"] < DAY], items, users)
    wanted = Wanted(POSITIVE, DAYS, [hour for hour in HOURS if hour <= DAY], CURVES)
    past = by_duckdb(tmp_path / "past", wanted)
    for view, table in by_duckdb(tmp_path / "all", wanted).items():
        assert table.equals(past[view])


def test_an_item_that_comes_later_moves_nobodys_place(tmp_path):
    """A level among the whole catalogue of today would know what was launched since."""
    there = [item("a", price=10.0), item("b", price=30.0)]
    new = item("new", price=1.0, created_at=DAY - timedelta(days=2))  # after Monday the 23rd
    clicks = [event("1", 1, item_id="b"), event("2", 1, item_id="new")]
    found = [
        by_duckdb(write_lake(tmp_path / str(len(items)), clicks, items, [user("u")]))
        for items in (there, [*there, new])
    ]
    for rows in found:
        items = as_of(rows["item_daily"])
        assert [items[name,]["item_price_quantile"] for name in "ab"] == [0.25, 0.75]
        assert as_of(rows["user_daily"])["u",]["price_quantile_90d"] == 0.75  # of b alone
    assert items["new",]["item_price_quantile"] == 0.5


def test_only_the_views_whose_moments_are_wanted_are_computed(tmp_path):
    random_lake(tmp_path)
    all_rows = by_duckdb(tmp_path)
    assert set(all_rows) == set(BATCH_VIEWS)
    hourly = by_duckdb(tmp_path, Wanted(POSITIVE, hours=HOURS, curves=CURVES))
    assert set(hourly) == {"item_hourly"}
    assert hourly["item_hourly"].equals(all_rows["item_hourly"])


def test_when_its_last_event_is_a_day_old_an_item_gets_a_row_of_defaults(tmp_path):
    """The row says that nothing is left; afterwards there is no row, which means the same."""
    write_lake(tmp_path, [event("1", 24.5 / 24)], [item("a")], [user("u")])
    hours = [DAY + timedelta(hours=step) for step in range(-1, 2)]
    (row,) = by_duckdb(tmp_path, Wanted(POSITIVE, hours=hours))["item_hourly"].to_pylist()[1:]
    assert row["as_of"] == DAY
    assert {f.column: row[f.column] for f in stored_of("item_hourly")} == {
        f.column: f.default for f in stored_of("item_hourly")
    }


def test_a_changed_definition_has_another_fingerprint(monkeypatch):
    before = {view: fingerprint(view, POSITIVE) for view in BATCH_VIEWS}
    assert before == {view: fingerprint(view, POSITIVE) for view in BATCH_VIEWS}
    monkeypatch.setitem(AGGREGATES, "item_positives_7d", AGGREGATES["item_purchases_30d"])
    after = {view: fingerprint(view, POSITIVE) for view in BATCH_VIEWS}
    assert {view for view in BATCH_VIEWS if before[view] != after[view]} == {"item_daily"}
    other = {view: fingerprint(view, ["purchase"]) for view in BATCH_VIEWS}
    assert not set(other.values()) & set(after.values())


def test_the_fold_and_the_batch_agree_at_midnight(tmp_path):
    events, *_ = random_lake(tmp_path)
    rows = as_of(by_duckdb(tmp_path)["user_daily"])
    for (user_id,), batch in rows.items():
        state = None
        mine = [e for e in events if e["user_id"] == user_id and e["event_at"] < DAY]
        for each in sorted(mine, key=lambda e: (e["event_at"], e["event_id"])):
            at_us = microseconds(each["event_at"])
            state, _ = fold(state, {**each, "event_at": at_us}, POSITIVE)
        if state is None:
            continue
        since_us = microseconds(DAY - timedelta(days=7))
        assert sum(at >= since_us for at in state["history_at"]) == batch["positives_7d"]
        idle_days = (microseconds(DAY) - state["history_at"][0]) / 86_400e6
        assert min(idle_days, 90.0) == pytest.approx(batch["user_idle_days"])


@pytest.mark.spark
@needs_java
def test_spark_and_duckdb_agree_on_every_value(tmp_path):
    random_lake(tmp_path / "it's a lake", seed=5)
    expected = by_duckdb(tmp_path / "it's a lake")
    with open_spark() as spark:
        got = rows_spark(spark, tmp_path / "it's a lake", WANTED)
    assert set(got) == set(expected)
    for view, table in expected.items():
        assert len(table) > 10
        assert got[view].schema == table.schema
        pd.testing.assert_frame_equal(got[view].to_pandas(), table.to_pandas(), rtol=1e-12)
