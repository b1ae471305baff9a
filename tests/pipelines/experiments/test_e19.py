"""Groups of features: each column in one, held still without a trace, and losses by hand."""

import numpy as np
import pytest

from features.feature_set import CURRENT
from pipelines.experiments import e19
from pipelines.experiments.groups import NAMES, columns_by_group
from pipelines.experiments.line import gain_shares, without


def test_every_column_but_the_place_is_in_one_group():
    columns = [column for group in columns_by_group().values() for column in group]
    assert sorted(columns) == sorted(set(CURRENT.names) - {"position"})


def test_a_group_that_is_held_still_is_never_split_on(line, teaching):
    groups = columns_by_group()
    whole, trained = line.fit(teaching), line.fit(without(teaching, groups["cross"]))
    assert gain_shares(whole, groups)["cross"] > 0
    assert gain_shares(trained, groups)["cross"] == 0
    served = teaching.features  # where the columns do vary
    still = served.copy()
    still[:, [CURRENT.place[column] for column in groups["cross"]]] = -7.0
    assert np.array_equal(trained.score(served), trained.score(still))
    assert not np.array_equal(whole.score(served), whole.score(still))


def test_losses_are_shares_of_what_the_whole_model_earns():
    ndcg = {e19.WHOLE: 0.50, **dict.fromkeys(NAMES, 0.50), "cross": 0.40, "user": 0.45}
    clicks = {e19.WHOLE: 0.8, **dict.fromkeys(NAMES, 0.8), "cross": 0.6, "user": 0.7}
    found = e19.graded(ndcg, clicks, dict.fromkeys(NAMES, 1 / 6))
    assert found.values["ndcg_lost_cross"] == pytest.approx((0.50 - 0.40) / 0.50)
    assert found.values["true_lost_cross"] == pytest.approx((0.8 - 0.6) / 0.8)
    assert found.values["cross_minus_next"] == pytest.approx(0.25 - 0.125)
    assert found.values["order_agrees"] == pytest.approx(1.0)
    assert {claim.effect for claim in e19.CARD.claims} <= set(found.values)
    assert {e19.CARD.observed, e19.CARD.true} <= set(found.values)
