"""What everybody wants: the baseline that is hard to beat, and the fallback that cannot fail.

Throughout: N is the catalogue, E the number of positives.
"""

import numpy as np

RECENT_SHARE = 0.1
"""`recent_popular` counts the newest tenth of the known time."""


def counts(item_ix: np.ndarray, n_items: int) -> np.ndarray:
    """Positives per item, (N,) float64."""
    return np.bincount(item_ix, minlength=n_items).astype(np.float64)


def recent_counts(item_ix: np.ndarray, event_at: np.ndarray, n_items: int) -> np.ndarray:
    """Positives per item in the newest tenth of time, (N,) float64.

    Args:
        item_ix: (E,) rows of the catalogue.
        event_at: (E,) µs since 1970.
        n_items: N.
    """
    if len(event_at) == 0:
        return np.zeros(n_items)
    first, last = int(event_at.min()), int(event_at.max())
    recent = event_at >= last - (last - first) * RECENT_SHARE
    return counts(item_ix[recent], n_items)


def popular_order(item_ix: np.ndarray, event_at: np.ndarray, n_items: int) -> np.ndarray:
    """All N items, the recently popular first; ties by popularity of all time, then by row.

    Interview: Why is popularity the baseline to beat, and why the recent one?
        It needs no user, answers from memory and collects most of the clicks that any model
        collects, so lift over it is the only number worth a slide. What sold last month sells
        this month; counts of all time keep recommending what has gone out of season.
        Trade-off: a short window is noisy in the tail, so ties fall back to all time.
        Shown by: tests/models/test_popularity.py::test_a_new_hit_overtakes_an_old_one
    """
    recent = recent_counts(item_ix, event_at, n_items)
    always = counts(item_ix, n_items)
    return np.lexsort((np.arange(n_items), -always, -recent))


def own_history_order(
    own_item_ix: np.ndarray, own_event_at: np.ndarray, popular: np.ndarray
) -> np.ndarray:
    """A user's own items by count, then by the last time, padded with the popular ones.

    Args:
        own_item_ix: (E,) this user's positives.
        own_event_at: (E,) their times, µs.
        popular: ordered rows to pad with.

    Returns:
        Distinct rows, best first; at least all of `popular`.

    Examples:
        >>> own, at = np.array([4, 2, 4]), np.array([1, 9, 3])
        >>> own_history_order(own, at, popular=np.array([0, 2, 1])).tolist()
        [4, 2, 0, 1]
    """
    own, inverse = np.unique(own_item_ix, return_inverse=True)
    times = np.bincount(inverse, minlength=len(own))
    last = np.zeros(len(own), dtype=np.int64)
    np.maximum.at(last, inverse, own_event_at)
    own = own[np.lexsort((own, -last, -times))]
    return np.concatenate([own, popular[~np.isin(popular, own)]])
