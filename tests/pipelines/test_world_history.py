"""The logged past: slates without repeats, exact propensities, effects after causes."""

import itertools

import numpy as np
import pandas as pd
import pytest

from pipelines.world.config import configure
from pipelines.world.generate import WORLD_END, make, make_world
from pipelines.world.history import draw_slates, exploration, policy
from pipelines.world.truth import load_pending
from tests.pipelines.world_kit import tiny

SLATE = 10
ROUGH_WAY = ("duplicates", "late", "skew")


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def past(home):
    """On a way that neither repeats, delays nor misdates anything."""
    return make(configure("tiny", 3, switched_off=ROUGH_WAY), home).history()


@pytest.fixture(scope="module")
def events(past):
    return past.events


def even(n):
    return np.full(n, 1 / n)


def test_propensities_are_the_shares_that_are_drawn():
    popular = np.array([0.6, 0.4] + [0.0] * 10)
    luck = np.arange(60_000, dtype=np.uint64)
    item_ix, propensity = draw_slates(popular, even(12), np.array([0.5, 0.5, 0.8]), luck)
    chance = 0.5 * popular + 0.5 * even(12)
    first = np.bincount(item_ix[:, 0], minlength=12) / len(item_ix)
    assert first == pytest.approx(chance, abs=0.006)
    assert propensity[:, 0] == pytest.approx(chance[item_ix[:, 0]])
    after_0 = item_ix[item_ix[:, 0] == 0]  # given item 0 on top, item 1 has p1 / (1 - p0)
    assert np.mean(after_0[:, 1] == 1) == pytest.approx(chance[1] / (1 - chance[0]), abs=0.01)
    given = propensity[(item_ix[:, 0] == 0) & (item_ix[:, 1] == 1), 1]
    assert given == pytest.approx(chance[1] / (1 - chance[0]))
    lower = 0.2 * popular + 0.8 * even(12)  # the third place explores more
    both = propensity[(item_ix[:, 0] == 0) & (item_ix[:, 1] == 1) & (item_ix[:, 2] == 2), 2]
    assert both == pytest.approx(lower[2] / (1 - lower[0] - lower[1]))


def test_a_slate_shows_nothing_twice_even_when_one_item_takes_nearly_all():
    popular = np.array([1.0] + [0.0] * 11)
    luck = np.arange(50, dtype=np.uint64)
    item_ix, propensity = draw_slates(popular, even(12), np.full(SLATE, 0.02), luck)
    assert item_ix.shape == (50, SLATE)
    assert all(len(set(row)) == SLATE for row in item_ix.tolist())
    assert ((propensity > 0) & (propensity <= 1 + 1e-12)).all()


def test_what_is_shown_to_one_does_not_move_what_is_shown_to_another():
    luck = np.arange(40, dtype=np.uint64)
    popular = np.arange(1.0, 31) / 465
    whole, _ = draw_slates(popular, even(30), exploration(0.5, SLATE), luck)
    part, _ = draw_slates(popular, even(30), exploration(0.5, SLATE), luck[7:9])
    np.testing.assert_array_equal(whole[7:9], part)


def test_popularity_counts_more_than_in_proportion_and_nothing_unlaunched_is_shown():
    chance = policy(np.array([90.0, 30, 0, 5]), np.array([True, True, True, False]))
    assert chance.sum() == pytest.approx(1)
    assert chance[3] == 0
    assert chance[0] > 3 * chance[1] > 3 * chance[2] > 0


def test_exploration_has_its_mean_and_lies_down_the_list():
    explored = exploration(0.3, SLATE)
    assert explored.mean() == pytest.approx(0.3)
    assert (np.diff(explored) > 0).all()
    assert exploration(1.0, SLATE).max() == 1


def test_every_slate_has_ten_places_and_one_user(events):
    shown = events[events["event_type"] == "impression"]
    slates = shown.groupby("request_id")
    assert set(slates["position"].agg(lambda places: tuple(sorted(places)))) == {
        tuple(range(1, 11))
    }
    assert (slates["item_id"].nunique() == SLATE).all()
    assert (slates["user_id"].nunique() == 1).all()
    assert (shown["event_id"] == shown["request_id"] + ":" + shown["position"].astype(str)).all()
    assert shown["propensity"].between(0, 1, inclusive="right").all()


def test_a_slice_of_the_slates_is_random_and_says_so(events):
    shown = events[events["event_type"] == "impression"]
    slates = shown.groupby("request_id")["source"]
    assert (slates.nunique() == 1).all()
    assert (slates.first() == "random").mean() == pytest.approx(0.05, abs=0.02)
    random = shown[shown["source"] == "random"]
    top = random[random["position"] == 1]["propensity"]  # one over what was on sale that day
    assert top.between(1 / 200, 1 / 120).all()


def test_what_follows_a_click_names_its_slate_and_comes_later(events):
    key = ["request_id", "position", "user_id", "item_id"]
    at = {kind: rows.set_index(key)["event_at"] for kind, rows in events.groupby("event_type")}
    chain = ["impression", "click", "cart", "purchase", "rating"]
    for cause, effect in itertools.pairwise(chain):
        causes = at[cause].reindex(at[effect].index)
        assert causes.notna().all()
        assert (at[effect].to_numpy() >= causes.to_numpy()).all()


