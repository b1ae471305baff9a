import numpy as np
import pandas as pd
import pytest

from monitoring.ab_test import lift


def slates(full: list[list[int]], popular: list[list[int]]) -> pd.DataFrame:
    rows = [
        (f"{arm}{user}", arm, clicks)
        for arm, users in (("full", full), ("popular", popular))
        for user, counts in enumerate(users)
        for clicks in counts
    ]
    return pd.DataFrame(rows, columns=["user_id", "arm", "clicks"])


def test_the_lift_is_clicks_per_slate_over_clicks_per_slate():
    measured = lift(slates([[2, 1], [0, 3]], [[1, 0], [1, 2]]), seed=0)
    assert measured["mean"] == pytest.approx((6 / 4) / (4 / 4) - 1)
    assert measured["full_slates"] == 4
    assert measured["popular_clicks_per_slate"] == pytest.approx(4 / 4)


def test_the_interval_covers_the_true_lift_of_nought_in_an_a_a_test():
    rng = np.random.default_rng(7)
    covered = 0
    for seed in range(40):
        taste = rng.gamma(2, 0.25, size=120)  # users differ, arms do not
        drawn = [list(rng.poisson(mean, size=rng.geometric(0.2))) for mean in taste]
        measured = lift(slates(drawn[:60], drawn[60:]), seed)
        covered += measured["low"] <= 0 <= measured["high"]
    assert covered >= 33  # 40 x 95 % = 38; P(fewer than 33) < 0.2 % for an honest interval


def test_resampling_slates_instead_of_users_is_overconfident():
    rng = np.random.default_rng(1)
    taste = rng.gamma(0.5, 1.0, size=80)  # few users click much: slates of one user go together
    table = slates(
        *[[list(rng.poisson(mean, size=30)) for mean in half] for half in (taste[:40], taste[40:])]
    )
    by_user = lift(table, seed=0)
    by_slate = lift(table.assign(user_id=[str(row) for row in range(len(table))]), seed=0)
    assert by_user["mean"] == pytest.approx(by_slate["mean"])
    assert by_user["high"] - by_user["low"] > 2 * (by_slate["high"] - by_slate["low"])


def test_an_arm_without_users_or_clicks_is_refused_by_name():
    with pytest.raises(ValueError, match="arm 'full' has 1 users; a lift needs at least 2"):
        lift(slates([[1]], [[1], [1]]), seed=0)
    with pytest.raises(ValueError, match="arm 'popular' has no click"):
        lift(slates([[1], [1]], [[0], [0]]), seed=0)
