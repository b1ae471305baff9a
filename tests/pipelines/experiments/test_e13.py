"""Told late: what a shop knows is what is old enough, and nothing else about it differs."""

from datetime import UTC, datetime, timedelta
from functools import partial

import numpy as np
import pytest

from features.definitions import BATCH_LAG
from features.feature_set import CURRENT
from features.request import microseconds
from pipelines.experiments import e13
from pipelines.experiments.line import Lived, lived
from pipelines.experiments.staleness import LateCounts, LateShop, Past, items_of, late, users_of
from pipelines.lake import read_events
from pipelines.loop.morning import first_states
from pipelines.loop.shop import BatchRows

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


def click(item_id, at):
    us = microseconds(at)
    return {
        "event_id": f"click {item_id}", "event_type": "click", "user_id": "u", "item_id": item_id,
        "session_id": "s", "event_at": us, "seen_at": us,
    }  # fmt: skip


def ten_minutes(shop):
    """The shop after a click at noon and one five minutes later, asked at three moments."""
    shop.fold(click("a", NOON))
    shop.fold(click("b", NOON + 5 * MINUTE))
    return [shop.user("u", NOON + minutes * MINUTE) for minutes in (9, 10, 15)]


def test_who_is_told_late_knows_only_what_is_old_enough(line):
    nobody = BatchRows({}, {})
    early, then, later = ten_minutes(LateShop(line.bundle, nobody, {}, late_us=600_000_000))
    assert early.history_items == []
    assert then.history_items == ["a"], "ten minutes old to the microsecond"
    assert later.history_items == ["b", "a"]
    assert [row.values["positives_24h"] for row in (early, then, later)] == [0, 1, 2]


def test_counts_may_be_late_while_the_list_is_not(line):
    rows = ten_minutes(LateCounts(line.bundle, BatchRows({}, {}), {}, late_us=600_000_000))
    assert [row.history_items for row in rows] == [["b", "a"]] * 3
    assert [row.values["positives_24h"] for row in rows] == [0, 1, 2]


@pytest.fixture(scope="module")
def trained(line, teaching):
    return line.fit(teaching)


def test_told_at_once_is_the_shop_as_it_is(line, trained):
    as_it_is = lived(line, partial(line.shop, trained), 1)
    assert lived(line, late(line, trained, timedelta(0)), 1) == as_it_is
    assert lived(line, late(line, trained, timedelta(hours=24)), 1) != as_it_is


def test_a_days_delay_takes_the_last_day_of_the_log_back(line):
    until = line.now - timedelta(hours=24)
    past = Past.of(line, until)
    waiting = [event for queue in past.waiting.values() for event in queue]
    events = read_events(line.workspace.lake, columns=["seen_at"])
    assert len(waiting) == (events["seen_at"] > until).sum() > 0
    assert min(event["seen_at"] for event in waiting) > microseconds(until)
    whole = Past.of(line, line.now - BATCH_LAG)
    assert not whole.waiting
    assert whole.states == first_states(line.workspace)


def test_rows_of_a_week_ago_are_a_week_younger(line, trained):
    old, new = users_of(line, trained, e13.WEEK)().rows, line.shop(trained).rows
    ages = [
        (old.users[user][1]["account_age_days"], row[1]["account_age_days"])
        for user, row in new.users.items()
        if user in old.users
    ]
    assert len(ages) > 50
    assert all(then == pytest.approx(now - 7) for then, now in ages)
    place = [feature.name for feature in CURRENT.item].index("item_age_days")
    then, now = (
        bundle.catalogue.matrix[:, place]
        for bundle in (items_of(line, trained, e13.WEEK)().bundle, line.bundle)
    )
    known = then > 0
    assert known.sum() > 100
    assert np.allclose(then[known], now[known] - 7)


def test_losses_are_shares_of_what_is_earned_fresh():
    fresh, day, hour = Lived(100, 0.8, 0.9), Lived(100, 0.6, 0.6), Lived(100, 0.72, 0.7)
    found = {name: fresh for name in e13.LATE} | {"1h": hour, "24h": day}
    found |= {e13.COUNTS: fresh, e13.USER: Lived(100, 0.76, 0.7), e13.ITEM: fresh}
    flat = {"0s": Lived(100, 1.0, 1.0), "24h": Lived(100, 0.9, 1.0)}
    values = e13.graded(found, flat).values
    assert values["lost_24h"] == pytest.approx(0.25)
    assert values["counted_lost_24h"] == pytest.approx(1 / 3)
    assert values["lost_24h_by_intent"] == pytest.approx(0.25 - 0.1)
    assert values["hour_minus_user_week"] == pytest.approx(0.1 - 0.05)
    assert {claim.effect for claim in e13.CARD.claims} <= set(values)
    assert {e13.CARD.observed, e13.CARD.true} <= set(values)
