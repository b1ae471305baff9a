"""What an experiment says before it runs: the claim, the number that would confirm it, and who says so.

A card is plain data. Its JSON is part of the identity of a run (see identity.py), so a card that is
changed after the fact has no results.

Interview: How do you keep yourself from finding what you were looking for?
    Write down beforehand what is claimed, in which direction, how large it must be to matter, and
    what would change your mind; then let a rule, not a reader, grade the interval. A card that turns
    out wrong stays on the board: a project that only confirms has chosen its questions afterwards.
    Trade-off: a card can be precise about the wrong question, and what one notices on the way
    becomes a new card and a new run, not a better ending of this one.
    Shown by: tests/pipelines/experiments/test_runner.py::test_a_changed_card_has_no_results
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import numpy as np


class Direction(StrEnum):
    """Which way an effect is claimed to go."""

    more = "more"
    less = "less"


class Tier(StrEnum):
    """How long all seeds and families together may take on two cores."""

    S = "S"
    M = "M"
    L = "L"


TIER_S = {Tier.S: 120, Tier.M: 900, Tier.L: 14_400}
"""Seconds; S is for every change, M for a coffee, L for a night."""


@dataclass(frozen=True, slots=True)
class Claim:
    """One number that is said to lie beyond a limit."""

    effect: str  # name of the measurement that is graded
    says: str  # the claim as a sentence
    direction: Direction
    minimum: float  # the smallest effect worth having, a magnitude in the effect's own unit, > 0
    expected: tuple[float, float]  # range of the effect, lowest first
    source: str  # where the range comes from, and how far to trust it

    def __post_init__(self) -> None:
        assert self.minimum > 0, f"{self.effect}: an effect of nothing is not worth claiming"
        low, high = self.expected
        assert low <= high, f"{self.effect}: the expected range is upside down"
        reach = high if self.direction == Direction.more else -low
        assert reach >= self.minimum, f"{self.effect}: expects less than it calls worthwhile"


@dataclass(frozen=True, slots=True)
class Card:
    """All that is said before the first number is seen."""

    number: str  # E-02
    title: str
    question: str  # as an interviewer would put it
    sentence: str  # what one would say if the claims hold
    varied: str
    measured: str
    claims: tuple[Claim, ...]
    observed: str  # the measurement that a dashboard would show
    true: str  # the measurement that only the world's truth gives; the gap is observed - true
    change_our_mind: str
    tier: Tier
    families: tuple[str, ...]  # worlds in which every claim is graded
    scale: str = "tiny"  # at which it is recorded

    def __post_init__(self) -> None:
        assert self.claims, f"{self.number}: a card without a claim"
        assert self.families, f"{self.number}: a card without a world"


@dataclass(frozen=True, slots=True)
class Setting:
    """The world that one measurement is made in; with a seed it determines every number."""

    family: str
    scale: str


@dataclass(frozen=True, slots=True)
class Measured:
    """What one seed of one family gave."""

    values: Mapping[str, float]
    within: Mapping[str, float] = field(default_factory=dict)
    """Half width of the 95 % interval inside this seed, of those values whose unit is the user."""

    curves: Mapping[str, list[float]] = field(default_factory=dict)
    """What the chart draws and no claim reads: one list per line."""


def plain(card: Card) -> dict[str, Any]:
    """The card as JSON carries it."""
    return dataclasses.asdict(card)


def half_width(per_user: np.ndarray) -> float:
    """Half the 95 % interval of a mean over users: 1.96 standard errors, (U,) one value per user."""
    return float(1.96 * per_user.std(ddof=1) / np.sqrt(len(per_user)))
