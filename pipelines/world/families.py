"""Three worlds that disagree about what people want and how they look: a claim should hold in all.

    position  linear utility, looked at by place alone                    (what most papers assume)
    trust     one must have everything at once, and the place invites     (saturating product)
    cascade   thresholds as in a tree, looked at from the top until enough (examination by content)

Axis letters: S slates, K list length.

Interview: Your model learns data that you simulated. Is that not circular?
    It is, if the world is the model's own formula: a dot product with a logistic on top makes a
    two-tower model win by construction. So there are three worlds, with terms that no feature
    holds, and two of them no linear model of the logit can say; a claim is reported with the
    number of worlds in which it holds.
    Trade-off: three formulas are still formulas; agreement of all three is evidence about the
    method, not about your users.
    Shown by: tests/pipelines/test_world_families.py::test_only_the_first_family_is_a_sum_of_effects
"""

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from pipelines.world.config import FamilyName
from pipelines.world.numbers import logit, sigmoid

SLOPE = {"desktop": 0.75, "tablet": 0.8, "mobile": 0.87}
"""Examination falls as place ** -slope; small screens show less at once."""

OTHER_SLOPE = 0.85

GOES_ON = {"desktop": 0.83, "tablet": 0.81, "mobile": 0.79}
"""Chance to read on after a place that was not clicked, where lists are read from the top."""

OTHER_GOES_ON = 0.8


@dataclass(frozen=True, slots=True)
class Match:
    """How well items fit users, before any mood; each (S, K)."""

    taste: np.ndarray  # 0..1 share of the category, 1 = the favourite
    style: np.ndarray  # about standard normal
    price: (
        np.ndarray
    )  # e-folds between price and what the user is at home with; 0 where price is off
    appeal: np.ndarray  # standard normal


@dataclass(frozen=True, slots=True)
class Draws:
    """The luck of S slates; each (S, K) uniform."""

    look: np.ndarray  # by place: whether it is looked at, given the family's way
    like: np.ndarray  # by item: whether it is clicked when looked at
    trust: np.ndarray  # by item: whether the place alone brings a click


@dataclass(frozen=True, slots=True)
class Look:
    """What S visitors do with K places; each (S, K)."""

    examination: np.ndarray  # chance that the place is looked at
    chance: np.ndarray  # chance of a click there, once looked at
    examined: np.ndarray  # bool, as it came
    click: np.ndarray  # bool, as it came


class Family(Protocol):
    """A shape of utility and a way to look at a list."""

    def utility(self, match: Match) -> np.ndarray:
        """(S, K) logits of a click on what is looked at, before mood and memory."""

    def look(
        self, attraction: np.ndarray, device: np.ndarray, trust: np.ndarray, draws: Draws
    ) -> Look:
        """Go through the lists: (S, K) attraction, (S,) device, (S,) trust 0..1."""


class Position:
    """Linear utility; a place is looked at by its number and the screen alone.

    Source: Craswell et al., An experimental comparison of click position-bias models, WSDM 2008.
        Deviation: the slope depends on the device.
    """

    base, taste, style, price, appeal = -1.5, 1.1, 0.3, 1.5, 0.42

    def utility(self, match: Match) -> np.ndarray:
        """A sum of effects."""
        likes = self.taste * match.taste + self.style * match.style + self.appeal * match.appeal
        total: np.ndarray = self.base + likes - self.price * match.price
        return total

    def look(
        self, attraction: np.ndarray, device: np.ndarray, trust: np.ndarray, draws: Draws
    ) -> Look:
        """Chance place ** -slope, whatever stands there."""
        examination = by_place(device, attraction.shape[1])
        examined = draws.look < examination
        return Look(examination, attraction, examined, examined & (draws.like < attraction))


