"""The last step: from scores to a list that a person wants to look at.

Throughout: C is the candidates, K the list.
"""

import numpy as np

MAX_SHARE = 0.5
"""At most this share of a list may come from one subcategory, while others are left."""


def rerank(scores: np.ndarray, subcategory: np.ndarray, k: int) -> np.ndarray:
    """Places of the K best candidates, no subcategory filling more than its share.

    Args:
        scores: (C,) larger is better; ties keep the order of the candidates.
        subcategory: (C,) codes.
        k: length of the list.

    Returns:
        (K,) places in `scores`; fewer where there are fewer candidates.

    Examples:
        >>> rerank(np.array([5.0, 4.0, 3.0, 2.0]), np.array([7, 7, 7, 8]), 3).tolist()
        [0, 1, 3]
    """
    order = np.argsort(-scores, kind="stable")
    limit = max(1, int(np.ceil(k * MAX_SHARE)))
    codes = subcategory[order]
    by_code = np.argsort(codes, kind="stable")  # groups, best first inside
    starts = np.searchsorted(codes[by_code], codes[by_code])
    place = np.empty(len(order), dtype=np.int64)
    place[by_code] = np.arange(len(order)) - starts
    within = place < limit
    return np.concatenate([order[within], order[~within]])[:k]
