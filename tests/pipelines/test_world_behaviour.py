"""How users react: known directions, known chances, one implication after another."""

from dataclasses import replace

import numpy as np
import pytest

from pipelines.world.behaviour import (
    DELAY_SHARES,
    appraise,
    comes,
    experience,
    react,
)
from pipelines.world.families import FAMILY
from pipelines.world.planning import NO_INTENT, at_no_moment
from pipelines.world.state import fresh_state
from tests.pipelines.world_kit import END_US, QUIET, even_slates, first_day, tiny

MINUTE_US, DAY_US = 60_000_000, 86_400_000_000


def visit_of(truth, user, at_us=END_US, **changed):
    return replace(at_no_moment(truth, np.array([user]), at_us), **changed)


def attraction(truth, visit, items, state=None):
    state = state or fresh_state(truth)
    return appraise(truth, state, visit, np.array([items])).attraction[0]


def test_each_user_prefers_the_category_that_they_like():
    truth = tiny(off=QUIET)
    state, everybody = fresh_state(truth), np.arange(truth.config.users)
    items = np.broadcast_to(np.arange(truth.config.items), (len(everybody), truth.config.items))
    liking = appraise(truth, state, at_no_moment(truth, everybody, END_US), items).attraction
    taste = truth.users.taste[everybody][:, truth.items.category[: truth.config.items]]
    liked, other = liking[taste > 0.9].mean(), liking[taste < 0.1].mean()
    assert liked / (1 - liked) > 2 * other / (1 - other)


def test_a_wrong_price_lowers_unless_price_is_off():
    truth = tiny(off=QUIET)
    dear = replace(truth, items=replace(truth.items, price_level=truth.items.price_level + 3))
    user = visit_of(truth, 0)
    assert (attraction(dear, user, range(50)) < attraction(truth, user, range(50))).mean() > 0.9
    off = tiny(off=(*QUIET, "price"))
    dear = replace(off, items=replace(off.items, price_level=off.items.price_level + 3))
    assert (attraction(dear, user, range(50)) == attraction(off, user, range(50))).all()


def test_quality_satisfies_and_appeal_attracts():
    truth = tiny(off=QUIET)
    state, visit, items = fresh_state(truth), visit_of(truth, 0), np.arange(50)[None, :]
    better = replace(truth, items=replace(truth.items, quality=truth.items.quality + 1))
    louder = replace(truth, items=replace(truth.items, appeal=truth.items.appeal + 1))
    base = appraise(truth, state, visit, items)
    good, loud = (appraise(world, state, visit, items) for world in (better, louder))
    assert (good.satisfaction > base.satisfaction).all()
    assert (good.attraction == base.attraction).all()
    assert (loud.attraction > base.attraction).all()
    assert (loud.satisfaction == base.satisfaction).all()
    assert np.corrcoef(truth.items.quality, truth.items.appeal)[0, 1] == pytest.approx(0.5, abs=0.2)


def test_the_intent_favours_its_category():
    truth = tiny(off=QUIET)
    category = int(truth.items.category[0])
    plain = attraction(truth, visit_of(truth, 0), range(200))
    meant = attraction(truth, visit_of(truth, 0, intent=np.array([category])), range(200))
    same = truth.items.category[:200] == category
    assert (meant[same] > plain[same]).all()
    assert (meant[~same] < plain[~same]).all()
    assert visit_of(truth, 0).intent[0] == NO_INTENT


def seen(truth, user, item, times, clicks=0):
    """The state after a user has looked at an item, and clicked it."""
    state = fresh_state(truth)
    items = np.array([[item]])
    for nth in range(times):
        visit = visit_of(truth, user, END_US - (times - nth) * MINUTE_US)
        reaction = react(truth, state, visit, items)
        reaction = replace(
            reaction, examined=np.ones((1, 1), bool), click=np.full((1, 1), nth < clicks)
        )
        experience(truth, state, visit, items, reaction)
    return state


def test_looks_bore_days_heal_and_a_click_is_remembered():
    truth = tiny(off=QUIET)
    now, later = visit_of(truth, 0), visit_of(truth, 0, END_US + 30 * DAY_US)
    fresh = attraction(truth, now, [7])[0]
    once, thrice = (attraction(truth, now, [7], seen(truth, 0, 7, n))[0] for n in (1, 3))
    assert fresh > once > thrice
    fresh_later = attraction(truth, later, [7])[0]
    assert attraction(truth, later, [7], seen(truth, 0, 7, 3))[0] == pytest.approx(
        fresh_later, rel=0.05
    )
    assert attraction(truth, later, [7], seen(truth, 0, 7, 1, clicks=1))[0] < 0.3 * fresh_later
    assert attraction(truth, visit_of(truth, 1), [7], seen(truth, 0, 7, 3)) == attraction(
        truth, visit_of(truth, 1), [7]
    ), "one user's boredom is no other's"


def test_more_of_the_same_kind_bores_too():
    truth = tiny(off=QUIET)
    kind = truth.items.category * 5 + truth.items.kind
    values, counts = np.unique(kind, return_counts=True)
    same = np.flatnonzero(kind == values[counts.argmax()])
    other = np.flatnonzero(kind != values[counts.argmax()])[0]
    state, now = seen(truth, 0, same[0], 8), visit_of(truth, 0)
    assert attraction(truth, now, [same[1]], state)[0] < attraction(truth, now, [same[1]])[0]
    assert attraction(truth, now, [other], state)[0] == attraction(truth, now, [other])[0]


