"""From measurements to one of three words, by a rule that was there before the measurements.

An effect is one number per seed, already a difference between arms that met the same users, sessions
and draws (monitoring/estimate.py).
"""

from collections.abc import Iterable
from enum import StrEnum

from monitoring.estimate import Estimate
from pipelines.experiments.card import Claim, Direction

SEEDS_MIN = 5
"""With fewer, the t quantile is so wide that the interval says little, and it may not speak."""


class Verdict(StrEnum):
    """What may be said of a claim."""

    confirmed = "confirmed"
    refuted = "refuted"
    not_powered = "not powered"


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
