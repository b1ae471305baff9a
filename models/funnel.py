"""The funnel: sources -> merge -> rank -> re-rank, as plain arithmetic over one bundle.

Evaluation, training rows and serving run this same code; serving adds what can be late or missing.
Every part but the popular list may be absent from a bundle, and the funnel still answers.

Throughout: N is the catalogue, C the candidates of one user, K the list, F features, S sources.

Interview: Why several stages instead of one good model?
    The ranker needs features that only exist for a pair of user and item, and computing them for
    the whole catalogue misses the deadline. Cheap sources cut the catalogue to a few hundred, and
    the expensive model looks at those. Each source fails differently, so their union forgives.
    Trade-off: what no source finds, no ranker can bring back; recall is decided first.
    Shown by: tests/models/test_funnel.py::test_what_no_source_finds_no_ranker_can_return
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from features.request import Context, UserState, assemble
from models import covisitation
from models.rerank import rerank

if TYPE_CHECKING:
    from models.bundle import Bundle

SOURCES = ("two_tower", "covisitation", "history", "popular")
"""Order of the columns of `rr` and meaning of the codes in `source`."""

TWO_TOWER, COVISITATION, HISTORY, POPULAR = range(len(SOURCES))

PER_SOURCE = (100, 100, 50, 100)
"""Candidates each source may bring: their union, about 200, is what the ranker can read in time."""

RRF_OFFSET = 60.0
"""Cormack et al., SIGIR 2009: keeps the first places of one source from drowning all others."""

Stage = Callable[[str], AbstractContextManager]
"""Times what runs inside; serving passes its stop-watch, everybody else nothing."""


@dataclass(frozen=True, slots=True)
class Candidates:
    """The union of all sources for one user, best merged score first."""

    item_ix: np.ndarray  # (C,) int64 rows of the catalogue, distinct
    source: np.ndarray  # (C,) int64 code in SOURCES: the one that placed the item highest
    retrieval_score: np.ndarray  # (C,) float32 cosine of the towers; 0 without a tower
    rr: np.ndarray  # (C, S) float32 1 / rank in each source; 0 = not among its candidates
    anchor_ix: np.ndarray  # (C,) int64 the history item that explains it; -1 = none
    merged_score: np.ndarray  # (C,) float64 reciprocal-rank fusion; order without a ranker


@dataclass(frozen=True, slots=True)
class Slate:
    """What one user is shown, best first."""

    item_ix: np.ndarray  # (K,) int64
    scores: np.ndarray  # (K,) float64, larger is better; comparable within one slate only
    source: np.ndarray  # (K,) int64 code in SOURCES
    anchor_ix: np.ndarray  # (K,) int64; -1 = none
    features: (
        np.ndarray | None
    )  # (K, F) float32 exactly what the ranker read; None where it did not run


def recommend(
    bundle: "Bundle",
    user: UserState,
    context: Context,
    k: int,
    *,
    use_ranker: bool = True,
    stage: Stage = lambda name: nullcontext(),
) -> Slate:
    """The whole funnel for one user.

    Args:
        bundle: a loaded bundle.
        user: aligned to `bundle.catalogue`.
        context: coded with `bundle.catalogue`.
        k: length of the list; fewer only where the catalogue is exhausted.
        use_ranker: False answers in merged order (the ladder's rung 1).
        stage: called with "retrieve", "rank" and "rerank" around each stage.
    """
    with stage("retrieve"):
        candidates = retrieve(bundle, user, k)
    features: np.ndarray | None = None
    scores = candidates.merged_score
    if use_ranker and bundle.ranker is not None:
        with stage("rank"):
            scores, features = rank(bundle, user, context, candidates)
    with stage("rerank"):
        places = rerank(scores, bundle.catalogue.subcategory[candidates.item_ix], k)
    return Slate(
        candidates.item_ix[places],
        scores[places],
        candidates.source[places],
        candidates.anchor_ix[places],
        None if features is None else features[places],
    )


def popular(bundle: "Bundle", user: UserState | None, k: int) -> Slate:
    """The popular list, without what the user has seen where the data set filters that."""
    items = _unseen(bundle, user, bundle.popular)[:k] if user else bundle.popular[:k]
    n = len(items)
    return Slate(items, 1.0 / np.arange(1, n + 1), np.full(n, POPULAR), np.full(n, -1), None)


def retrieve(bundle: "Bundle", user: UserState, k: int = 0) -> Candidates:
    """Ask every source that the bundle has and merge the answers.

    Args:
        bundle: a loaded bundle.
        user: aligned to `bundle.catalogue`.
        k: at least so many popular candidates, so that a long list can be filled.
    """
    history = user.history_ix[user.history_ix >= 0]
    vector = bundle.tower.encode(history) if bundle.tower else None
    lists = (
        _two_tower(bundle, user, vector),
        _covisitation(bundle, user, history),
        _own_history(bundle, history),
        _unseen(bundle, user, bundle.popular)[: max(PER_SOURCE[POPULAR], k)],
    )
    items = np.unique(np.concatenate(lists))
    rr = np.zeros((len(items), len(SOURCES)), dtype=np.float32)
    for source, found in enumerate(lists):
        rr[np.searchsorted(items, found), source] = 1.0 / np.arange(1, len(found) + 1)
    merged = (rr / (RRF_OFFSET * rr + 1.0)).sum(axis=1, dtype=np.float64)  # 1 / (offset + rank)
    order = np.lexsort((items, -merged))
    items, rr, merged = items[order], rr[order], merged[order]
    source = rr.argmax(axis=1)
    return Candidates(
        items,
        source,
        _cosine(bundle, vector, items),
        rr,
        _anchors(bundle, items, source, history),
        merged,
    )


def look_up(
    bundle: "Bundle", user: UserState, item_ix: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Retrieval score (C,) and rr (C, S) that given items would have had: a logged slate's rows.

    Args:
        bundle: a loaded bundle.
        user: aligned to `bundle.catalogue`.
        item_ix: (C,) rows of the catalogue; the sources need not find them.
    """
    candidates = retrieve(bundle, user)
    by_item = np.argsort(candidates.item_ix)
    ordered = candidates.item_ix[by_item]
    place = np.minimum(np.searchsorted(ordered, item_ix), len(ordered) - 1)
    found = ordered[place] == item_ix
    rr = np.where(found[:, None], candidates.rr[by_item[place]], 0.0).astype(np.float32)
    vector = bundle.tower.encode(user.history_ix) if bundle.tower else None
    return _cosine(bundle, vector, item_ix), rr


def rank(
    bundle: "Bundle", user: UserState, context: Context, candidates: Candidates
) -> tuple[np.ndarray, np.ndarray]:
    """Scores (C,) of the ranker and the features (C, F) it read; the position is held at 0."""
    assert bundle.ranker is not None, "ask recommend(), which knows how to answer without a ranker"
    features = assemble(
        user,
        bundle.catalogue,
        candidates.item_ix,
        context,
        candidates.retrieval_score,
        candidates.rr,
    )
    return bundle.ranker.score(features), features


def _unseen(bundle: "Bundle", user: UserState, items: np.ndarray) -> np.ndarray:
    """`items` without the user's history, where nobody wants the same item twice."""
    if not bundle.info.seen_filter or len(user.history_ix) == 0:
        return items
    return items[~np.isin(items, user.history_ix)]


def _two_tower(bundle: "Bundle", user: UserState, vector: np.ndarray | None) -> np.ndarray:
    if vector is None or bundle.index is None:
        return np.empty(0, dtype=np.int64)
    spare = len(user.history_ix) if bundle.info.seen_filter else 0
    found, _ = bundle.index.search(vector, PER_SOURCE[TWO_TOWER] + spare)
    return _unseen(bundle, user, found)[: PER_SOURCE[TWO_TOWER]]


def _covisitation(bundle: "Bundle", user: UserState, history: np.ndarray) -> np.ndarray:
    if bundle.covisitation is None or len(history) == 0:
        return np.empty(0, dtype=np.int64)
    spare = len(history) if bundle.info.seen_filter else 0
    found, _ = covisitation.candidates(
        bundle.covisitation, history, PER_SOURCE[COVISITATION] + spare
    )
    return _unseen(bundle, user, found)[: PER_SOURCE[COVISITATION]]


def _own_history(bundle: "Bundle", history: np.ndarray) -> np.ndarray:
    """The user's own items, most often first, then newest; only where they may be wanted again."""
    if bundle.info.seen_filter or len(history) == 0:
        return np.empty(0, dtype=np.int64)
    items, newest, times = np.unique(history, return_index=True, return_counts=True)
    return items[np.lexsort((newest, -times))][: PER_SOURCE[HISTORY]]


def _cosine(bundle: "Bundle", vector: np.ndarray | None, items: np.ndarray) -> np.ndarray:
    if vector is None or bundle.item_vectors is None:
        return np.zeros(len(items), dtype=np.float32)
    return bundle.item_vectors[items] @ vector


def _anchors(
    bundle: "Bundle", items: np.ndarray, source: np.ndarray, history: np.ndarray
) -> np.ndarray:
    """(C,) the history item to name in "because you chose ..."; none for what is merely popular."""
    anchor = np.full(len(items), -1, dtype=np.int64)
    if len(history) == 0:
        return anchor
    anchor[source == HISTORY] = items[source == HISTORY]
    if bundle.item_vectors is not None and (own := source == TWO_TOWER).any():
        alike = bundle.item_vectors[items[own]] @ bundle.item_vectors[history].T  # (C, T)
        anchor[own] = history[alike.argmax(axis=1)]
    if bundle.covisitation is not None and (own := source == COVISITATION).any():
        anchor[own] = covisitation.loudest(bundle.covisitation, history, items[own])
    return anchor
