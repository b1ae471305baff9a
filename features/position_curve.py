"""How many clicks a place brings by itself: the denominator of every COEC feature.

    clicks(item, place)  ~  shown(item, place) * attraction(item) * examined(place)

Both factors are fitted together, each from the other, until neither moves: the maximum of a Poisson
likelihood. On randomised slates every item stands everywhere equally often and the fit is the plain
click rate by place; on a log where good items stand on top it takes their goodness out.

A curve is data with a version: it is fitted on what happened before a Monday, and used for the
impressions of that week alone. So no expected click knows anything of its own future, and the
sums of a day never change when a later curve is fitted.
"""

import hashlib
from collections.abc import Mapping
from datetime import date

import numpy as np

from features.definitions import PRIOR_CLICKS, PRIOR_IMPRESSIONS

ESTIMATOR = "two-way Poisson, version 1"
"""Part of a curve's version: another estimator makes other curves."""

MAX_POSITION = 50
"""Deeper places count as this one."""

UNKNOWN_POSITION = 0
"""What was shown without a place: expected at the mean of all places."""

ENOUGH_CLICKS = 100
"""Before that every place is expected to bring the prior: nothing is corrected yet."""

SHOWN_MIN = 50
"""A place that was shown less often takes the value of the place above it."""

ROUNDS = 200
MOVES_LESS = 1e-12
"""Ends the fit: the largest relative change of a round."""

MONDAY = 3
"""Days from Thursday 1970-01-01, back to the Monday before it."""

Curve = Mapping[int, float]
"""Place -> expected clicks of one impression there; UNKNOWN_POSITION to MAX_POSITION, all of them."""

FLAT: Curve = dict.fromkeys(
    range(UNKNOWN_POSITION, MAX_POSITION + 1), PRIOR_CLICKS / PRIOR_IMPRESSIONS
)


def week_of(day: date) -> int:
    """Number of the week, Monday to Sunday, that a day lies in.

    >>> week_of(date(2026, 3, 1)), week_of(date(2026, 3, 2))  # a Sunday and a Monday
    (2930, 2931)
    """
    return ((day - date(1970, 1, 1)).days + MONDAY) // 7


def fit(
    item: np.ndarray, position: np.ndarray, shown: np.ndarray, clicks: np.ndarray
) -> dict[int, float]:
    """The curve that a log tells; one row of it per item and place.

    Args:
        item: (R,) codes.
        position: (R,) places, 1 = first; UNKNOWN_POSITION where none is known.
        shown: (R,) impressions.
        clicks: (R,) clicks on them.

    Returns:
        Place -> expected clicks of one impression of the average item; they sum to the clicks seen.

    Interview: Click rates of items favour those that stood on top. How do you correct a feature?
        Divide clicks by the clicks that the places alone lead to expect. The places' pull is
        fitted together with the items': an item shown at several places tells places apart, a
        place with several items tells items apart.
        Trade-off: where an item always stands at the same place nothing tells the two apart; a
        little randomisation settles what no model of a deterministic log can.
        Shown by: tests/features/test_position_curve.py::test_good_items_on_top_do_not_bend_the_curve
    """
    if clicks.sum() < ENOUGH_CLICKS:
        return dict(FLAT)
    position = np.minimum(position, MAX_POSITION)
    _, item = np.unique(item, return_inverse=True)
    known = position > UNKNOWN_POSITION
    examined = _examined(item[known], position[known], shown[known], clicks[known])
    counts = np.bincount(position, weights=shown, minlength=MAX_POSITION + 1)
    examined[UNKNOWN_POSITION] = (
        np.average(examined[1:], weights=counts[1:]) if counts[1:].any() else 1.0
    )
    scale = clicks.sum() / (counts * examined).sum()
    return {place: float(scale * pull) for place, pull in enumerate(examined)}


def _examined(
    item: np.ndarray, position: np.ndarray, shown: np.ndarray, clicks: np.ndarray
) -> np.ndarray:
    """(MAX_POSITION + 1,) each place's pull, the first = 1."""
    shown_at = np.bincount(position, weights=shown, minlength=MAX_POSITION + 1)
    clicked_at = np.bincount(position, weights=clicks, minlength=MAX_POSITION + 1)
    clicked_of = np.bincount(item, weights=clicks)
    examined = np.ones(MAX_POSITION + 1)
    for _ in range(ROUNDS):
        reached = np.bincount(item, weights=shown * examined[position])
        attraction = np.divide(
            clicked_of, reached, out=np.zeros_like(clicked_of), where=reached > 0
        )
        drawn = np.bincount(position, weights=shown * attraction[item], minlength=MAX_POSITION + 1)
        after = np.divide(clicked_at, drawn, out=examined.copy(), where=drawn > 0)
        after /= after[1] or 1.0
        moved = np.abs(after - examined).max()
        examined = after
        if moved < MOVES_LESS:
            break
    for place in range(2, MAX_POSITION + 1):
        if shown_at[place] < SHOWN_MIN:
            examined[place] = examined[place - 1]
    return examined


def version_of(curve: Curve) -> str:
    """A name that changes with the estimator and with any value.

    >>> version_of(FLAT) == version_of(dict(FLAT))
    True
    """
    told = f"{ESTIMATOR} " + " ".join(f"{place}:{rate!r}" for place, rate in sorted(curve.items()))
    return hashlib.sha256(told.encode()).hexdigest()[:12]
