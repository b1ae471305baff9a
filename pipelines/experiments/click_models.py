"""What may be assumed about looking and clicking, so that clicks can be read as wishes.

Each assumption says, for every place of a slate,

    chance of a click = slope x attraction + floor

and is fitted on a slice of traffic whose slates were shown in random order, where what stands at a
place is no better than what stands elsewhere. None of them sees the truth; which of them is right
depends on the world. Throughout: S slates, K places.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from pipelines.experiments.log import Log

GROUPS = 4
"""Of items by click rate, through which trust bias draws its lines."""

SLOPE_MIN = 0.02
"""Below it a place says nothing, and dividing by it says anything."""

FLOOR_MAX = 0.5


@dataclass(frozen=True, slots=True)
class Reading:
    """How clicks are read: both (S, K)."""

    slope: np.ndarray
    floor: np.ndarray

    def curve(self) -> np.ndarray:
        """(K,) how much each place is looked at, as this reading has it; the first is 1."""
        mean = self.slope.mean(axis=0)
        return np.asarray(mean / mean[0])


Fitted = Callable[[np.ndarray], Reading]
"""(S, K) bool clicks -> their reading."""


def naive(_: Log) -> Fitted:
    """A place is a place: what is not clicked is not wanted."""
    return lambda click: Reading(np.ones(click.shape), np.zeros(click.shape))


def position_based(randomised: Log) -> Fitted:
    """Each place is looked at with a chance of its own, whatever stands there.

    In a random order all places hold the same items on average, so click rates are to each other
    as the chances of being looked at.

    Source:
        Richardson et al., WWW 2007. Deviation: from an intervention, not by expectation-maximisation.

    Interview: Why not read the position bias off the click rate by position?
        Because the logged order is not random: the first place has more clicks also because the
        better items stand there. That curve is too steep, and dividing by it over-corrects. Shuffle
        a small share of traffic, and the same curve is the bias.
        Trade-off: the shuffled share costs clicks; swapping only neighbours, or several rankers in
        the log, is cheaper and needs more data. And it is the bias of this click model only.
        Shown by: tests/pipelines/experiments/test_click_models.py::test_the_logged_click_curve_is_too_steep
    """
    rate = randomised.click.mean(axis=0)
    slope = np.maximum(rate / rate[0], SLOPE_MIN)
    return lambda click: Reading(np.broadcast_to(slope, click.shape), np.zeros(click.shape))


def trust(randomised: Log) -> Fitted:
    """Looked at by place, and clicked at the top also when not wanted, because it is at the top.

    At each place the click rates of groups of items lie on a line over their rates anywhere; its
    slope is how much is looked at, its height what is clicked regardless. Groups come from one half
    of the slice and rates from the other, or luck would be read as attraction.

    Source:
        Vardasbi et al., CIKM 2020 (affine correction). Deviation: lines through groups of items,
        anchored so that the last place has no trust.
    """
    half = np.arange(len(randomised)) % 2 == 0
    group = _groups(randomised.rows(half))[randomised.item_ix[~half]]  # (S/2, K)
    click = randomised.click[~half]
    rate = np.array(
        [[click[:, k][group[:, k] == g].mean() for g in range(GROUPS)] for k in _places(click)]
    )
    lines = np.array([np.polyfit(rate.mean(axis=0), at, 1) for at in rate])  # (K, 2)
    slope = np.maximum(lines[:, 0] / lines[0, 0], SLOPE_MIN)
    floor = np.clip(lines[:, 1] - lines[-1, 1] * slope / slope[-1], 0, FLOOR_MAX)
    return lambda click: Reading(
        np.broadcast_to(slope, click.shape), np.broadcast_to(floor, click.shape)
    )


def cascade(randomised: Log) -> Fitted:
    """Read from the top, going on with one chance after a click and with another after none.

    The first place is always looked at, so its click rate is the mean attraction; how much rarer
    clicks become from place to place, and how often one click follows another, give the two chances.
    How likely a place was looked at then depends on what was clicked above it.

    Source:
        Guo et al., WSDM 2009 (dependent click model). Deviation: readers may also stop without a
        click, the chances are the same at all places, and all items attract alike when they are
        fitted.
    """
    click = randomised.click
    attraction = float(click[:, 0].mean())
    follows = float(click[:, 1:][click[:, :-1]].mean()) if click[:, :-1].any() else 0.0
    after_click = min(follows / attraction, 1.0)
    rate = click.mean(axis=0)
    rarer = float(np.exp(np.polyfit(np.arange(len(rate)), np.log(np.maximum(rate, 1e-6)), 1)[0]))
    after_none = min(max((rarer - after_click * attraction) / (1 - attraction), SLOPE_MIN), 1.0)

    def read(click: np.ndarray) -> Reading:
        looked = np.ones(click.shape)
        for k in range(1, click.shape[1]):
            above = looked[:, k - 1]
            unclicked = above * (1 - attraction) / (1 - above * attraction)  # by Bayes
            looked[:, k] = np.where(click[:, k - 1], after_click, unclicked * after_none)
        return Reading(looked, np.zeros(click.shape))

    return read


ASSUMED: dict[str, Callable[[Log], Fitted]] = {
    "naive": naive,
    "position": position_based,
    "trust": trust,
    "cascade": cascade,
}


def _places(click: np.ndarray) -> range:
    return range(click.shape[1])


def _groups(half: Log) -> np.ndarray:
    """(N,) items in GROUPS equal parts by click rate; an item never shown goes by the prior."""
    items = int(half.item_ix.max()) + 1
    shown = np.bincount(half.item_ix.ravel(), minlength=items)
    clicked = np.bincount(half.item_ix.ravel(), half.click.ravel(), minlength=items)
    prior = half.click.mean()
    rate = (clicked + 20 * prior) / (shown + 20)
    return np.argsort(np.argsort(rate, kind="stable")) * GROUPS // items
