"""Intervals over seeds keep their word, also when the seeds are few."""

import numpy as np
import pytest

from monitoring.estimate import over_seeds


def test_the_interval_is_students():
    got = over_seeds([1.0, 2.0, 3.0, 4.0, 5.0])
    half = 2.7764451051977987 * np.sqrt(2.5 / 5)  # t(0.975, 4) x standard error
    assert (got.mean, got.seeds) == (3.0, 5)
    assert (got.low, got.high) == (pytest.approx(3 - half), pytest.approx(3 + half))


def test_the_bootstrap_of_five_is_overconfident():
    rng = np.random.default_rng(0)
    draws = rng.normal(0, 1, (2000, 5))
    student = np.mean([abs(e.mean) <= e.high - e.mean for e in map(over_seeds, draws)])
    resampled = draws[:, rng.integers(0, 5, (999, 5))].mean(axis=2)  # (2000, 999)
    low, high = np.quantile(resampled, [0.025, 0.975], axis=1)
    bootstrap = np.mean((low <= 0) & (high >= 0))
    assert 0.93 < student < 0.97, "it holds the truth as often as it says"
    assert bootstrap < 0.88, "it says 95 %"


def test_a_number_that_is_none_is_refused():
    with pytest.raises(ValueError, match="expected one finite number per seed"):
        over_seeds([1.0, float("nan")])
    with pytest.raises(ValueError, match="expected one finite number per seed"):
        over_seeds([])
