"""The logged past: slates without repeats, exact propensities, effects after causes."""

import itertools

import numpy as np
import pandas as pd
import pytest

from pipelines.world.generate import WORLD_END, make_world
from pipelines.world.history import SLATE, draw_slates, policy
from pipelines.world.planning import plan_day
from pipelines.world.population import DAY_US, populate, to_us


@pytest.fixture(scope="module")
def events(tmp_path_factory):
    return make_world(tmp_path_factory.mktemp("home"), "tiny", seed=3).history().events


def test_propensities_are_the_shares_that_are_drawn():
    rng = np.random.default_rng(0)
    chance = np.array([0.3, 0.2] + [0.5 / 10] * 10)
    item_ix, propensity = draw_slates(chance, 60_000, rng)
    first = np.bincount(item_ix[:, 0], minlength=12) / len(item_ix)
    assert first == pytest.approx(chance, abs=0.006)
    assert propensity[:, 0] == pytest.approx(chance[item_ix[:, 0]])
    after_0 = item_ix[item_ix[:, 0] == 0]  # given item 0 on top, item 1 has 0.2 / (1 - 0.3)
    assert np.mean(after_0[:, 1] == 1) == pytest.approx(0.2 / 0.7, abs=0.01)
    given = propensity[(item_ix[:, 0] == 0) & (item_ix[:, 1] == 1), 1]
    assert given == pytest.approx(0.2 / 0.7)


def test_a_slate_shows_nothing_twice_even_when_one_item_takes_nearly_all():
    chance = np.array([0.98] + [0.02 / 11] * 11)
    item_ix, _ = draw_slates(chance, 50, np.random.default_rng(1))
    assert item_ix.shape == (50, SLATE)
    assert all(len(set(row)) == SLATE for row in item_ix.tolist())


def test_half_of_the_policy_is_even_and_nothing_unlaunched_is_shown():
    chance = policy(np.array([99.0, 0, 0, 0]), np.array([True, True, True, False]))
    assert chance == pytest.approx([0.5 * 100 / 102 + 0.5 / 3, *[0.5 / 102 + 0.5 / 3] * 2, 0])
    assert chance.sum() == pytest.approx(1)


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


def test_event_ids_are_unique(events):
    assert events["event_id"].is_unique


def test_users_come_only_after_they_joined_and_items_after_their_launch(tmp_path):
    world = make_world(tmp_path, "tiny", seed=4)
    past = world.history()
    first = past.events.groupby("item_id")["event_at"].min()
    launched = past.items.set_index("item_id")["created_at"]
    assert (first > launched.reindex(first.index)).all()
    first = past.events.groupby("user_id")["event_at"].min()
    joined = past.users.set_index("user_id")["created_at"]
    assert (first > joined.reindex(first.index)).all()


def test_a_day_has_exactly_its_slates_in_order_and_within_it():
    users = populate("tiny", 0, WORLD_END).users
    day_us = to_us(WORLD_END) + 2 * 3600 * 1_000_000  # a day may begin at two in the morning
    plan = plan_day(users, users.activity, 137, day_us, np.random.default_rng(0))
    assert len(plan.at_us) == 137
    assert (np.diff(plan.at_us) >= 0).all()
    assert plan.at_us[0] >= day_us
    assert plan.at_us[-1] < day_us + DAY_US
    frame = pd.DataFrame({"session": plan.session, "user": plan.user_ix, "mood": plan.mood})
    assert (frame.groupby("session").nunique() == 1).all().all()


def test_evenings_are_busy_whenever_the_day_begins():
    users = populate("tiny", 0, WORLD_END).users
    for start in (0, 2, 13):
        day_us = to_us(WORLD_END) + start * 3600 * 1_000_000
        plan = plan_day(users, users.activity, 4_000, day_us, np.random.default_rng(0))
        hours = np.bincount((plan.at_us // 3_600_000_000) % 24, minlength=24)
        assert hours[19:22].sum() > 4 * hours[1:4].sum()


def test_users_who_have_not_come_yet_are_not_drawn():
    users = populate("tiny", 0, WORLD_END).users
    plan = plan_day(users, users.activity, 500, to_us(WORLD_END), np.random.default_rng(2))
    assert (users.segment[plan.user_ix] == 0).all()
