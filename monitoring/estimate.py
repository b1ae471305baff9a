"""What several seeds say together: a mean, and how far it may be off.

Throughout: n seeds; one number per seed. To compare arms, let the number be a difference or a ratio
of arms that met the same users, sessions and draws: pairing removes what makes worlds differ.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

LEVEL = 0.95


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean over seeds with its 95 % interval; None where one seed cannot give one."""

    mean: float
    low: float | None
    high: float | None
    seeds: int
    within: float | None = None  # mean half width inside a seed, where users are the unit


def over_seeds(values: Sequence[float], within: Sequence[float] = ()) -> Estimate:
    """Mean and Student's t interval of one number per seed.

    Raises:
        ValueError: no value, or one that is not a number.

    Source:
        Student 1908. Each value is already a mean over thousands of slates, hence near normal.

    Interview: Five seeds. Why a t interval and not the bootstrap?
        Five values have few distinct resamples, and their spread underestimates the truth: the
        percentile bootstrap misses far more often than its 5 %. The t interval pays for the
        unknown spread with a factor of 2.8 instead of 2, and keeps its word.
        Trade-off: it leans on means being near normal; for a skewed number per seed take more
        seeds. Inside one seed, with thousands of users, the bootstrap is the right tool.
        Shown by: tests/monitoring/test_estimate.py::test_the_bootstrap_of_five_is_overconfident
    """
    numbers = np.asarray(values, dtype=np.float64)
    if not len(numbers) or not np.isfinite(numbers).all():
        raise ValueError(f"expected one finite number per seed, got {list(values)}")
    mean, n = float(numbers.mean()), len(numbers)
    inside = float(np.mean(within)) if len(within) else None
    if n == 1:
        return Estimate(mean, None, None, n, inside)
    error = float(numbers.std(ddof=1)) / math.sqrt(n)
    half = float(stats.t.ppf((1 + LEVEL) / 2, n - 1)) * error
    return Estimate(mean, mean - half, mean + half, n, inside)