class Trust:
    """Taste, style, price and appeal must all fit, each saturates; and high places invite clicks.

    Source: Agarwal et al., Addressing trust bias for unbiased learning-to-rank, WWW 2019.
        Deviation: how much the place alone does differs between users.
    """

    curiosity, most = 0.028, 0.96
    taste, style, style_ease, appeal, appeal_ease, price_width = 2.5, 0.9, 1.3, 2.2, 0.6, 0.45
    invited, invited_slope = 0.06, 0.7
    """Chance that the first place is clicked by a trusting user although it does not appeal, and
    how fast that falls with the place."""

    def utility(self, match: Match) -> np.ndarray:
        """A product of saturating factors, as a logit."""
        liked = np.tanh(self.taste * match.taste) * sigmoid(
            self.style * (match.style + self.style_ease)
        )
        affordable = np.exp(-((match.price / self.price_width) ** 2) / 2)
        attractive = sigmoid(self.appeal * (match.appeal + self.appeal_ease))
        return logit(self.curiosity + self.most * liked * affordable * attractive)

    def look(
        self, attraction: np.ndarray, device: np.ndarray, trust: np.ndarray, draws: Draws
    ) -> Look:
        """As by position, and some clicks come from the place alone."""
        places = np.arange(1, attraction.shape[1] + 1)
        examination = by_place(device, len(places))
        invited = self.invited * trust[:, None] * places**-self.invited_slope
        examined = draws.look < examination
        click = examined & ((draws.like < attraction) | (draws.trust < invited))
        return Look(examination, attraction + (1 - attraction) * invited, examined, click)


class Cascade:
    """Thresholds and interactions; lists are read from the top until the reader has enough.

    After an unclicked place the reader goes on with a chance that depends on the screen, after a
    click with a smaller one. So how far a list is read depends on what stands in it.

    Source: Guo et al., Efficient multiple-click models in web search, WSDM 2009.
        Deviation: the chance to go on is the same at all places.
    """

    goes_on_after_click = 0.6

    liked, near, close, good = 0.3, 0.5, 0.3, 0.2
    """Thresholds of taste, price, style and appeal."""

    def utility(self, match: Match) -> np.ndarray:
        """Leaves of a tree, as logits."""
        liked, near = match.taste > self.liked, match.price < self.near
        close, good = match.style > self.close, match.appeal > self.good
        # Logits by hand: each good thing is worth more where the others are there too.
        favourite = np.where(
            near,
            np.where(close, np.where(good, 0.3, -0.8), np.where(good, -0.4, -1.5)),
            np.where(close & good, -1.8, -2.7),
        )
        stranger = np.where(near, np.where(good, -1.2, -2.2), np.where(good, -2.4, -3.0))
        leaf: np.ndarray = np.where(liked, favourite, stranger)
        return leaf

    def look(
        self, attraction: np.ndarray, device: np.ndarray, trust: np.ndarray, draws: Draws
    ) -> Look:
        """Down the list; the chance to reach a place multiplies over all places above it."""
        on = np.array([GOES_ON.get(str(name), OTHER_GOES_ON) for name in device])
        wanted = draws.like < attraction
        chance_on = on[:, None] * (1 - attraction) + self.goes_on_after_click * attraction
        went_on = draws.look < np.where(wanted, self.goes_on_after_click, on[:, None])
        examined = _shifted(np.cumprod(went_on, axis=1)).astype(bool)
        examination = _shifted(np.cumprod(chance_on, axis=1))
        return Look(examination, attraction, examined, examined & wanted)


FAMILY: dict[FamilyName, Family] = {
    "position": Position(),
    "trust": Trust(),
    "cascade": Cascade(),
}


def by_place(device: np.ndarray, length: int) -> np.ndarray:
    """Chance that each place is looked at: (S,) devices -> (S, length)."""
    slope = np.array([SLOPE.get(str(name), OTHER_SLOPE) for name in device])
    examination: np.ndarray = np.arange(1, length + 1)[None, :] ** -slope[:, None]
    return examination


def _shifted(reached: np.ndarray) -> np.ndarray:
    """The first place is always reached; every other as far as the places above let one go."""
    first = np.ones((len(reached), 1), reached.dtype)
    return np.concatenate([first, reached[:, :-1]], axis=1)[:, : reached.shape[1]]
