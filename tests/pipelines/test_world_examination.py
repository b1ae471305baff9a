"""How far down people look: what clicks say of it, against what is so."""

import numpy as np
import pytest

from pipelines.world.config import FAMILIES
from pipelines.world.examination import (
    by_position,
    by_slice,
    clicked_curve,
    error,
    people,
    true_curve,
)
from pipelines.world.logs import simulated, wide

FAR = 3.5
"""Standard errors: of nine places, all nearly always lie within."""


@pytest.fixture(scope="module")
def logs():
    """Per family the log of `shortlist world check`, half of it randomised."""
    return {family: simulated(wide("small", 3, family, randomised=0.5)) for family in FAMILIES}


def standard_errors(log, slates, times=300):
    """(K,) of a relative click curve, from resampled users."""
    rows = slates & people(log)
    who = np.unique(log.visits.user_ix[rows], return_inverse=True)[1]
    clicks = np.array([np.bincount(who, of_place) for of_place in log.clicks[rows].T]).T
    rng, n = np.random.default_rng(0), len(clicks)
    drawn = rng.multinomial(n, np.full(n, 1 / n), times) @ clicks
    return (drawn / drawn[:, :1]).std(axis=0)


def away(estimate, truth, errors):
    """(K - 1,) standard errors between two curves, after the first place."""
    return np.abs(estimate - truth)[1:] / errors[1:]


def test_a_randomised_slice_tells_the_curve_where_clicks_need_appeal(logs):
    for family in ("position", "cascade"):
        log = logs[family]
        truth = true_curve(log, log.randomised)
        errors = standard_errors(log, log.randomised)
        assert (errors[1:] < 0.06 * truth[1:]).all(), "an interval that could miss"
        assert away(by_slice(log), truth, errors).max() < FAR
        assert error(by_slice(log), truth) < 0.06


def test_click_rate_by_position_is_not_examination(logs):
    """Merit and place fall together down a list that puts what is clicked on top."""
    for log in logs.values():
        chosen = ~log.randomised
        truth, errors = true_curve(log, chosen), standard_errors(log, chosen)
        assert away(by_position(log), truth, errors).max() > 2 * FAR
        assert (by_position(log)[5:] < truth[5:]).all(), "it takes merit for place"
    for family in ("position", "cascade"):
        log = logs[family]
        wrong = error(by_position(log), true_curve(log, ~log.randomised))
        assert wrong > 2 * error(by_slice(log), true_curve(log, log.randomised))


def test_clicks_that_the_place_alone_brings_stay_in_the_slice(logs):
    """A trusted ranking looks steeper than it is, however the items are shuffled."""
    log = logs["trust"]
    truth, errors = true_curve(log, log.randomised), standard_errors(log, log.randomised)
    assert (by_slice(log)[1:] < truth[1:]).all()
    assert away(by_slice(log), truth, errors).max() > 2 * FAR
    assert away(by_slice(log), clicked_curve(log, log.randomised), errors).max() < FAR


def test_the_error_is_the_mean_relative_deviation():
    assert error(np.array([1, 0.5, 0.2]), np.array([1, 0.4, 0.2])) == pytest.approx(0.125)
