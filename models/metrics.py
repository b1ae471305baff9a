"""Quality of ranked lists: one value per user, so that the caller can average, pair and resample.

Throughout: U is the users, K the list length. A gain is 1 where the item is relevant, else 0.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

RESAMPLES = 1000
"""Of the bootstrap; the ends of a 95 % interval then move by about a percent of its width."""


@dataclass(frozen=True, slots=True)
class Judged:
    """Lists beside the truth."""

    gain: np.ndarray  # (U, K) bool, best place first; False beyond the end of a short list
    n_relevant: np.ndarray  # (U,) how many items are relevant, found or not; at least 1


def judge(lists: Sequence[np.ndarray], relevant: Sequence[np.ndarray], k: int) -> Judged:
    """Look up each listed item among the relevant ones.

    Args:
        lists: U arrays of distinct item_ix, best first; longer than k is cut.
        relevant: U arrays of distinct item_ix, none empty.
        k: places that count.
    """
    gain = np.zeros((len(lists), k), dtype=bool)
    for row, (items, wanted) in enumerate(zip(lists, relevant, strict=True)):
        found = np.isin(items[:k], wanted)
        gain[row, : len(found)] = found
    return Judged(gain, np.array([len(wanted) for wanted in relevant], dtype=np.int64))


def ndcg(judged: Judged) -> np.ndarray:
    """(U,) discounted gain over that of the best possible list, min(K, n_relevant) hits on top.

    Examples:
        >>> round(float(ndcg(judge([np.array([7, 8])], [np.array([8])], k=2))[0]), 4)  # 1 / log2(3)
        0.6309
    """
    K = judged.gain.shape[1]
    discount = 1.0 / np.log2(np.arange(K) + 2)
    ideal = np.concatenate([[0.0], np.cumsum(discount)])[np.minimum(judged.n_relevant, K)]
    return np.asarray(judged.gain @ discount / ideal)


def precision(judged: Judged) -> np.ndarray:
    """(U,) share of the K places that are hits; a short list is charged for its empty places."""
    return judged.gain.mean(axis=1)


def recall(judged: Judged) -> np.ndarray:
    """(U,) share of the relevant items that were listed."""
    return judged.gain.sum(axis=1) / judged.n_relevant


def hit(judged: Judged) -> np.ndarray:
    """(U,) 1 where anything relevant was listed."""
    return np.asarray(judged.gain.any(axis=1), dtype=np.float64)


def average_precision(judged: Judged) -> np.ndarray:
    """(U,) mean over *all* relevant items of the precision at their place; unlisted ones give 0."""
    places = np.arange(1, judged.gain.shape[1] + 1)
    precision_at = np.cumsum(judged.gain, axis=1) / places  # (U, K)
    return (precision_at * judged.gain).sum(axis=1) / judged.n_relevant


def reciprocal_rank(judged: Judged) -> np.ndarray:
    """(U,) 1 / place of the first hit; 0 without one."""
    first = judged.gain.argmax(axis=1)
    return np.where(judged.gain.any(axis=1), 1.0 / (first + 1), 0.0)


METRICS = {
    "ndcg": ndcg,
    "recall": recall,
    "hit": hit,
    "precision": precision,
    "map": average_precision,
    "mrr": reciprocal_rank,
}


def coverage(lists: Sequence[np.ndarray], n_items: int, k: int) -> float:
    """Share of the catalogue that appears in anybody's first k places."""
    shown = np.concatenate([items[:k] for items in lists]) if len(lists) else np.empty(0)
    return len(np.unique(shown)) / max(n_items, 1)


def bootstrap(values: np.ndarray, seed: int) -> dict[str, float | None]:
    """Mean with its 95 % interval, users drawn with replacement; None where there is no user.

    Args:
        values: (U,) one per user. For a comparison pass the difference per user: pairing removes
            what makes users differ from each other, which is most of the noise.
        seed: of the draws.

    Interview: Two models differ by 0.004 nDCG. Is that real?
        Resample users, not impressions, and look at the difference per user: the interval of the
        paired difference says it. Two overlapping single intervals say nothing, because both
        models fail on the same hard users.
        Trade-off: it covers the luck of which users came, not of which weeks were tested.
        Shown by: tests/models/test_metrics.py::test_pairing_sees_what_two_intervals_hide
    """
    n = len(values)
    if n == 0:
        return {"mean": None, "low": None, "high": None}
    times = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), size=RESAMPLES)
    means = times @ values / n  # (RESAMPLES,)
    low, high = np.quantile(means, [0.025, 0.975])
    return {"mean": float(values.mean()), "low": float(low), "high": float(high)}
