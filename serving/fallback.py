"""The lower rungs of the ladder: what can still be shown when the full line cannot answer.

    0 full funnel   1 ranker skipped   2 this user's last good list
    3 popular in this context          4 popular, baked into the bundle

Rungs 2 to 4 live here and read memory only. Both memories are bounded and belong to one process:
after a restart they are empty and rung 4 answers. Items a user has had, as far as this process
knows, stay hidden on every rung where the data set filters them.
"""

from collections import Counter, OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np

from features.definitions import HISTORY_LENGTH
from models.bundle import Bundle
from models.funnel import POPULAR, Slate

FULL, NO_RANKER, LAST_LIST, POPULAR_IN_CONTEXT, POPULAR_EVERYWHERE = range(5)

USERS_KEPT = 5_000
"""Users whose last list is kept: five kilobytes each, 25 MB in all."""

LIST_AGE_MAX = timedelta(hours=24)

CONTEXTS_KEPT, ITEMS_PER_CONTEXT = 256, 2_000
CONTEXT_EVENTS_MIN = 30
"""Fewer positives than this say less about a place than the whole shop's popularity."""

HALVE_AT = 10_000
"""Counts of a context are halved when they sum up to this: old favourites fade, memory is bounded."""


@dataclass(slots=True)
class _Remembered:
    item_ids: list[str]
    source: np.ndarray  # (K,) codes in funnel.SOURCES
    anchor_ids: list[str | None]
    had: list[str]  # item ids of the user's positives, newest first
    at: datetime


class LastLists:
    """The last full list of each recent user."""

    def __init__(self, users: int = USERS_KEPT) -> None:
        self._users = users
        self._lists: OrderedDict[str, _Remembered] = OrderedDict()

    def remember(
        self, user_id: str, bundle: Bundle, slate: Slate, history: Sequence[str], at: datetime
    ) -> None:
        """Keep this list in place of the user's earlier one; the longest unused user goes first."""
        ids = bundle.catalogue.item_ids
        self._lists[user_id] = _Remembered(
            ids[slate.item_ix].tolist(),
            slate.source,
            [str(ids[ix]) if ix >= 0 else None for ix in slate.anchor_ix],
            list(history),
            at,
        )
        self._lists.move_to_end(user_id)
        while len(self._lists) > self._users:
            self._lists.popitem(last=False)

    def note_positive(self, user_id: str, item_id: str) -> None:
        """The user has this item now."""
        if kept := self._lists.get(user_id):
            kept.had = [item_id, *kept.had][: 2 * HISTORY_LENGTH]

    def had(self, user_id: str) -> list[str]:
        """Items this process knows the user has had."""
        kept = self._lists.get(user_id)
        return kept.had if kept else []

    def slate(self, user_id: str, bundle: Bundle, at: datetime) -> Slate | None:
        """The list in terms of the bundle that answers now; None if unknown or too old."""
        kept = self._lists.get(user_id)
        if kept is None or at - kept.at > LIST_AGE_MAX:
            return None
        index = bundle.catalogue.index
        rows = [place for place, item_id in enumerate(kept.item_ids) if item_id in index]
        return Slate(
            np.array([index[kept.item_ids[row]] for row in rows], dtype=np.int64),
            1.0 / np.arange(1, len(rows) + 1),
            kept.source[rows],
            np.array([index.get(kept.anchor_ids[row] or "", -1) for row in rows], dtype=np.int64),
            None,
        )


class PopularInContext:
    """Positives of this process's users by location and by device."""

    def __init__(self) -> None:
        self._counts: dict[tuple[str, str], Counter[str]] = {}

    def note_positive(self, context: Mapping[str, str], item_id: str) -> None:
        """Count one positive for every part of its context."""
        for place in context.items():
            if place not in self._counts and len(self._counts) >= CONTEXTS_KEPT:
                continue
            counts = self._counts.setdefault(place, Counter())
            if item_id in counts or len(counts) < ITEMS_PER_CONTEXT:
                counts[item_id] += 1
            if counts.total() >= HALVE_AT:
                halved = {item: n // 2 for item, n in counts.items() if n > 1}
                self._counts[place] = Counter(halved)

    def item_ids(self, context: Mapping[str, str]) -> list[str]:
        """Most wanted first, by location if enough is known of it, else by device; else empty."""
        for key in ("location", "device"):
            counts = self._counts.get((key, context.get(key, "")), Counter())
            if counts.total() >= CONTEXT_EVENTS_MIN:
                return [item_id for item_id, _ in counts.most_common()]
        return []


@dataclass(frozen=True, slots=True)
class Fallback:
    """Rungs 2 to 4, in order.

    Interview: Your fallback is rarely used. Why should it work when it is needed?
        Because it needs nothing that can be missing: the last rung is an array in memory that
        came with the bundle, verified by the same hash as the model. The rungs above are tried in
        order, and the answer names the one it came from, so that a dashboard shows how often.
        Trade-off: a popular list looks healthy; without the rung in the response, an outage of
        the whole ranking would only show as slowly falling clicks.
        Shown by: tests/serving/test_ladder.py::test_each_rung_answers_when_those_above_cannot
    """

    last_lists: LastLists
    in_context: PopularInContext

    def answer(
        self, bundle: Bundle, user_id: str, context: Mapping[str, str], k: int, at: datetime
    ) -> tuple[int, Slate]:
        """The highest rung that can answer, and its list of up to k items."""
        had = self.last_lists.had(user_id) if bundle.info.seen_filter else []
        if (last := self.last_lists.slate(user_id, bundle, at)) and len(last.item_ix):
            return LAST_LIST, _filled(bundle, last, had, k)
        if wanted := self._in_context(bundle, context):
            return POPULAR_IN_CONTEXT, _filled(bundle, _popular(wanted), had, k)
        return POPULAR_EVERYWHERE, _filled(bundle, _popular([]), had, k)

    def note_positive(self, user_id: str, context: Mapping[str, str], item_id: str) -> None:
        """Learn from an accepted event."""
        self.last_lists.note_positive(user_id, item_id)
        self.in_context.note_positive(context, item_id)

    def _in_context(self, bundle: Bundle, context: Mapping[str, str]) -> list[int]:
        index = bundle.catalogue.index
        return [index[i] for i in self.in_context.item_ids(context) if i in index]


def _popular(item_ix: Iterable[int]) -> Slate:
    items = np.array(list(item_ix), dtype=np.int64)
    n = len(items)
    return Slate(items, 1.0 / np.arange(1, n + 1), np.full(n, POPULAR), np.full(n, -1), None)


def _filled(bundle: Bundle, first: Slate, had: Sequence[str], k: int) -> Slate:
    """`first` without what the user has had, then the popular list, k items in all."""
    index = bundle.catalogue.index
    hidden = np.array([index[i] for i in had if i in index], dtype=np.int64)
    kept = ~np.isin(first.item_ix, hidden)
    rest = bundle.popular[~np.isin(bundle.popular, np.concatenate([first.item_ix, hidden]))]
    items = np.concatenate([first.item_ix[kept], rest])[:k]
    n, n_rest = len(items), len(rest)
    return Slate(
        items,
        1.0 / np.arange(1, n + 1),
        np.concatenate([first.source[kept], np.full(n_rest, POPULAR)])[:k],
        np.concatenate([first.anchor_ix[kept], np.full(n_rest, -1)])[:k],
        None,
    )
