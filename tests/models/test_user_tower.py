from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save

from features.errors import ContractError
from models.funnel import recommend, retrieve
from models.user_tower import UserTower
from tests.worlds import random_tower, shopper, tiny_bundle


def tower() -> UserTower:
    rng = np.random.default_rng(3)
    return random_tower(rng, rng.normal(size=(30, 8)).astype(np.float32))


def test_one_more_click_changes_the_top_of_the_list(tmp_path: Path) -> None:
    bundle = tiny_bundle(tmp_path)
    user, context = shopper(bundle, ["i3", "i5", "i8", "i13"])
    before = recommend(bundle, user, context, 10)
    clicked, _ = shopper(bundle, ["i40", "i3", "i5", "i8", "i13"])
    after = recommend(bundle, clicked, context, 10)
    assert after.item_ix.tolist() != before.item_ix.tolist()

    # The vector itself moves towards what was clicked.
    assert bundle.tower is not None
    assert bundle.item_vectors is not None
    towards = bundle.item_vectors[40]
    moved = bundle.tower.encode(clicked.history_ix) @ towards
    assert moved > bundle.tower.encode(user.history_ix) @ towards
    assert retrieve(bundle, clicked).item_ix.tolist() != retrieve(bundle, user).item_ix.tolist()


def test_unknown_items_are_as_if_they_had_not_happened() -> None:
    one = tower()
    assert one.encode(np.array([-1, -1])) is None
    assert one.encode(np.empty(0, dtype=np.int64)) is None
    np.testing.assert_array_equal(one.encode(np.array([4, -1, 2])), one.encode(np.array([4, 2])))


def test_a_vector_has_length_1_and_a_history_longer_than_kept_is_cut() -> None:
    one = tower()
    history = np.arange(80) % 30
    vector = one.encode(history)
    assert vector is not None
    assert np.linalg.norm(vector) == pytest.approx(1.0, abs=1e-6)
    np.testing.assert_array_equal(vector, one.encode(history[:50]))


def test_bytes_and_back_changes_nothing() -> None:
    one = tower()
    back = UserTower.from_bytes(one.to_bytes(), "user_tower.safetensors")
    np.testing.assert_array_equal(one.encode(np.array([1, 2])), back.encode(np.array([1, 2])))


def test_a_missing_array_is_named() -> None:
    with pytest.raises(ContractError, match=r"user_tower.safetensors: holds .*expected.*out_bias"):
        UserTower.from_bytes(save({"item_inputs": np.zeros((2, 3))}), "user_tower.safetensors")


def test_layers_of_another_width_are_refused() -> None:
    one = tower()
    wrong = UserTower(
        one.item_inputs[:, :5],
        one.place_logit,
        one.hidden_weight,
        one.hidden_bias,
        one.out_weight,
        one.out_bias,
    )
    with pytest.raises(
        ContractError, match=r"expected \(6, 10\) and \(5, 6\) for embeddings of width 5"
    ):
        UserTower.from_bytes(wrong.to_bytes(), "x.safetensors")
