"""From measurements to one of three words, by a rule that was there before the measurements.

Throughout: n seeds; an effect is one number per seed, already a difference between arms that met the
same users, sessions and draws.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from scipy import stats

from pipelines.experiments.card import Claim, Direction

SEEDS_MIN = 5
"""With fewer, the t quantile is so wide that the interval says little, and it may not speak."""

LEVEL = 0.95


class Verdict(StrEnum):
    """What may be said of a claim."""

    confirmed = "confirmed"
    refuted = "refuted"
    not_powered = "not powered"


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean over seeds with its 95 % interval; None where one seed cannot give one."""

    mean: float
    low: float | None
    high: float | None
    seeds: int
    within: float | None = None  # mean half width inside a seed, where users are the unit


def over_seeds(values: Sequence[float], within: Sequence[float] = ()) -> Estimate:
    """Mean and Student's t interval of one number per seed.

    Raises:
        ValueError: no value, or one that is not a number.

    Source:
        Student 1908. Each value is already a mean over thousands of slates, hence near normal.

    Interview: Five seeds. Why a t interval and not the bootstrap?
        Five values have few distinct resamples, and their spread underestimates the truth: the
        percentile bootstrap misses far more often than its 5 %. The t interval pays for the
        unknown spread with a factor of 2.8 instead of 2, and keeps its word.
        Trade-off: it leans on means being near normal; for a skewed number per seed take more
        seeds. Inside one seed, with thousands of users, the bootstrap is the right tool.
        Shown by: tests/pipelines/experiments/test_verdict.py::test_the_bootstrap_of_five_is_overconfident
    """
    numbers = np.asarray(values, dtype=np.float64)
    if not len(numbers) or not np.isfinite(numbers).all():
        raise ValueError(f"expected one finite number per seed, got {list(values)}")
    mean, n = float(numbers.mean()), len(numbers)
    inside = float(np.mean(within)) if len(within) else None
    if n == 1:
        return Estimate(mean, None, None, n, inside)
    error = float(numbers.std(ddof=1)) / math.sqrt(n)
    half = float(stats.t.ppf((1 + LEVEL) / 2, n - 1)) * error
    return Estimate(mean, mean - half, mean + half, n, inside)


def grade(effect: Estimate, direction: Direction, minimum: float) -> Verdict:
    """The rule: where the whole interval lies, seen from the smallest effect worth having.

    confirmed    all of it at least `minimum` on the claimed side
    refuted      all of it short of that: too small, nothing, or the other way round
    not powered  it straddles the limit, or there are fewer than SEEDS_MIN seeds

    Args:
        effect: over paired seeds.
        direction: claimed before the run.
        minimum: magnitude, > 0.

    Interview: The interval excludes zero. Is the claim confirmed?
        Not yet: it must lie beyond the smallest effect that would be worth having, on the side that
        was named beforehand. With enough users every effect excludes zero. And an interval that
        contains the limit refutes nothing: it says that the test was too small.
        Trade-off: asking for the whole interval needs more seeds than asking for the mean; the
        word "not powered" is the price, and the honest one.
        Shown by: tests/pipelines/experiments/test_verdict.py::test_sure_but_small_is_refuted_and_wide_is_not
    """
    assert minimum > 0
    if effect.seeds < SEEDS_MIN or effect.low is None or effect.high is None:
        return Verdict.not_powered
    low, high = (
        (effect.low, effect.high) if direction == Direction.more else (-effect.high, -effect.low)
    )
    if low >= minimum:
        return Verdict.confirmed
    return Verdict.refuted if high < minimum else Verdict.not_powered


def together(verdicts: Iterable[Verdict]) -> Verdict:
    """One word for several: confirmed needs all of them, refuted needs one.

    Each interval misses in one of twenty cases, so of many refutations one may be luck: the board
    shows in how many worlds a claim holds beside this word.
    """
    words = set(verdicts)
    if Verdict.refuted in words:
        return Verdict.refuted
    return Verdict.confirmed if words == {Verdict.confirmed} else Verdict.not_powered


def as_expected(effect: Estimate, claim: Claim) -> bool:
    """Whether the mean lies in the range that the card expected; says nothing about the verdict."""
    return claim.expected[0] <= effect.mean <= claim.expected[1]
