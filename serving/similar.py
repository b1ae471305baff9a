"""Items like one item: by the item tower where there is one, else by who chose both."""

import numpy as np

from models.bundle import Bundle
from models.funnel import POPULAR, SOURCES, Slate
from models.index import exact_search


def similar(bundle: Bundle, item_ix: int, k: int) -> Slate:
    """The k items nearest to one item, itself left out; larger scores are nearer.

    Args:
        bundle: a loaded bundle.
        item_ix: row of the catalogue.
        k: how many at most.

    Returns:
        A slate whose anchor is the item itself; without towers and neighbours, popular items of
        the same category first.
    """
    if bundle.item_vectors is not None:
        query = bundle.item_vectors[item_ix]
        if bundle.index is not None:
            found, score = bundle.index.search(query, k + 1)
        else:
            found, score = exact_search(bundle.item_vectors, query, k + 1)
        return _slate(found, score, "two_tower", item_ix, k)
    if bundle.covisitation is not None and (bundle.covisitation.ix[item_ix] >= 0).any():
        known = bundle.covisitation.ix[item_ix] >= 0
        found = bundle.covisitation.ix[item_ix][known]
        return _slate(found, bundle.covisitation.score[item_ix][known], "covisitation", item_ix, k)
    same = bundle.catalogue.category[bundle.popular] == bundle.catalogue.category[item_ix]
    found = np.concatenate([bundle.popular[same], bundle.popular[~same]])
    return _slate(found, 1.0 / np.arange(1, len(found) + 1), SOURCES[POPULAR], item_ix, k)


def _slate(found: np.ndarray, score: np.ndarray, source: str, item_ix: int, k: int) -> Slate:
    other = found != item_ix
    items = found[other][:k].astype(np.int64)
    n = len(items)
    code = SOURCES.index(source)
    return Slate(
        items,
        score[other][:k].astype(np.float64),
        np.full(n, code),
        np.full(n, -1 if code == POPULAR else item_ix),
        None,
    )
