from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
import pytest

from features.feature_set import CURRENT
from features.request import microseconds
from pipelines.past import NEW_ITEM, Past, busiest, in_us, ranked_requests, read_past


@pytest.fixture
def past(shop) -> Past:
    return read_past(shop.workspace)


def daily_of(past: Past, moment: datetime) -> np.ndarray:
    return np.zeros((len(past.known(moment)), len(CURRENT.item)))


def test_parts_do_not_depend_on_what_comes_later(past: Past, shop) -> None:
    moment = shop.split.test_from
    us = microseconds(moment)
    keep = past.positives["event_us"] < us
    forgetful = Past(
        past.info,
        past.items,
        past.positives[keep],
        np.where(past.first_us < us, past.first_us, np.iinfo(np.int64).max),
        past.vocabulary,
    )
    one = past.parts(moment, daily_of(past, moment), None)
    other = forgetful.parts(moment, daily_of(past, moment), None)
    assert one.popular.tolist() == other.popular.tolist()
    assert one.items.equals(other.items)
    assert one.covisitation is not None
    assert other.covisitation is not None
    np.testing.assert_array_equal(one.covisitation.ix, other.covisitation.ix)
    assert busiest(past.before(moment)) == busiest(forgetful.before(moment))
    later = past.parts(shop.split.end, daily_of(past, shop.split.end), None)
    assert later.popular.tolist() != one.popular.tolist()


def test_an_interval_is_closed_below_and_open_above(past: Past) -> None:
    times = past.positives["event_us"].to_numpy()
    at = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=int(times[10]))
    assert (past.before(at)["event_us"] < times[10]).all()
    assert len(past.before(at)) + len(past.between(at, at + timedelta(days=999))) == len(times)


def test_a_launched_item_is_known_for_a_while_before_anybody_touches_it() -> None:
    now = datetime(2026, 3, 1, tzinfo=UTC)
    launched = [now - timedelta(days=1), now - NEW_ITEM, now + timedelta(days=1), None]
    items = pd.DataFrame({"created_us": in_us(pd.Series(launched, dtype="datetime64[us, UTC]"))})
    never = np.full(4, np.iinfo(np.int64).max)
    past = Past(None, items, pd.DataFrame(), never, {})  # type: ignore[arg-type]  # not looked at
    assert past.known(now).tolist() == [0]


def test_the_vocabulary_holds_what_occurred_and_a_place_for_the_rest(site) -> None:
    vocabulary = read_past(site.workspace).vocabulary
    assert vocabulary == {
        "category": ("c0", "c1"),
        "device": ("app", "other", "web"),
        "location": ("other",),
    }


def test_clicks_on_a_ranked_slate_are_not_neutral() -> None:
    impression = {"event_type": "impression", "bundle": "b1"}
    events = pd.DataFrame(
        [
            {**impression, "request_id": "ranked", "arms": '{"test": "full"}'},
            {**impression, "request_id": "ranked", "arms": '{"test": "full"}'},
            {**impression, "request_id": "control", "arms": '{"test": "popular"}'},
            {**impression, "request_id": "no test", "arms": None},
            {"event_type": "impression", "request_id": "past", "bundle": None, "arms": None},
            {"event_type": "click", "request_id": "control", "bundle": "b1", "arms": None},
        ]
    )
    assert ranked_requests(events) == {"ranked", "no test"}


def test_history_without_slates_is_all_neutral(past: Past) -> None:
    assert past.positives["is_neutral"].all()
