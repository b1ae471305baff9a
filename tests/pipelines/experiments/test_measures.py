import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import ndcg_score, roc_auc_score

from pipelines.experiments.measures import (
    best_first,
    by_user,
    click_ndcg,
    expected_auc,
    rank_correlation,
    true_ndcg,
)


def test_the_expected_auc_is_the_mean_of_the_drawn_ones():
    rng = np.random.default_rng(0)
    chance = rng.uniform(0.02, 0.4, 4000)
    score = np.round(chance + rng.normal(0, 0.1, 4000), 1)  # with many ties
    drawn = [roc_auc_score(rng.random(4000) < chance, score) for _ in range(50)]
    assert expected_auc(score, chance) == pytest.approx(
        np.mean(drawn), abs=3 * np.std(drawn) / 50**0.5
    )


@given(st.lists(st.tuples(st.integers(0, 5), st.floats(0.01, 0.99)), min_size=2, max_size=20))
def test_turning_the_score_round_turns_the_auc_round(rows):
    score, chance = (np.array(column, float) for column in zip(*rows, strict=True))
    assert expected_auc(score, chance) + expected_auc(-score, chance) == pytest.approx(1)
    assert expected_auc(chance, chance) >= expected_auc(score, chance) - 1e-12, (
        "nothing beats the truth"
    )


def test_click_ndcg_agrees_with_scikit_learn():
    rng = np.random.default_rng(1)
    click, score = rng.random((40, 7)) < 0.2, rng.random((40, 7))
    some = click.any(axis=1)
    theirs = [
        ndcg_score([c], [s]) for c, s in zip(click[some].astype(int), score[some], strict=True)
    ]
    assert click_ndcg(click, score) == pytest.approx(theirs)


def test_true_ndcg_weighs_attraction_and_not_draws():
    attraction = np.array([[0.1, 0.4]])
    best = 0.4 + 0.1 / np.log2(3)
    assert true_ndcg(attraction, np.array([[1.0, 0.0]]))[0] == pytest.approx(
        (0.1 + 0.4 / np.log2(3)) / best
    )
    assert true_ndcg(attraction, attraction)[0] == pytest.approx(1)


def test_ties_keep_the_order_shown():
    assert best_first(np.zeros((2, 3))).tolist() == [[0, 1, 2]] * 2


def test_users_count_once_however_often_they_come():
    assert by_user(np.array([1.0, 3.0, 5.0]), np.array([7, 7, 9])).tolist() == [2.0, 5.0]


def test_rank_correlation_reads_order_alone():
    assert rank_correlation(np.array([1, 2, 9]), np.array([0.1, 0.2, 0.3])) == pytest.approx(1)
    assert rank_correlation(np.array([1, 2, 9]), np.array([3, 2, 1])) == pytest.approx(-1)
