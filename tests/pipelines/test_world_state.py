"""What nights and slates do to users: memory is a ring, tastes walk and turn, the sad leave."""

import numpy as np
import pytest

from pipelines.world.generate import WORLD_END
from pipelines.world.population import DAY_US, populate
from pipelines.world.state import MEMORY, begin_day, fresh_state, remember
from tests.pipelines.world_kit import END_US, tiny

DAY = END_US // DAY_US


def test_memory_is_a_ring_and_only_what_was_looked_at_enters():
    state = fresh_state(tiny())
    who = np.array([3, 5])
    for nth in range(MEMORY // 2 + 2):
        items = np.array([[2 * nth, 2 * nth + 1], [7, 8]])
        remember(
            state, who, np.array([nth, nth]), items, np.array([[True, True], [False, nth == 4]])
        )
    assert state.seen[3] == MEMORY + 4
    assert set(state.seen_item[3]) == set(range(4, MEMORY + 4))
    assert state.seen_item[5].tolist() == [8] + [-1] * (MEMORY - 1)
    assert state.seen_at[5][0] == 4
    assert (state.seen_item[4] == -1).all()


def test_nights_are_the_same_whether_they_pass_at_once_or_one_by_one():
    truth = tiny()
    at_once, daily = fresh_state(truth), fresh_state(truth)
    begin_day(truth, at_once, DAY)
    for day in range(daily.day + 1, DAY + 1):
        begin_day(truth, daily, day)
    np.testing.assert_array_equal(at_once.style, daily.style)
    np.testing.assert_array_equal(at_once.gone, daily.gone)
    begin_day(truth, daily, DAY)  # a second call passes no second night
    np.testing.assert_array_equal(at_once.style, daily.style)


def test_tastes_walk_slowly_and_not_at_all_when_off():
    truth, still = tiny(), tiny(off=("walk",))
    state, same = fresh_state(truth), fresh_state(still)
    begin_day(truth, state, DAY)
    begin_day(still, same, DAY)
    kept = (state.style * truth.users.style).sum(axis=1)
    assert 0.9 < kept.mean() < 0.999
    np.testing.assert_array_equal(same.style, still.users.style)


def test_the_dissatisfied_leave_sooner_and_nobody_when_off():
    truth, loyal = tiny(churn=0.05), tiny(off=("churn",))
    state, same = fresh_state(truth), fresh_state(loyal)
    state.satisfaction[:150], state.satisfaction[150:] = 0.7, 0.3
    begin_day(truth, state, DAY)
    begin_day(loyal, same, DAY)
    assert state.gone[150:280].mean() > 2 * state.gone[:150].mean() > 0
    assert not same.gone.any()


def test_a_concept_shift_turns_the_tastes_of_its_share_and_not_who_comes():
    shift = {"kind": "concept", "start_day": 1, "size": 0.5, "ramp_days": 4}
    truth = populate(tiny().config.but(shifts=[shift]), WORLD_END)
    state, turned = fresh_state(truth), []
    for day in (0, 1, 3, 5, 9):
        begin_day(truth, state, DAY + day)
        turned.append((state.taste != truth.users.taste).any(axis=1).mean())
    assert turned == pytest.approx([0, 0, 0.25, 0.5, 0.5], abs=0.06)
    moved = (state.taste != truth.users.taste).any(axis=1)
    favourite, was = state.taste[moved].argmax(axis=1), truth.users.taste[moved].argmax(axis=1)
    assert ((favourite - was) % 20 == 7).mean() > 0.9
