"""What an experiment looks at: logged slates, and beside each number the truth about it.

Throughout: S slates, K places (best first), N items, U users, F features.
"""

from dataclasses import dataclass, fields

import numpy as np


@dataclass(frozen=True, slots=True)
class Catalogue:
    """What any platform knows of its items."""

    category: np.ndarray  # (N,) int
    kind: np.ndarray  # (N,) int, finer than the category, as the shop was told: sometimes wrong
    price: np.ndarray  # (N,) money, > 0


@dataclass(frozen=True, slots=True)
class Log:
    """Slates and reactions. The first four columns are what a platform logs; the others are true."""

    user_ix: np.ndarray  # (S,)
    device: np.ndarray  # (S,) int
    item_ix: np.ndarray  # (S, K)
    click: np.ndarray  # (S, K) bool
    attraction: np.ndarray  # (S, K) chance of a click by who looks, without any trust in the place
    examination: np.ndarray  # (S, K) chance that the place is looked at
    chance: np.ndarray  # (S, K) chance of a click: the perfect click model

    def __len__(self) -> int:
        return len(self.user_ix)

    def rows(self, chosen: np.ndarray | slice) -> "Log":
        """Some of the slates."""
        return Log(*(getattr(self, field.name)[chosen] for field in fields(self)))

    def top(self, places: int) -> "Log":
        """The first places of every slate; no family of worlds looks at them from below."""
        columns = (getattr(self, field.name) for field in fields(self))
        return Log(*(column[:, :places] if column.ndim == 2 else column for column in columns))


@dataclass(frozen=True, slots=True)
class Logged:
    """A world's log, cut in time, with what else is needed to learn from it and to judge."""

    catalogue: Catalogue
    users: int
    past: Log  # counts
    recent: Log  # rows to train on
    test: Log  # later than both
    randomised: Log  # slates of random items in random order, from the time of past and recent
    shuffled: Log  # the very visits and items of `test`, in random order
    shuffle: np.ndarray  # (S, K) place in `test` of what stands at each place of `shuffled`
