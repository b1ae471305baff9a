"""A day in waves is the day slate by slate, and another slate is a counterfactual twin."""

import dataclasses

import numpy as np
import pytest

from pipelines.world.behaviour import Reaction, comes, experience, react
from pipelines.world.play import play_day, waves
from tests.pipelines.world_kit import even_slates, first_day, tiny

FIELDS = [field.name for field in dataclasses.fields(Reaction)]


@pytest.mark.parametrize("family", ["position", "trust", "cascade"])
def test_waves_give_what_slate_by_slate_in_order_of_time_gives(family):
    truth = tiny(family, latency_median_ms=2_000.0, latency_loss=1.0)
    state, visits = first_day(truth)
    slates, waited = even_slates(truth, visits), np.linspace(0, 9_000, len(visits))
    plain = state.copy()
    played = play_day(truth, state, visits, slates.__getitem__, waited)

    one_by_one, rows = [], []
    for row in range(len(visits)):
        visit = visits.take(np.array([row]))
        if comes(plain, visit)[0]:
            reaction = react(truth, plain, visit, slates[[row]], waited[[row]])
            experience(truth, plain, visit, slates[[row]], reaction)
            one_by_one.append(reaction)
            rows.append(row)
    assert played.rows.tolist() == rows
    assert len(rows) < len(visits), "somebody must have given up, or this shows nothing"
    for name in FIELDS:
        expected = np.concatenate([getattr(reaction, name) for reaction in one_by_one])
        np.testing.assert_allclose(getattr(played.reaction, name), expected, rtol=1e-12)
    for field in dataclasses.fields(state):
        np.testing.assert_allclose(getattr(state, field.name), getattr(plain, field.name))


def test_a_wave_holds_every_user_once_and_users_in_order_of_time():
    _, visits = first_day(tiny())
    seen = []
    for rows in waves(visits):
        assert len(np.unique(visits.user_ix[rows])) == len(rows)
        seen.append(rows)
    assert np.sort(np.concatenate(seen)).tolist() == list(range(len(visits)))
    for user in np.unique(visits.user_ix)[:20]:
        mine = [row for rows in seen for row in rows if visits.user_ix[row] == user]
        assert mine == sorted(mine)


def test_another_slate_is_the_same_call_and_moves_nothing_else():
    """The twin: an item that is in both slates at one place gets the same reaction."""
    truth = tiny("position")
    state, visits = first_day(truth)
    first = visits.take(next(waves(visits)))
    slates = even_slates(truth, first)
    other = slates.copy()
    other[:, 1:] = even_slates(truth, first, seed=1)[:, 1:]
    before = state.copy()
    one, two = react(truth, state, first, slates), react(truth, state, first, other)
    assert (one.click[:, 0] == two.click[:, 0]).all()
    assert (one.examined == two.examined).all()
    assert (one.click != two.click).any()
    for field in dataclasses.fields(state):
        np.testing.assert_array_equal(getattr(state, field.name), getattr(before, field.name))


def test_a_better_policy_meets_the_same_users_in_the_same_sessions():
    truth = tiny("position", off=("churn",))
    state, visits = first_day(truth)
    again, twin = first_day(truth)
    np.testing.assert_array_equal(visits.luck, twin.luck)
    good = np.argsort(-truth.items.quality[: truth.config.items])[:10]
    play_day(truth, state, visits, lambda rows: np.tile(good, (len(rows), 1)))
    play_day(truth, again, twin, lambda rows: np.tile(np.arange(10), (len(rows), 1)))
    assert state.satisfaction.mean() > again.satisfaction.mean()


def test_an_empty_day_is_a_day():
    truth = tiny()
    state, visits = first_day(truth)
    nobody = visits.take(np.empty(0, np.int64))
    played = play_day(truth, state, nobody, lambda rows: np.empty((len(rows), 10), np.int64))
    assert len(played.visits) == 0
