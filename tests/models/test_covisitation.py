import numpy as np
import pytest
from sklearn.metrics.pairwise import cosine_similarity

from models import covisitation
from models.covisitation import SHRINKAGE, candidates, fit, loudest
from tests.worlds import checkerboard, history_of


def test_scores_are_shrunk_cosines_of_user_sets(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(1)
    user_ix, item_ix = rng.integers(0, 9, 60), rng.integers(0, 7, 60)
    table = np.zeros((9, 7))
    table[user_ix, item_ix] = 1.0
    monkeypatch.setattr(covisitation, "SHRINKAGE", 0.0)
    got = fit(user_ix, item_ix, 7)
    cosine = cosine_similarity(table.T)
    for item in range(7):
        known = got.ix[item] >= 0
        np.testing.assert_allclose(
            got.score[item][known], cosine[item, got.ix[item][known]], rtol=1e-5
        )
        assert item not in got.ix[item]
        assert (np.diff(got.score[item]) <= 0).all()
    assert SHRINKAGE > 0


def test_two_users_out_of_two_say_less_than_twenty_out_of_twenty() -> None:
    few, many = np.repeat(np.arange(2), 2), np.repeat(np.arange(10, 30), 2)
    items = np.concatenate([np.tile([0, 1], 2), np.tile([2, 3], 20)])
    got = fit(np.concatenate([few, many]), items, 4)
    assert got.score[2, 0] > got.score[0, 0] > 0


def test_the_withheld_item_of_the_checkerboard_is_found() -> None:
    world = checkerboard()
    neighbours = fit(world.user_ix, world.item_ix, world.n_items)
    for user in range(6):
        history = history_of(world, user)
        found, _ = candidates(neighbours, history, world.n_items)
        unseen = found[~np.isin(found, history)]
        assert unseen[0] == world.answer[user]


def test_the_loudest_voter_is_in_the_history_and_absent_where_nobody_voted() -> None:
    user_ix, item_ix = np.array([0, 0, 1, 1, 2, 2]), np.array([0, 1, 0, 1, 2, 3])
    neighbours = fit(user_ix, item_ix, 5)
    assert loudest(neighbours, np.array([0, 2]), np.array([1, 3, 4])).tolist() == [0, 2, -1]
    assert loudest(neighbours, np.array([4]), np.array([1])).tolist() == [-1]


def test_nothing_to_learn_from_gives_no_candidates() -> None:
    none = np.empty(0, dtype=np.int64)
    found, score = candidates(fit(none, none, 3), np.array([1]), 10)
    assert len(found) == len(score) == 0
