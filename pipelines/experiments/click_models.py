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
from scipy import optimize

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
    """
    rate = randomised.click.mean(axis=0)
    slope = np.maximum(rate / rate[0], SLOPE_MIN)
    return lambda click: Reading(np.broadcast_to(slope, click.shape), np.zeros(click.shape))


def trust(randomised: Log) -> Fitted:
    """Looked at by place, and clicked at the top also when not wanted, because it is at the top.

    chance at place k = k ** -eta x (attraction + (1 - attraction) x trust / k)

    Eta, trust and the attraction of GROUPS of items are fitted to the click rates of groups by
    place. Groups come from one half of the slice and rates from the other, or luck would be read as
    attraction.

    Source:
        Agarwal et al., WWW 2019; read as an affine correction, Vardasbi et al., CIKM 2020.
        Deviation: power laws instead of free numbers per place, which a slice of this size cannot
        tell from noise.
    """
    half = np.arange(len(randomised)) % 2 == 0
    items = int(randomised.item_ix.max()) + 1
    group = _groups(randomised.rows(half), items)[randomised.item_ix[~half]]  # (S/2, K)
    click = randomised.click[~half]
    place = np.arange(1, click.shape[1] + 1)
    cell = group * len(place) + place - 1
    shown = np.bincount(cell.ravel(), minlength=GROUPS * len(place)).reshape(GROUPS, -1)
    clicks = np.bincount(cell.ravel(), click.ravel(), GROUPS * len(place)).reshape(GROUPS, -1)
    rate = clicks / np.maximum(shown, 1)
    weight = np.sqrt(shown / np.maximum(rate.mean(axis=0), 1e-4))  # of Poisson counts

    def chance(parameters: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        looked = place ** -parameters[0]
        return looked * (1 - parameters[1] / place), looked * parameters[1] / place

    def misfit(parameters: np.ndarray) -> np.ndarray:
        slope, floor = chance(parameters)
        return ((parameters[2:, None] * slope + floor - rate) * weight).ravel()

    first = np.clip(rate[:, 0], 1e-3, 0.9)
    begin = np.r_[1.0, 0.02, first]
    bounds = (np.zeros(len(begin)), np.r_[3.0, FLOOR_MAX, np.ones(GROUPS)])
    slope, floor = chance(optimize.least_squares(misfit, begin, bounds=bounds).x)
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


def _groups(half: Log, items: int) -> np.ndarray:
    """(N,) items in GROUPS equal parts by click rate; an item never shown goes by the prior."""
    shown = np.bincount(half.item_ix.ravel(), minlength=items)
    clicked = np.bincount(half.item_ix.ravel(), half.click.ravel(), minlength=items)
    prior = half.click.mean()
    rate = (clicked + 20 * prior) / (shown + 20)
    return np.argsort(np.argsort(rate, kind="stable")) * GROUPS // items
