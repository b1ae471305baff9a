"""What a join that looks ahead is worth: everything by its own evaluation, less than nothing to users."""

import numpy as np
import pytest

from features.definitions import BY_NAME
from features.feature_set import CURRENT
from pipelines.experiments import e11
from pipelines.experiments.line import as_slates


@pytest.fixture(scope="module")
def found(line):
    return e11.compared(line, days=1)


def test_the_leak_wins_offline_and_loses_with_users(found):
    values = found.values
    for join in ("day_end", "latest"):
        assert values[f"own_auc_{join}"] > 0.95
        assert values[f"known_auc_{join}"] < 0.7, "the same model, on what was known"
        assert values[f"true_gain_{join}"] < -0.05
    assert values["own_auc_known"] == values["known_auc_known"] < 0.7


def test_the_leaky_trees_spend_their_gain_on_the_users_own_history(found):
    cross = e11.NAMES.index("cross")
    assert found.curves["latest"][cross] > 0.5 > found.curves["known"][cross]
    assert all(sum(shares) <= 1 + 1e-9 for shares in found.curves.values())


def test_all_that_the_card_grades_is_measured(found):
    named = {claim.effect for claim in e11.CARD.claims} | {e11.CARD.observed, e11.CARD.true}
    assert named <= set(found.values)


def test_rows_that_outlived_their_ttl_are_defaults_and_come_back(line, teaching):
    name = "item_age_days"
    place, default = CURRENT.place[name], BY_NAME[name].default
    before = teaching.features[:, place]
    with e11.nights_missing(line):
        during = line.teaching().features[:, place]
    assert (before == default).mean() < 0.05
    assert 0.3 < (during == default).mean() < 0.7, "a TTL of two days, a window of two days"
    assert np.array_equal(line.teaching().features[:, place], before)


def test_slates_of_different_lengths_are_filled_up():
    filled = as_slates(np.array([5.0, 1.0, 2.0, 3.0]), np.array([1, 3]), -np.inf)
    assert filled.tolist() == [[5.0, -np.inf, -np.inf], [1.0, 2.0, 3.0]]
