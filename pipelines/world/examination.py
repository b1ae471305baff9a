"""How far down people look, told from clicks: three ways, graded against the truth.

K places; a curve is (K,), 1 at the first place.

Interview: Is the click rate by position the position bias?
    Only where position says nothing about the item. A logging policy puts what is clicked on top,
    so its curve falls by merit and by place together, and who divides by it pays for merit twice.
    On a randomised slice the two part; a click that the place alone brings stays in, until one
    takes the difference between good and bad items, where it cancels.
    Trade-off: the slice costs what random lists cost, and a small slice gives a rough curve.
    Shown by: tests/pipelines/test_world_examination.py::test_click_rate_by_position_is_not_examination
"""

import numpy as np

from pipelines.world.facts import Log


def true_curve(log: Log, slates: np.ndarray) -> np.ndarray:
    """Mean chance that a place is looked at, by people."""
    return _relative(log.reaction.examination[slates & _people(log)].mean(axis=0))


def by_position(log: Log) -> np.ndarray:
    """Click rate by position of what the logging policy chose: what it is not."""
    return _relative(log.clicks[~log.randomised & _people(log)].mean(axis=0))


def by_slice(log: Log) -> np.ndarray:
    """Click rate by position on the randomised slice."""
    return _relative(log.clicks[log.randomised & _people(log)].mean(axis=0))


def by_contrast(log: Log) -> np.ndarray:
    """Click rate of the better half of the items minus that of the worse, on the randomised slice.

    Which half an item is in is told from one half of the slates and used on the other.
    """
    rows = np.flatnonzero(log.randomised & _people(log))
    halves = (rows[::2], rows[1::2])
    gaps = [_gap(log, told, used) for told, used in (halves, halves[::-1])]
    return _relative(np.mean(gaps, axis=0))


def error(curve: np.ndarray, truth: np.ndarray) -> float:
    """Mean of |estimate / truth - 1| over the places after the first."""
    return float(np.abs(curve[1:] / truth[1:] - 1).mean())


def _gap(log: Log, told: np.ndarray, used: np.ndarray) -> np.ndarray:
    n = len(log.truth.items.ids)
    due = np.broadcast_to(log.clicks[told].mean(axis=0), (len(told), log.clicks.shape[1]))
    clicks = np.bincount(log.item_ix[told].ravel(), log.clicks[told].ravel().astype(float), n)
    rate = (clicks + 1) / (np.bincount(log.item_ix[told].ravel(), due.ravel(), n) + 1)
    good = (rate > np.median(rate))[log.item_ix[used]]
    click = log.clicks[used]
    better = (click & good).sum(axis=0) / good.sum(axis=0)
    worse = (click & ~good).sum(axis=0) / (~good).sum(axis=0)
    gap: np.ndarray = better - worse
    return gap


def _people(log: Log) -> np.ndarray:
    """(S,) bool: not a script. A platform tells them by their speed and their lack of taste."""
    people: np.ndarray = ~log.truth.users.bot[log.visits.user_ix]
    return people


def _relative(curve: np.ndarray) -> np.ndarray:
    relative: np.ndarray = curve / curve[0]
    return relative
