"""One simulated day in this process: waves of visitors, each wave one vectorised call.

Users do not influence each other within a day, so everybody's first slate of the day can be
answered together, then everybody's second; slate by slate in order of time gives the same.
"""

import dataclasses
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from pipelines.world.behaviour import Reaction, comes, experience, react
from pipelines.world.planning import Visits
from pipelines.world.truth import State, Truth

AT_ONCE = 2048
"""Slates per call: what is looked up per place and memory stays within some 50 MB."""


@dataclass(frozen=True, slots=True)
class Played:
    """Slates that were shown, in order of time, and what came of them."""

    visits: Visits
    item_ix: np.ndarray  # (S, K)
    reaction: Reaction
    rows: np.ndarray  # (S,) of the planned visits


def play_day(
    truth: Truth,
    state: State,
    visits: Visits,
    choose: Callable[[np.ndarray], np.ndarray],
    latency_ms: np.ndarray | float = 0.0,
    then: Callable[[np.ndarray, np.ndarray, Reaction], None] = lambda rows, item_ix, reaction: None,
) -> Played:
    """Let a day happen; `state` is changed in place.

    Args:
        truth: the world.
        state: after `begin_day`.
        visits: of `plan_day`.
        choose: (W,) rows of `visits`, at most one per user -> (W, K) items to show them.
        latency_ms: of each planned visit, or one for all.
        then: told the rows, their items and the reaction, wave by wave.
    """
    waited = np.broadcast_to(np.asarray(latency_ms, float), len(visits))
    shown, slates, reactions = [], [], []
    for rows in waves(visits):
        here = rows[comes(state, visits.take(rows))]
        if not len(here):
            continue
        item_ix = choose(here)
        reactions.append(step(truth, state, visits.take(here), item_ix, waited[here]))
        then(here, item_ix, reactions[-1])
        shown.append(here)
        slates.append(item_ix)
    return gathered(truth, state, visits, shown, slates, reactions)


def gathered(
    truth: Truth,
    state: State,
    visits: Visits,
    shown: list[np.ndarray],
    slates: list[np.ndarray],
    reactions: list[Reaction],
) -> Played:
    """Parts of a day as one, in order of time.

    Args:
        truth: the world.
        state: for its shapes, where nobody came.
        visits: all that were planned.
        shown: per part, the rows of `visits` whose slates were shown.
        slates: per part, (W, K) items.
        reactions: per part.
    """
    rows = np.concatenate(shown) if shown else np.empty(0, np.int64)
    order = np.argsort(rows, kind="stable")
    item_ix = np.concatenate(slates)[order] if slates else np.empty((0, 1), np.int64)
    reaction = joined(reactions, order) if reactions else _nothing(truth, state, visits)
    return Played(visits.take(rows[order]), item_ix, reaction, rows[order])


def waves(visits: Visits) -> Iterator[np.ndarray]:
    """Rows of everybody's first slate of the day, then of everybody's second, and so on."""
    by_user = np.argsort(visits.user_ix, kind="stable")  # stays in order of time per user
    who = visits.user_ix[by_user]
    first = np.r_[True, who[1:] != who[:-1]][: len(who)]
    start = np.maximum.accumulate(np.where(first, np.arange(len(who)), 0))
    nth = np.empty(len(who), np.int64)
    nth[by_user] = np.arange(len(who)) - start
    order = np.argsort(nth, kind="stable")
    edges = np.searchsorted(nth[order], np.arange(nth.max() + 2)) if len(nth) else [0]
    for low, high in itertools.pairwise(edges):
        yield order[low:high]


def step(
    truth: Truth, state: State, visits: Visits, item_ix: np.ndarray, latency_ms: np.ndarray
) -> Reaction:
    """React and remember, for distinct users."""
    parts = []
    for low in range(0, len(visits), AT_ONCE):
        part = slice(low, low + AT_ONCE)
        some = visits.take(np.arange(len(visits))[part])
        reaction = react(truth, state, some, item_ix[part], latency_ms[part])
        experience(truth, state, some, item_ix[part], reaction)
        parts.append(reaction)
    return parts[0] if len(parts) == 1 else joined(parts, np.arange(len(visits)))


def joined(parts: list[Reaction], order: np.ndarray) -> Reaction:
    """One after the other, then by `order`."""
    names = [field.name for field in dataclasses.fields(Reaction)]
    return Reaction(
        **{name: np.concatenate([getattr(part, name) for part in parts])[order] for name in names}
    )


def _nothing(truth: Truth, state: State, visits: Visits) -> Reaction:
    nobody = visits.take(np.empty(0, np.int64))
    return react(truth, state, nobody, np.empty((0, 1), np.int64))
