"""Item-kNN: items that the same users wanted, by cosine of their user sets.

Throughout: N is the catalogue, M the neighbours kept per item, T a user's history, newest first.
"""

from dataclasses import dataclass

import numpy as np

NEIGHBOURS = 50
"""Kept per item; further ones are noise and would sit in every bundle."""

SHRINKAGE = 3.0
"""Added to the norm product: two users in common out of two say less than twenty out of twenty."""

NEWEST = 20
"""History items that ask their neighbours; older ones belong to older intents."""


@dataclass(frozen=True, slots=True)
class Neighbours:
    """The M nearest items of every item.

    Attributes:
        ix: (N, M) int32 rows of the catalogue, nearest first, -1 = no further neighbour.
        score: (N, M) float32 similarity, 0 where `ix` is -1.
    """

    ix: np.ndarray
    score: np.ndarray


def fit(user_ix: np.ndarray, item_ix: np.ndarray, n_items: int) -> Neighbours:
    """Neighbours from (user, item) positives; repeats of a pair count once.

    Source:
        Sarwar et al., WWW 2001. Deviation: binary values and a constant shrinkage.
    """
    from scipy import sparse  # only fitting needs it; serving imports this file too

    n_users = int(user_ix.max()) + 1 if len(user_ix) else 0
    pairs = sparse.csr_matrix(
        (np.ones(len(user_ix), dtype=np.float32), (user_ix, item_ix)), shape=(n_users, n_items)
    )
    pairs.data[:] = 1.0  # building the matrix has summed the repeats
    together = (pairs.T @ pairs).tocsr()
    norm = np.sqrt(together.diagonal())
    together.setdiag(0)
    together.eliminate_zeros()
    rows = np.repeat(np.arange(n_items), np.diff(together.indptr))
    score = together.data / (norm[rows] * norm[together.indices] + SHRINKAGE)
    return _top(rows, together.indices, score.astype(np.float32), n_items)


def _top(rows: np.ndarray, cols: np.ndarray, score: np.ndarray, n_items: int) -> Neighbours:
    """The NEIGHBOURS best columns of each row; ties by the lower column."""
    order = np.lexsort((cols, -score, rows))
    rows, cols, score = rows[order], cols[order], score[order]
    starts = np.searchsorted(rows, np.arange(n_items))
    place = np.arange(len(rows)) - starts[rows]
    keep = place < NEIGHBOURS
    width = int(place[keep].max()) + 1 if keep.any() else 1
    ix = np.full((n_items, width), -1, dtype=np.int32)
    best = np.zeros((n_items, width), dtype=np.float32)
    ix[rows[keep], place[keep]] = cols[keep]
    best[rows[keep], place[keep]] = score[keep]
    return Neighbours(ix, best)


def candidates(
    neighbours: Neighbours, history_ix: np.ndarray, k: int
) -> tuple[np.ndarray, np.ndarray]:
    """The k items most co-visited with a history.

    Args:
        neighbours: from `fit`.
        history_ix: (T,) rows, newest first, all known; repeats weigh more.
        k: how many at most.

    Returns:
        item_ix (C,), score (C,), best first; ties by the lower row.
    """
    items, votes, _ = _votes(neighbours, history_ix)
    found, inverse = np.unique(items, return_inverse=True)
    score = np.bincount(inverse, weights=votes, minlength=len(found))
    best = np.lexsort((found, -score))[:k]
    return found[best], score[best]


def loudest(neighbours: Neighbours, history_ix: np.ndarray, item_ix: np.ndarray) -> np.ndarray:
    """(C,) for each candidate the history item with the largest vote for it; -1 = none voted."""
    items, votes, voters = _votes(neighbours, history_ix)
    if len(items) == 0:
        return np.full(len(item_ix), -1, dtype=np.int64)
    order = np.lexsort((votes, items))
    items, voters = items[order], voters[order]
    last = np.searchsorted(items, item_ix, side="right") - 1  # the largest vote of each item
    return np.where((last >= 0) & (items[last] == item_ix), voters[last], -1)


def _votes(
    neighbours: Neighbours, history_ix: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Item, weight and voter of each vote; newer history items weigh more."""
    recent = history_ix[:NEWEST]
    weight = 1.0 / np.sqrt(1.0 + np.arange(len(recent)))
    ix = neighbours.ix[recent]  # (T, M)
    known = ix >= 0
    votes = (neighbours.score[recent] * weight[:, None])[known]
    return ix[known].astype(np.int64), votes, np.broadcast_to(recent[:, None], ix.shape)[known]
