"""How far down people look, told from clicks: two ways, graded against the truth.

K places; a curve is (K,), 1 at the first place.

Interview: Is the click rate by position the position bias?
    Only where position says nothing about the item. A logging policy puts what is clicked on top,
    so its curve falls by merit and by place together, and who divides by it pays for merit twice.
    On a randomised slice the two part. Clicks that the place alone brings (trust) stay in: no
    shuffling tells whether a place was looked at more or merely believed more.
    Trade-off: the slice costs what random lists cost, and a small slice gives a rough curve.
    Shown by: tests/pipelines/test_world_examination.py::test_click_rate_by_position_is_not_examination
"""

import numpy as np

from pipelines.world.facts import Log


def true_curve(log: Log, slates: np.ndarray) -> np.ndarray:
    """Mean chance that a place is looked at, by people."""
    return _relative(log.reaction.examination[slates & people(log)].mean(axis=0))


def clicked_curve(log: Log, slates: np.ndarray) -> np.ndarray:
    """Mean true chance of a click by place: what a randomised slice converges to."""
    return _relative(log.reaction.utility[slates & people(log)].mean(axis=0))


def by_position(log: Log) -> np.ndarray:
    """Click rate by position of what the logging policy chose: what it is not."""
    return _relative(log.clicks[~log.randomised & people(log)].mean(axis=0))


def by_slice(log: Log) -> np.ndarray:
    """Click rate by position on the randomised slice."""
    return _relative(log.clicks[log.randomised & people(log)].mean(axis=0))


def error(curve: np.ndarray, truth: np.ndarray) -> float:
    """Mean of |estimate / truth - 1| over the places after the first."""
    return float(np.abs(curve[1:] / truth[1:] - 1).mean())


def people(log: Log) -> np.ndarray:
    """(S,) bool: not a script. A platform tells them by their speed and their lack of taste."""
    people: np.ndarray = ~log.truth.users.bot[log.visits.user_ix]
    return people


def _relative(curve: np.ndarray) -> np.ndarray:
    relative: np.ndarray = curve / curve[0]
    return relative
