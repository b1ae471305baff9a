import json
from datetime import timedelta

import numpy as np
import pytest

from pipelines.past import read_past
from pipelines.retrieval import Retrieval, read, save
from pipelines.train_retrieval import FOR_BUNDLE, FOR_RANKER, fit, train_retrieval
from tests.worlds import tiny_parts


def test_two_pairs_of_towers_each_trained_until_its_moment(shop) -> None:
    for name, until in ((FOR_RANKER, shop.split.ranker_from), (FOR_BUNDLE, shop.split.test_from)):
        retrieval = read(shop.workspace.training / name)
        assert retrieval is not None
        assert retrieval.trained_until == until.isoformat()
        assert retrieval.item_vectors.shape == (30, retrieval.tower.item_inputs.shape[1])


def test_what_happens_later_does_not_change_the_towers(shop) -> None:
    past = read_past(shop.workspace)
    until = shop.split.ranker_from
    one, _ = fit(past, until, "tiny", seed=5)
    past.positives.loc[past.positives["event_us"] >= until.timestamp() * 1e6, "item_ix"] = 0
    other, told = fit(past, until, "tiny", seed=5)
    assert one is not None
    assert other is not None
    np.testing.assert_array_equal(one.item_vectors, other.item_vectors)
    assert told["loss_nats"][-1] < told["loss_nats"][0]


def test_too_little_data_is_told_and_leaves_no_old_towers(shop, tmp_path) -> None:
    past = read_past(shop.workspace)
    early = shop.split.ranker_from - timedelta(days=300)
    retrieval, told = fit(past, early, "tiny", seed=5)
    assert retrieval is None
    assert told["absent"].startswith("0 positives with an earlier one of the same user before")
    assert "expected at least 50 on 2" in told["absent"]
    assert read(tmp_path / "nothing here") is None


def test_the_result_tells_seconds_and_losses(shop, tmp_path, monkeypatch) -> None:
    result = train_retrieval(shop.workspace, shop.split, "tiny", seed=3)
    assert set(result) == {FOR_RANKER, FOR_BUNDLE}
    assert json.loads(json.dumps(result)) == result
    assert all(told["seconds"] >= 0 and told["positives"] > 50 for told in result.values())


def test_an_item_that_came_after_training_has_a_zero_vector(tmp_path) -> None:
    parts = tiny_parts(n_items=4)
    assert parts.item_vectors is not None
    assert parts.tower is not None
    ids = np.array(["a", "b", "c", "d"])
    save(tmp_path / "r", Retrieval(ids, parts.item_vectors, parts.tower, "2026-02-01"))
    back = read(tmp_path / "r")
    assert back is not None
    vectors, tower = back.of(np.array(["c", "new", "a"]))
    np.testing.assert_array_equal(vectors, parts.item_vectors[[2, 0, 0]] * [[1], [0], [1]])
    assert (tower.item_inputs[1] == 0).all()


@pytest.mark.parametrize("scale", ["tiny", "small", "full"])
def test_every_scale_has_its_settings(scale: str) -> None:
    from pipelines.train_ranker import QUERIES
    from pipelines.train_retrieval import BATCH, EPOCHS

    assert all(scale in table for table in (BATCH, EPOCHS, QUERIES))
