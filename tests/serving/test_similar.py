from dataclasses import replace

import numpy as np
import pytest

from models.funnel import SOURCES
from models.index import exact_search
from serving.similar import similar
from tests.worlds import tiny_bundle


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return tiny_bundle(tmp_path_factory.mktemp("similar"))


def sources(slate) -> set[str]:
    return {SOURCES[code] for code in slate.source}


def test_with_an_index_and_without_the_same_items_are_nearest(bundle):
    with_index = similar(bundle, 7, 5)
    without = similar(replace(bundle, index=None), 7, 5)
    assert with_index.item_ix.tolist() == without.item_ix.tolist()
    expected, score = exact_search(bundle.item_vectors, bundle.item_vectors[7], 6)
    assert expected[0] == 7
    assert with_index.item_ix.tolist() == expected[1:].tolist()
    np.testing.assert_allclose(with_index.scores, score[1:], rtol=1e-5)
    assert set(with_index.anchor_ix) == {7}


def test_without_towers_the_co_visited_items_answer(bundle):
    bare = replace(bundle, item_vectors=None, index=None, tower=None)
    found = similar(bare, 1, 3)
    assert sources(found) == {"covisitation"}
    assert found.item_ix.tolist() == bundle.covisitation.ix[1][:3].tolist()


def test_without_anything_the_popular_items_of_its_category_come_first(bundle):
    bare = replace(bundle, item_vectors=None, index=None, tower=None, covisitation=None)
    found = similar(bare, 4, 25)
    assert sources(found) == {"popular"}
    same = bundle.catalogue.category[found.item_ix] == bundle.catalogue.category[4]
    assert same.tolist() == [True] * 19 + [False] * 6  # 60 items in 3 categories, itself left out
    assert 4 not in found.item_ix
