import os
from math import log2
from pathlib import Path

import ir_measures
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models import metrics
from models.metrics import METRICS, bootstrap, coverage, judge


def test_hand_computed_values() -> None:
    # Places 1 and 3 hit; four items were relevant.
    judged = judge([np.array([5, 9, 6])], [np.array([5, 6, 7, 8])], k=3)
    got = {name: float(measure(judged)[0]) for name, measure in METRICS.items()}
    assert got == pytest.approx(
        {
            "ndcg": (1 + 1 / log2(4)) / (1 + 1 / log2(3) + 1 / log2(4)),
            "recall": 2 / 4,
            "hit": 1.0,
            "precision": 2 / 3,
            "map": (1 / 1 + 2 / 3) / 4,
            "mrr": 1.0,
        }
    )


def test_a_short_list_counts_its_empty_places_as_misses() -> None:
    judged = judge([np.array([3])], [np.array([3])], k=5)
    assert metrics.precision(judged)[0] == 1 / 5
    assert metrics.ndcg(judged)[0] == 1.0


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_equal_to_ir_measures_on_random_cases(seed: int) -> None:
    rng = np.random.default_rng(seed)
    k, users = 7, 40
    lists = [rng.permutation(30)[: rng.integers(1, 12)] for _ in range(users)]
    relevant = [rng.permutation(30)[: rng.integers(1, 15)] for _ in range(users)]
    judged = judge(lists, relevant, k)
    qrels = pd.DataFrame(
        [(str(u), str(i), 1) for u, items in enumerate(relevant) for i in items],
        columns=["query_id", "doc_id", "relevance"],
    )
    run = pd.DataFrame(
        [(str(u), str(i), -p) for u, items in enumerate(lists) for p, i in enumerate(items)],
        columns=["query_id", "doc_id", "score"],
    )
    theirs = {
        "ndcg": ir_measures.nDCG @ k,
        "recall": ir_measures.R @ k,
        "hit": ir_measures.Success @ k,
        "precision": ir_measures.P @ k,
        "map": ir_measures.AP @ k,
        "mrr": ir_measures.RR @ k,
    }
    by_measure = {str(measure): name for name, measure in theirs.items()}
    seen = 0
    for value in ir_measures.iter_calc(list(theirs.values()), qrels, run):
        ours = METRICS[by_measure[str(value.measure)]](judged)[int(value.query_id)]
        assert ours == pytest.approx(value.value, abs=1e-9), value
        seen += 1
    assert seen == users * len(theirs)


@given(st.permutations(range(8)), st.sets(st.integers(0, 7), min_size=1))
def test_every_metric_lies_between_0_and_1(items: list[int], relevant: set[int]) -> None:
    judged = judge([np.array(items)], [np.array(sorted(relevant))], k=4)
    for measure in METRICS.values():
        assert 0.0 <= measure(judged)[0] <= 1.0


@given(st.integers(1, 8), st.integers(1, 8))
def test_the_best_possible_list_has_ndcg_1(n_relevant: int, k: int) -> None:
    judged = judge([np.arange(8)], [np.arange(n_relevant)], k)
    assert metrics.ndcg(judged)[0] == pytest.approx(1.0)


def test_coverage_counts_only_places_that_are_shown() -> None:
    assert coverage([np.array([1, 2, 3]), np.array([1, 4, 5])], n_items=10, k=2) == 3 / 10
    assert coverage([], n_items=10, k=2) == 0.0


def test_the_interval_holds_the_true_mean_about_95_times_in_100() -> None:
    rng = np.random.default_rng(0)
    inside = 0
    for trial in range(200):
        interval = bootstrap(rng.exponential(1.0, 80), seed=trial)
        inside += interval["low"] <= 1.0 <= interval["high"]
    assert 0.88 <= inside / 200 <= 0.99


def test_pairing_sees_what_two_intervals_hide() -> None:
    rng = np.random.default_rng(4)
    hardness = rng.uniform(0, 1, 300)  # shared by both models
    one, other = hardness, np.clip(hardness + rng.normal(0.01, 0.02, 300), 0, 1.1)
    a, b = bootstrap(one, seed=1), bootstrap(other, seed=1)
    assert a["high"] > b["low"]  # the single intervals overlap
    assert bootstrap(other - one, seed=1)["low"] > 0


def test_same_seed_same_interval_and_no_user_no_number() -> None:
    values = np.random.default_rng(2).random(50)
    assert bootstrap(values, seed=3) == bootstrap(values, seed=3)
    assert bootstrap(np.empty(0), seed=3)["mean"] is None


@pytest.mark.data
def test_the_published_figures_of_most_popular_films_are_reproduced() -> None:
    # The protocol of the Microsoft recommenders benchmark, as the data's README states it.
    path = Path(os.environ.get("SHORTLIST_DATA_DIR", "../shared/data")) / "ml-100k" / "u.data"
    if not path.exists():
        pytest.skip(f"{path} is absent; SHORTLIST_DATA_DIR names the folder of the public data")
    ratings = pd.read_csv(path, sep="\t", names=["user", "item", "stars", "at"])
    ratings["random"] = np.random.RandomState(42).rand(len(ratings))
    ratings = ratings.sort_values(["item", "random"])
    rank = ratings.groupby("item").cumcount() + 1
    count = ratings.groupby("item")["item"].transform("size")
    in_train = rank <= (0.75 * count).round()
    train, test = ratings[in_train], ratings[~in_train]
    assert (len(train), len(test), test["user"].nunique()) == (75_066, 24_934, 943)

    popular = np.argsort(-np.bincount(train["item"]), kind="stable")
    seen = train.groupby("user")["item"].agg(set)
    wanted = test.groupby("user")["item"].agg(list)
    lists = [popular[~np.isin(popular, list(seen.get(user, ())))][:10] for user in wanted.index]
    judged = judge(lists, [np.array(items) for items in wanted], k=10)
    published = {"map": 0.0560, "ndcg": 0.2524, "precision": 0.2287, "recall": 0.1132}
    for name, value in published.items():
        assert METRICS[name](judged).mean() == pytest.approx(value, abs=0.001), name