def test_purchases_carry_money_and_ratings_carry_stars(events):
    assert (events.query("event_type == 'purchase'")["value"] > 0).all()
    assert set(events.query("event_type == 'rating'")["value"]) <= {1.0, 2.0, 3.0, 4.0, 5.0}
    assert events.query("event_type == 'click'")["value"].isna().all()


def test_event_ids_are_unique_unless_a_client_retries(events, tmp_path):
    assert events["event_id"].is_unique
    retried = make(configure("tiny", 3, duplicates=0.2), tmp_path).history().events
    again = retried[retried["event_id"].duplicated()]
    assert set(again["event_type"]) <= {"click", "cart", "purchase", "rating"}
    clicks = (retried["event_type"] == "click").sum()
    assert (again["event_type"] == "click").sum() / clicks == pytest.approx(0.2 / 1.2, abs=0.04)


def test_what_has_not_arrived_by_the_end_waits(home, events):
    assert events["seen_at"].max() < pd.Timestamp(WORLD_END)
    pending = load_pending(home)
    assert (pending["seen_at"] >= pd.Timestamp(WORLD_END)).all()
    assert {"purchase"} <= set(pending["event_type"])
    assert not set(pending["event_id"]) & set(events["event_id"])


def test_late_events_say_when_they_happened_and_when_they_arrived(tmp_path):
    past = make(configure("tiny", 3, late=0.3, switched_off=["skew"]), tmp_path).history().events
    late = past["seen_at"] > past["event_at"]
    assert set(past.loc[late, "event_type"]) <= {"click", "cart", "purchase", "rating"}
    clicks = past["event_type"] == "click"
    assert late[clicks].mean() == pytest.approx(0.3, abs=0.05)


def test_a_wrong_clock_is_wrong_by_minutes_and_always_by_the_same(tmp_path):
    past = make(configure("tiny", 3, skewed=0.5, switched_off=["late"]), tmp_path).history().events
    off = (past["event_at"] - past["seen_at"]).dt.total_seconds()
    assert off.abs().max() <= 120
    assert (off[past["event_type"] == "impression"] == 0).all()
    clicks = off[past["event_type"] == "click"]
    assert (clicks.groupby(past["user_id"]).nunique() == 1).all()
    assert 0.3 < (clicks != 0).mean() < 0.7


def test_an_incident_loses_its_share_of_what_users_did(tmp_path):
    shift = {"kind": "incident", "start_day": -5, "size": 0.8, "days": 2}
    past = make(configure("tiny", 3, shifts=[shift]), tmp_path).history().events
    days = (past["event_at"] - pd.Timestamp(WORLD_END)).dt.days
    hit = days.isin([-5, -4])
    clicks, shown = (past["event_type"] == kind for kind in ("click", "impression"))
    rate, usual = (((clicks & when).sum() / (shown & when).sum()) for when in (hit, ~hit))
    assert rate < 0.4 * usual


def test_users_come_only_after_they_joined_and_items_after_their_launch(past):
    first = past.events.groupby("item_id")["event_at"].min()
    launched = past.items.set_index("item_id")["created_at"]
    assert (first > launched.reindex(first.index)).all()
    first = past.events.groupby("user_id")["seen_at"].min()
    joined = past.users.set_index("user_id")["created_at"]
    assert (first > joined.reindex(first.index)).all()


def test_the_catalogue_renews_and_the_retired_are_not_shown_any_more(past, home):
    truth = tiny("trust", ROUGH_WAY, 3)
    born = past.items["created_at"] > pd.Timestamp(WORLD_END) - pd.Timedelta(days=14)
    assert 0.02 < born.mean() < 0.2
    shown = past.events[past.events["event_type"] == "impression"]
    last = shown.groupby("item_id")["event_at"].max()
    ends = pd.Series(truth.items.retires_at, truth.items.ids).reindex(last.index)
    assert (last.astype("int64") < ends).all()


def test_the_same_seed_and_names_make_the_same_log(past, tmp_path):
    again = make(configure("tiny", 3, switched_off=ROUGH_WAY), tmp_path).history()
    pd.testing.assert_frame_equal(again.events, past.events)
    other = make_world(tmp_path / "other", "tiny", 3, family="cascade").history()
    assert len(other.events) != len(past.events)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    "extreme",
    [
        {"items": 10, "launches": 0.2},  # as many as places, and most come later
        {"taste_alpha": 1e-9},
        {"users": 1},
        {"explored": 0, "randomised": 0},
        {"slates_a_day": 1},
        {"pages_mean": 1, "hit_days": 1e-6, "satiation_days": 1e-6},
    ],
)
def test_at_the_edge_of_what_is_allowed_there_is_a_world(extreme, tmp_path):
    past = make(configure("tiny", 0, days=5, **extreme), tmp_path).history().events
    shown = past[past["event_type"] == "impression"]
    assert len(shown) > 0
    assert not shown.duplicated(["request_id", "item_id"]).any()
    assert shown["propensity"].between(0, 1).all()
