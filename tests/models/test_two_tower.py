import numpy as np
import pytest
import torch

from models.index import exact_search
from models.sampling import histories
from models.two_tower import ItemContent, Trained, TwoTowerSettings, train
from tests.worlds import Played, checkerboard, history_of, popularity_trap, two_tastes

torch.set_num_threads(1)


def blank(n_items: int) -> ItemContent:
    """Items of which nothing but the id is known."""
    unknown = np.full(n_items, -1, dtype=np.int64)
    return ItemContent(unknown, unknown, np.full(n_items, np.nan))


def fit(
    world: Played, content: ItemContent | None = None, seed: int = 1, **changes: object
) -> Trained:
    targets, before = histories(world.user_ix, world.item_ix, world.event_at, 10)
    settings = TwoTowerSettings(
        **{"batch": 64, "uniform": 16, "history": 10, "epochs": 20, **changes}
    )
    return train(targets, before, content or blank(world.n_items), seed, settings)


def order(trained: Trained, history: np.ndarray) -> np.ndarray:
    vector = trained.tower.encode(history)
    assert vector is not None
    return exact_search(trained.item_vectors, vector, len(trained.item_vectors))[0]


def test_the_checkerboard_is_solved() -> None:
    world = checkerboard()
    trained = fit(world)
    right = 0
    for user in range(20):
        history = history_of(world, user)
        ranked = order(trained, history[:10])
        right += ranked[~np.isin(ranked, history)][0] == world.answer[user]
    assert right >= 19
    assert trained.losses_nats[-1] < trained.losses_nats[0]


def test_both_tastes_of_a_user_are_retrieved_and_the_third_is_not() -> None:
    world = two_tastes()
    trained = fit(world)
    for user in range(6):
        groups = order(trained, history_of(world, user)[:10])[:20] // 12
        assert {int(group) for group in groups} >= {0, 1, 2} - {int(world.answer[user])}
        assert np.mean(groups == world.answer[user]) <= 0.1


def test_without_log_q_the_popularity_trap_snaps() -> None:
    world = popularity_trap()

    def place_of_the_hit(use_log_q: bool) -> float:
        trained = fit(world, uniform=0, epochs=12, use_log_q=use_log_q)
        return float(
            np.mean(
                [
                    np.flatnonzero(order(trained, history_of(world, u)[:10]) == 0)[0]
                    for u in range(20)
                ]
            )
        )

    assert place_of_the_hit(use_log_q=True) < 1
    assert place_of_the_hit(use_log_q=False) > 5


def test_numpy_inference_equals_torch() -> None:
    from models.two_tower import TwoTower, _export

    torch.manual_seed(3)
    rng = np.random.default_rng(3)
    content = ItemContent(rng.integers(-1, 4, 30), rng.integers(-1, 9, 30), rng.uniform(0, 9, 30))
    model = TwoTower(content, TwoTowerSettings(width=12, hidden=20, history=7))
    torch.nn.init.normal_(model.ids.weight)
    vectors, tower = _export(model)
    for length in (1, 3, 7):
        history = rng.integers(0, 30, length)
        padded = np.r_[history, np.full(7 - length, -1)]
        with torch.no_grad():
            inputs = model.content() + model.ids.weight
            theirs = model.users(inputs, torch.from_numpy(padded)[None])[0].numpy()
        ours = tower.encode(padded)
        assert ours is not None
        np.testing.assert_allclose(ours, theirs, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1.0, rtol=1e-5)


def test_an_item_nobody_touched_lands_among_its_category() -> None:
    world = checkerboard()
    # Two more items, one of each colour, that appear in no event.
    n = world.n_items + 2
    colour = np.arange(n) % 2
    content = ItemContent(colour, np.full(n, -1), np.full(n, np.nan))
    trained = fit(world, content)
    user = trained.tower.encode(history_of(world, 0)[:10])
    even, odd = trained.item_vectors[world.n_items :] @ user
    assert even > odd + 0.5


def test_same_seed_same_arrays_and_another_seed_others() -> None:
    world = checkerboard(n_users=12)
    one, again, other = (fit(world, seed=seed, epochs=2) for seed in (5, 5, 6))
    np.testing.assert_array_equal(one.item_vectors, again.item_vectors)
    assert one.tower.to_bytes() == again.tower.to_bytes()
    assert not np.array_equal(one.item_vectors, other.item_vectors)


def test_nobody_with_a_past_is_refused() -> None:
    with pytest.raises(ValueError, match="no positive has an earlier one"):
        train(np.array([0, 1]), np.full((2, 4), -1), blank(2), seed=1)
