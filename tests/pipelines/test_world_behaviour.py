"""How users react: known directions, known chances, one implication after another."""

from dataclasses import replace

import numpy as np
import pytest

from pipelines.world.behaviour import (
    APPEAL,
    BOREDOM,
    CURIOSITY,
    MOOD_BOOST,
    attraction,
    examination,
    react,
)
from pipelines.world.truth import Items, Users


@pytest.fixture
def shop():
    """Three items of two categories, two users who each like one; all else is average."""
    items = Items(
        ids=np.array(["a", "b", "c"]), titles=np.array(["A", "B", "C"]),
        category=np.array([0, 1, 0]), kind=np.zeros(3, int), price=np.ones(3),
        launched_at=np.zeros(3, np.int64), quality=np.zeros(3),
        style=np.zeros((3, 2)), price_level=np.zeros(3),
    )  # fmt: skip
    users = Users(
        ids=np.array(["u", "v"]), joined_at=np.zeros(2, np.int64),
        location=np.array(["x", "y"]), device=np.array(["mobile", "desktop"]),
        taste=np.array([[1.0, 0.05], [0.05, 1.0]]), style=np.eye(2),
        budget_level=np.zeros(2), activity=np.ones(2), segment=np.zeros(2, int),
    )  # fmt: skip
    return users, items


def chances(users, items, mood=None):
    """(2 users, 3 items)."""
    every = np.broadcast_to(np.arange(3), (2, 3))
    return attraction(users, items, np.arange(2), every, mood)


def test_each_user_prefers_their_own_category(shop):
    got = chances(*shop)
    assert got.shape == (2, 3)
    assert got[0, 0] > 2 * got[0, 1]
    assert got[1, 1] > 2 * got[1, 0]
    assert got[0, 0] == got[0, 2]


def test_quality_raises_and_a_wrong_price_lowers(shop):
    users, items = shop
    better = replace(items, quality=np.array([2.0, 0, 0]))
    assert chances(users, better)[0, 0] > chances(users, items)[0, 0]
    for level in (-1.5, 1.5):  # too cheap repels as too dear does
        priced = replace(items, price_level=np.array([level, 0, 0]))
        assert chances(users, priced)[0, 0] < 0.5 * chances(users, items)[0, 0]


def test_chances_stay_chances_at_every_extreme(shop):
    users, items = shop
    best = replace(items, quality=np.full(3, 50.0), style=np.full((3, 2), 50.0))
    worst = replace(items, quality=np.full(3, -50.0))
    assert chances(users, best, np.zeros(2, int)).max() <= CURIOSITY + APPEAL * MOOD_BOOST <= 1
    assert chances(users, worst) == pytest.approx(np.full((2, 3), CURIOSITY))


def test_attraction_is_no_sum_of_a_taste_and_a_price_effect(shop):
    """A dot product with a logistic adds effects in the logit; here one must have all of them."""
    users, items = shop

    def logit(price_level, category):
        moved = replace(items, price_level=np.full(3, price_level), category=np.full(3, category))
        p = chances(users, moved)[0, 0]
        return np.log(p / (1 - p))

    price_effect_where_liked = logit(0, 0) - logit(2, 0)
    price_effect_where_not = logit(0, 1) - logit(2, 1)
    assert price_effect_where_liked > 1.5 * price_effect_where_not


def test_the_mood_favours_its_category(shop):
    plain, moody = chances(*shop), chances(*shop, np.array([1, 1]))
    assert moody[0, 1] > plain[0, 1]
    assert moody[0, 0] < plain[0, 0]


def test_examination_falls_with_the_place_and_faster_on_small_screens():
    examined = examination(np.array(["desktop", "mobile", "something new"]), 10)
    assert examined.shape == (3, 10)
    assert examined[:, 0].tolist() == [1, 1, 1]
    assert (np.diff(examined, axis=1) < 0).all()
    assert examined[0, 9] > examined[2, 9] > examined[1, 9]
    assert 5 < examined[1, 0] / examined[1, 9] < 15


def test_clicks_come_at_their_chance_and_boredom_cuts_it():
    rng = np.random.default_rng(3)
    attracted, examined = np.full((40_000, 2), 0.5), np.array([[1.0, 0.4]])
    known = np.zeros((40_000, 2), bool)
    known[:20_000] = True
    click = react(attracted, examined, known, rng).click
    assert click[20_000:].mean(axis=0) == pytest.approx([0.5, 0.5 * 0.4], abs=0.012)
    assert click[:20_000].mean(axis=0) == pytest.approx([0.5 * BOREDOM, 0.2 * BOREDOM], abs=0.012)


def test_a_rating_implies_a_purchase_implies_a_cart_implies_a_click():
    rng = np.random.default_rng(4)
    did = react(np.full((5_000, 3), 0.9), np.ones((1, 3)), np.zeros((5_000, 3), bool), rng)
    assert (did.click >= did.cart).all()
    assert (did.cart >= did.purchase).all()
    assert (did.purchase >= (did.stars > 0)).all()
    assert set(did.stars[did.stars > 0]) <= {1, 2, 3, 4, 5}
    assert did.purchase.any()
