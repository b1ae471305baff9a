"""A/A: what the whole stack says about arms that do not differ."""

import numpy as np
import pytest

from pipelines.loop.aa import Interval, runs_in, verdict


def interval(low: float, high: float, run: int = 0) -> Interval:
    return Interval("trust", 0, run, (low + high) / 2, low, high, 100)


def test_honest_intervals_pass():
    found = verdict([interval(0.1, 0.3)] * 10 + [interval(-0.1, 0.1)] * 190)
    assert (found["missed"], found["share"], found["ok"]) == (10, 0.05, True)
    assert 0 < found["bound_low"] < 0.05 < found["bound_high"] < 0.1


def test_too_narrow_intervals_are_found():
    """Intervals of half their honest width miss a third of the time."""
    drawn = np.random.default_rng(0).normal(size=200)
    honest, narrow = ([interval(x - width, x + width) for x in drawn] for width in (1.96, 1.96 / 2))
    assert verdict(honest)["ok"]
    assert not verdict(narrow)["ok"]
    assert verdict(narrow)["share"] == pytest.approx(0.33, abs=0.08)
    wide = [interval(x - 20, x + 20) for x in drawn]
    assert not verdict(wide)["ok"], "intervals that never miss promise less than they could"


def test_runs_go_through_log_and_lake_with_a_split_of_their_own(seedling):
    first, second = list(runs_in(seedling, 2))
    assert (first.run, second.run) == (0, 1)
    assert first.users > 50
    assert first.mean != second.mean
    assert first.low < first.mean < first.high
    assert not (seedling / "aa").exists(), "nothing is left behind"
    assert list(runs_in(seedling, 1)) == [first]
