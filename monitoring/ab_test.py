"""An A/B test of two arms, users split by a salted hash: how much more, and how sure."""

import numpy as np
import pandas as pd
from scipy.stats import bootstrap


def lift(
    slates: pd.DataFrame, seed: int, treatment: str = "full", control: str = "popular"
) -> dict[str, float]:
    """Clicks per slate of the treatment over the control, minus 1, with a 95 % interval.

    Args:
        slates: one row per slate: user_id, arm, clicks.
        seed: of the bootstrap.

    Returns:
        mean, low, high (shares: 0.2 = 20 % more clicks per slate), and per arm its slates, users
        and clicks per slate.

    Raises:
        ValueError: an arm has fewer than two users or the control has no click at all.

    Interview: Why is the interval clustered by user?
        Users were assigned, not slates: one user's slates share taste and activity, so they are
        not independent. Resampling slates would treat a heavy user's hundred slates as a hundred
        votes and print an interval that is too narrow.
        Trade-off: wider intervals, hence longer tests; interleaving or CUPED buy that back.
        Shown by: tests/monitoring/test_ab_test.py::test_resampling_slates_instead_of_users_is_overconfident
    """
    arms = {
        arm: slates[slates["arm"] == arm]
        .groupby("user_id")["clicks"]
        .agg(["sum", "count"])
        .to_numpy(float)
        for arm in (treatment, control)
    }  # per user: (clicks, slates)
    for arm, users in arms.items():
        if len(users) < 2:
            raise ValueError(
                f"arm '{arm}' has {len(users)} users; a lift needs at least 2 in each arm"
            )
    if not arms[control][:, 0].sum():
        raise ValueError(
            f"arm '{control}' has no click, so a ratio to it has no meaning; run it longer"
        )

    def ratio(full: np.ndarray, base: np.ndarray, axis: int = -1) -> np.ndarray:
        return _per_slate(arms[treatment], full, axis) / _per_slate(arms[control], base, axis) - 1

    rows = tuple(np.arange(len(users)) for users in arms.values())
    interval = bootstrap(
        rows,
        ratio,
        method="percentile",
        n_resamples=2000,
        vectorized=True,
        rng=np.random.default_rng(seed),
    ).confidence_interval
    result = {
        "mean": float(ratio(rows[0], rows[1])),
        "low": float(interval.low),
        "high": float(interval.high),
    }
    for arm, users in arms.items():
        result[f"{arm}_users"] = len(users)
        result[f"{arm}_slates"] = int(users[:, 1].sum())
        result[f"{arm}_clicks_per_slate"] = float(users[:, 0].sum() / users[:, 1].sum())
    return result


def _per_slate(users: np.ndarray, rows: np.ndarray, axis: int) -> np.ndarray:
    """Clicks per slate of the users in `rows`, a resample along `axis`."""
    drawn = users[rows.astype(int)]  # (..., users, 2), so `axis` counts from before the pair
    totals = drawn.sum(axis=axis - 1 if axis < 0 else axis)
    return totals[..., 0] / totals[..., 1]
