"""How far down people look: what clicks say of it, against what is so."""

import numpy as np
import pytest

from pipelines.world.config import FAMILIES, configure
from pipelines.world.examination import (
    by_position,
    by_slice,
    clicked_curve,
    error,
    true_curve,
)
from pipelines.world.logs import simulated


@pytest.fixture(scope="module")
def logs():
    """Per family a log of which half is randomised; wide, because a curve needs clicks down the list."""
    return {
        family: simulated(
            configure(
                "small", 3, family, users=6_000, slates_a_day=6_000, days=10, randomised=0.5,
                explored=0.2,
            )
        )
        for family in FAMILIES
    }  # fmt: skip


def test_a_randomised_slice_tells_the_curve_where_clicks_need_appeal(logs):
    for family in ("position", "cascade"):
        log = logs[family]
        assert error(by_slice(log), true_curve(log, log.randomised)) < 0.12


def test_click_rate_by_position_is_not_examination(logs):
    """Merit and place fall together down a list that puts what is clicked on top."""
    log = logs["position"]
    truth = true_curve(log, log.randomised)
    naive, slice_ = by_position(log), by_slice(log)
    assert error(naive, truth) > 1.5 * error(slice_, truth)


def test_clicks_that_the_place_alone_brings_stay_in_the_slice(logs):
    """A trusted ranking looks steeper than it is, however the items are shuffled."""
    log = logs["trust"]
    truth = true_curve(log, log.randomised)
    assert (by_slice(log)[1:] < truth[1:]).all()
    assert error(by_slice(log), truth) > 0.1
    assert error(by_slice(log), clicked_curve(log, log.randomised)) < 0.1  # and that is all


def test_the_error_is_the_mean_relative_deviation():
    assert error(np.array([1, 0.5, 0.2]), np.array([1, 0.4, 0.2])) == pytest.approx(0.125)
