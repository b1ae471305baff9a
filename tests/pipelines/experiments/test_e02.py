"""E-02 on a log whose every chance was written down."""

import numpy as np
import pytest

from pipelines.experiments import e02
from tests.pipelines.experiments.oracle import world


@pytest.fixture(scope="module")
def judged():
    logs = world(leaning=3.0)
    return e02.judged(logs, e02.contenders(logs, 0))


def test_the_log_prefers_the_order_that_made_it(judged):
    assert judged.values["logged_shown_minus_oracle"] > 0.03, "even to the truth"


def test_the_randomised_slice_puts_the_truth_first(judged):
    values = judged.values
    assert values["randomised_oracle_minus_shown"] > 0.02
    assert max(e02.CONTENDERS, key=lambda name: values[f"randomised_{name}"]) == "oracle"
    assert values["randomised_agrees"] > values["logged_agrees"]


def test_the_truth_grades_the_true_order_with_one(judged):
    assert judged.values["true_oracle"] == pytest.approx(1)
    assert judged.values["true_random"] < judged.values["true_shown"] < 1


def test_intervals_within_a_seed_are_over_users(judged):
    assert set(judged.within) == set(e02.DIFFERENCES)
    assert all(0 < half < 0.1 for half in judged.within.values())


def test_a_random_order_scores_the_same_before_both_judges():
    logs = world(leaning=0.0)  # the logger itself shows in random order
    score = np.random.default_rng(0).random(logs.test.item_ix.shape)
    values = e02.judged(logs, {"shown": score, "oracle": logs.test.attraction}).values
    assert values["logged_shown"] == pytest.approx(values["randomised_shown"], abs=0.02)
