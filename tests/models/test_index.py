import numpy as np
import pytest

from models import index
from models.index import build, exact_search


def unit(n: int, d: int, seed: int = 1) -> np.ndarray:
    vectors = np.random.default_rng(seed).normal(size=(n, d)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def test_faiss_equals_the_plain_search() -> None:
    vectors, queries = unit(500, 16), unit(20, 16, seed=2)
    built = build(vectors)
    assert built.recall == 1.0
    for query in queries:
        ix, cosine = built.search(query, 30)
        plain_ix, plain_cosine = exact_search(vectors, query, 30)
        assert ix.tolist() == plain_ix.tolist()
        np.testing.assert_allclose(cosine, plain_cosine, atol=1e-6)


def test_more_neighbours_than_items_are_not_invented() -> None:
    ix, cosine = build(unit(3, 4)).search(unit(1, 4)[0], 10)
    assert sorted(ix.tolist()) == [0, 1, 2]
    assert len(cosine) == 3


def test_above_the_limit_recall_is_measured_not_hoped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index, "FLAT_LIMIT", 1000)
    vectors = unit(4000, 16)
    built = build(vectors)
    assert index.RECALL_GATE <= built.recall <= 1.0
    found = [
        np.isin(exact_search(vectors, q, 50)[0], built.search(q, 50)[0]).mean()
        for q in unit(30, 16, seed=4)
    ]
    assert np.mean(found) > 0.8
