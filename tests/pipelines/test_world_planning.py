"""Who comes when: rates, hours, sessions, and what satisfaction does to them."""

import numpy as np
import pytest

from pipelines.world.planning import NO_INTENT, exactly, plan_day, rates
from pipelines.world.population import DAY_US, NEW_DEVICE
from pipelines.world.state import begin_day, fresh_state
from tests.pipelines.world_kit import END_US, first_day, tiny

HOUR_US = 3_600_000_000


def test_a_user_comes_as_often_as_the_rate_says():
    truth = tiny(off=("churn",))
    state, _ = first_day(truth)
    rate = rates(truth, state, END_US)
    days = [plan_day(truth, state, END_US, stream=stream) for stream in range(60)]
    sessions = sum(len(np.unique(day.session * 10_000 + day.user_ix)) for day in days) / 60
    assert sessions == pytest.approx(rate.sum(), rel=0.06)
    assert len(np.concatenate([day.page for day in days])) / 60 == pytest.approx(
        rate.sum() * truth.config.pages_mean, rel=0.08
    )


def test_the_satisfied_come_more_often_and_in_all_sessions_of_the_dissatisfied():
    truth = tiny()
    state, _ = first_day(truth)
    sad, happy = state.copy(), state.copy()
    sad.satisfaction[:], happy.satisfaction[:] = 0.3, 0.7

    def sessions(mood):
        day = plan_day(truth, mood, END_US)
        return set(zip(day.user_ix.tolist(), day.session.tolist(), day.at_us.tolist(), strict=True))

    assert sessions(sad) < sessions(happy)


def test_who_is_gone_or_has_not_joined_does_not_come():
    truth = tiny()
    state, _ = first_day(truth)
    state.gone[:50] = True
    visits = plan_day(truth, state, END_US, factor=5)
    assert visits.user_ix.min() >= 50
    assert (truth.users.joined_at[visits.user_ix] < END_US).all()
    assert (truth.users.segment[visits.user_ix] == 0).all()


def test_newcomers_come_when_the_shift_begins_and_in_its_share():
    shift = {"kind": "covariate", "start_day": 2, "size": 0.5}
    truth = tiny().config.but(shifts=[shift])
    from pipelines.world.generate import WORLD_END
    from pipelines.world.population import populate

    truth = populate(truth, WORLD_END)
    state = fresh_state(truth)
    for day, expected in ((1, 0.0), (2, 0.5)):
        start_us = END_US + day * DAY_US
        begin_day(truth, state, start_us // DAY_US)
        visits = plan_day(truth, state, start_us, factor=10)
        share = (visits.device == NEW_DEVICE).mean()
        assert share == pytest.approx(expected, abs=0.1)


def test_a_day_has_its_slates_in_order_and_within_it():
    truth = tiny()
    start_us = END_US + 2 * HOUR_US  # a day may begin at two in the morning
    state, _ = first_day(truth)
    visits = exactly(truth, state, start_us, 137, stream=3)
    assert len(visits) == 137
    assert (np.diff(visits.at_us) >= 0).all()
    assert visits.at_us[0] >= start_us
    assert visits.at_us[-1] < start_us + DAY_US


def test_pages_of_a_session_follow_each_other_on_one_device():
    truth = tiny()
    _, visits = first_day(truth, factor=5)
    key = visits.session * 10_000 + visits.user_ix
    for session in np.unique(key)[:50]:
        mine = key == session
        assert visits.page[mine].tolist() == list(range(mine.sum()))
        assert len(set(visits.device[mine])) == 1


def test_evenings_are_busy_whenever_the_day_begins():
    truth = tiny()
    state, _ = first_day(truth)
    for start in (0, 2, 13):
        visits = plan_day(truth, state, END_US + start * HOUR_US, factor=20)
        hours = np.bincount((visits.at_us // HOUR_US) % 24, minlength=24)
        assert hours[19:22].sum() > 4 * hours[1:4].sum()


def test_the_intent_stays_for_most_pages_and_follows_taste():
    truth = tiny()
    state, visits = first_day(truth, factor=20)
    follows = visits.page > 0
    order = np.lexsort((visits.page, visits.session, visits.user_ix))
    intent, later = visits.intent[order], follows[order]
    stays = (intent[1:] == intent[:-1])[later[1:]].mean()
    assert 0.8 < stays < 0.95  # turns with 0.15, sometimes to the same category again
    chosen = state.taste[visits.user_ix, visits.intent]
    assert chosen.mean() > 2 * state.taste[visits.user_ix].mean()


def test_without_intent_a_session_is_about_nothing():
    _, visits = first_day(tiny(off=("intent",)))
    assert (visits.intent == NO_INTENT).all()


def test_weekends_are_busier():
    truth = tiny(off=("season",))
    state, _ = first_day(truth)
    saturday = END_US + 6 * DAY_US  # the past ends on a Sunday at midnight
    monday = END_US + DAY_US
    ratio = rates(truth, state, saturday).sum() / rates(truth, state, monday).sum()
    joined = (truth.users.joined_at >= monday) & (truth.users.joined_at < saturday)
    assert ratio == pytest.approx(truth.config.weekend, abs=0.01 + 0.02 * joined.sum())
