"""What the model would have read of a logged slate, from what is known now of that moment."""

from dataclasses import dataclass

import numpy as np

from features.definitions import ITEM_VIEWS, stored_of
from features.request import UserRow, UserState, assemble, context_of, user_state
from models.bundle import Bundle
from models.funnel import Candidates, look_up, retrieve
from monitoring.skew import Slate

ITEM_COLUMNS = tuple(feature for view in ITEM_VIEWS for feature in stored_of(view))
"""All that is stored of items, in every version: bundles of one log may read different ones."""

PLACE = {feature.column: place for place, feature in enumerate(ITEM_COLUMNS)}


@dataclass(frozen=True, slots=True)
class Known:
    """What one slate is computed from."""

    user: UserRow
    items: np.ndarray  # (K, ITEM_COLUMNS)


def candidates(bundle: Bundle, slate: Slate, known: Known) -> Candidates:
    """What the funnel finds for the slate's user; of all that is known it reads the history only."""
    return retrieve(bundle, user_state(known.user, bundle.catalogue), len(slate.item_ids))


def again(bundle: Bundle, slate: Slate, known: Known, found: Candidates) -> np.ndarray:
    """(K, F) features of a slate's items, by the funnel's own arithmetic.

    All candidates are assembled and the shown ones taken out: the last digits of a cosine depend on
    how many rows are multiplied at once.
    """
    catalogue = bundle.catalogue
    user = user_state(known.user, catalogue)
    shown = np.array([catalogue.index[item_id] for item_id in slate.item_ids], dtype=np.int64)
    item_ix, score, rr = _with(bundle, user, found, shown)
    by_item = np.argsort(item_ix)
    places = by_item[np.searchsorted(item_ix[by_item], shown)]  # (K,)
    stored = catalogue.matrix[item_ix]
    stored[places] = known.items[:, [PLACE[f.column] for f in catalogue.features.item]]
    context = context_of(slate.at, slate.context, catalogue)
    return assemble(user, catalogue, item_ix, context, score, rr, item_rows=stored)[places]


def _with(
    bundle: Bundle, user: UserState, found: Candidates, shown: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Items, scores and ranks of the candidates, and of shown items that are not among them."""
    others = shown[~np.isin(shown, found.item_ix)]
    if not len(others):
        return found.item_ix, found.retrieval_score, found.rr
    score, rr = look_up(bundle, user, others)
    return (
        np.concatenate([found.item_ix, others]),
        np.concatenate([found.retrieval_score, score]),
        np.concatenate([found.rr, rr]),
    )
