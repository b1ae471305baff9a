"""What the retrieval model learns from: each positive, beside what its user had wanted before it.

Throughout: E is the positives, T the kept history.
"""

import numpy as np


def histories(
    user_ix: np.ndarray, item_ix: np.ndarray, event_at: np.ndarray, length: int
) -> tuple[np.ndarray, np.ndarray]:
    """For each positive, the same user's earlier positives, newest first.

    Args:
        user_ix: (E,) in any order.
        item_ix: (E,)
        event_at: (E,) µs. What happened at the same microsecond (one basket) is not earlier.
        length: T.

    Returns:
        target_ix (E,) and history_ix (E, T) with -1 = nothing; rows by user, then by time.

    Examples:
        >>> targets, before = histories(
        ...     np.array([0, 0, 0]), np.array([4, 5, 6]), np.array([1, 2, 2]), length=2
        ... )
        >>> targets.tolist(), before.tolist()
        ([4, 5, 6], [[-1, -1], [4, -1], [4, -1]])
    """
    order = np.lexsort((item_ix, event_at, user_ix))
    user_ix, item_ix, event_at = user_ix[order], item_ix[order], event_at[order]
    rows = np.arange(len(order))
    new_user = np.r_[True, user_ix[1:] != user_ix[:-1]][: len(order)]
    new_moment = new_user | np.r_[True, event_at[1:] != event_at[:-1]][: len(order)]
    first_of_user = np.maximum.accumulate(np.where(new_user, rows, 0))
    first_of_moment = np.maximum.accumulate(np.where(new_moment, rows, 0))
    back = first_of_moment[:, None] - 1 - np.arange(length)  # (E, T)
    known = back >= first_of_user[:, None]
    return item_ix, np.where(known, item_ix[np.maximum(back, 0)], -1)