def test_without_satiation_nothing_bores():
    truth = tiny(off=(*QUIET, "satiation"))
    assert attraction(truth, visit_of(truth, 0), [7], seen(truth, 0, 7, 5, clicks=1)) == attraction(
        truth, visit_of(truth, 0), [7]
    )


def test_what_is_retired_or_sold_out_hardly_attracts():
    truth = tiny(off=QUIET, stock=2.0)
    state = fresh_state(truth)
    state.stock[:] = 5.0
    user = visit_of(truth, 0)
    there = attraction(truth, user, [7], state)[0]
    state.stock[7] = 0.0
    assert attraction(truth, user, [7], state)[0] < 0.05 * there
    state.stock[7] = 5.0
    retired = replace(truth.items, retires_at=np.full(len(truth.items.ids), END_US - 1))
    assert attraction(replace(truth, items=retired), user, [7], state)[0] < 0.05 * there


def test_the_charm_of_the_new_halves_and_a_hit_fades():
    truth = tiny()
    items, n = truth.items, len(truth.items.ids)
    born = replace(items, launched_at=np.full(n, END_US), hit_at=np.full(n, END_US + 40 * DAY_US),
                   retires_at=np.full(n, END_US + 900 * DAY_US))  # fmt: skip
    truth = replace(truth, items=born, config=truth.config.without("season", "novelty"))

    def logit(day):
        p = attraction(truth, visit_of(truth, 0, END_US + round(day * DAY_US)), [3])[0]
        return np.log(p / (1 - p))

    old, half_life = logit(600), items.half_life_days[3]
    assert logit(0) - old == pytest.approx(truth.config.charm, abs=0.02)
    if half_life < 40:
        assert logit(half_life) - old == pytest.approx(truth.config.charm / 2, abs=0.02)
    assert logit(40) - logit(39.9) == pytest.approx(truth.config.hit_size, abs=0.1)


def test_waiting_makes_people_leave_and_who_left_sees_no_further_page():
    truth = tiny(off=("bots",), latency_loss=1.0)
    state, visits = first_day(truth)
    first = visits.take(np.unique(visits.user_ix, return_index=True)[1])
    slates = even_slates(truth, first)
    quick, slow = (react(truth, state, first, slates, ms) for ms in (100.0, 2_200.0))
    assert not quick.left.any()
    assert slow.left.mean() == pytest.approx(1 - np.exp(-2), abs=0.15)  # at medium patience
    assert not slow.click[slow.left].any()
    assert not slow.examined[slow.left].any()
    experience(truth, state, first, slates, slow)
    assert (comes(state, first) == ~slow.left).all()
    assert (state.satisfaction[first.user_ix[slow.left]] < 0.5).all()


def test_utility_is_the_expected_clicks():
    truth = tiny("trust", off=QUIET)
    state, visits = first_day(truth, factor=30)
    slates = even_slates(truth, visits)
    reaction = react(truth, state, visits, slates)
    assert reaction.click.sum() == pytest.approx(reaction.utility.sum(), rel=0.08)
    assert reaction.click.sum(axis=0)[0] > 4 * reaction.click.sum(axis=0)[-1]


def test_scripts_click_anywhere():
    truth = tiny()
    bots = replace(truth.users, bot=np.ones(len(truth.users.ids), bool))
    truth = replace(truth, users=bots)
    state, visits = first_day(truth, factor=5)
    click = react(truth, state, visits, even_slates(truth, visits)).click
    assert click.mean(axis=0) == pytest.approx(np.full(10, 0.2), abs=0.04)


def test_a_rating_and_a_return_imply_a_purchase_implies_a_cart_implies_a_click():
    truth = tiny(off=QUIET, cart_rate=0.9, purchase_rate=0.9, rating_rate=0.9, dislike_rate=0.5)
    state, visits = first_day(truth, factor=30)
    did = react(truth, state, visits, even_slates(truth, visits))
    assert (did.click >= did.cart).all()
    assert (did.cart >= did.purchase).all()
    assert (did.purchase >= (did.stars > 0)).all()
    assert (did.purchase >= did.returned).all()
    assert (did.click >= did.disliked).all()
    assert ((did.dwell_s > 0) == did.click).all()
    assert ((did.delay_s > 0) == did.purchase).all()
    assert set(did.stars[did.stars > 0]) <= {1, 2, 3, 4, 5}
    assert did.returned.any()
    assert did.disliked.any()


def test_purchases_come_within_the_hour_the_day_or_the_month():
    truth = tiny(off=QUIET, cart_rate=1.0, purchase_rate=1.0)
    state, visits = first_day(truth, factor=60)
    did = react(truth, state, visits, even_slates(truth, visits))
    delay = did.delay_s[did.purchase]
    assert len(delay) > 500
    assert (delay < 3600).mean() == pytest.approx(DELAY_SHARES[0], abs=0.06)
    assert (delay < 86_400).mean() == pytest.approx(sum(DELAY_SHARES[:2]), abs=0.06)
    assert delay.max() <= 30 * 86_400


def test_trust_acts_in_its_own_family_only():
    for family in FAMILY:
        with_, without = (
            react(truth, fresh_state(truth), visits, even_slates(truth, visits))
            .utility[:, 0]
            .mean()
            for truth in (tiny(family, off=QUIET), tiny(family, off=(*QUIET, "trust")))
            for visits in (at_no_moment(truth, np.arange(200), END_US),)
        )
        assert (with_ > 1.05 * without) == (family == "trust")
