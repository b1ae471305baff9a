"""The logged past: what a platform with a simple policy showed, and what came of it.

The policy draws each slate without replacement, part of the chance by clicks so far, part evenly
over what is on sale: little of that on top, more down the list. So popularity is nowhere written
down: it emerges from tastes, appeal and being shown. A small share of slates is drawn evenly
throughout (source "random"): the randomised slice from which position bias can be told apart from
what deserves its place.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pyarrow as pa

from pipelines.world.behaviour import Reaction
from pipelines.world.draws import normal, uniform
from pipelines.world.happenings import contexts, happenings, moments, session_ids, table
from pipelines.world.planning import Visits, plan_day
from pipelines.world.play import Played, play_day
from pipelines.world.population import DAY_US, to_us
from pipelines.world.state import begin_day
from pipelines.world.truth import State, Truth

CLICKS_KEPT = 0.9
"""Of yesterday's click counts: what was popular a month ago counts little."""

UNKNOWN = 0.1
"""Popularity of what nobody has clicked, where the mean item has 1."""

TRIES = 8
"""Draws per place, of which the first that does not stand above is shown."""

LATENCY_SIGMA = 0.5
"""Log-normal spread of the logging platform's latency."""


@dataclass(frozen=True, slots=True)
class LoggedDay:
    """The slates of one day under the logging policy; (S, K) unless said otherwise."""

    number: int  # of the day in the logged past
    played: Played
    propensity: np.ndarray
    randomised: np.ndarray  # (S,) bool: drawn evenly throughout

    @property
    def request_ids(self) -> list[str]:
        """(S,) one per slate that was planned and shown."""
        return [f"w-{self.number:02d}-{row:05d}" for row in self.played.rows.tolist()]


def log_past(truth: Truth, state: State) -> Iterator[LoggedDay]:
    """Simulate the days up to the world's end, one by one; `state` is moved along."""
    config = truth.config
    heat = np.zeros(len(truth.items.ids))
    first_us = to_us(truth.end) - config.days * DAY_US
    for number in range(config.days):
        day_us = first_us + number * DAY_US
        begin_day(truth, state, day_us // DAY_US)
        visits = plan_day(truth, state, day_us)
        randomised = uniform(visits.luck, "randomised") < config.randomised
        chosen, propensity = _slates(truth, heat, visits, randomised, day_us)
        played = play_day(truth, state, visits, chosen.__getitem__, latencies(truth, visits))
        clicks = played.item_ix[played.reaction.click]
        heat = CLICKS_KEPT * heat + np.bincount(clicks, minlength=len(heat))
        yield LoggedDay(number, played, propensity[played.rows], randomised[played.rows])


def policy(heat: np.ndarray, on_sale: np.ndarray) -> np.ndarray:
    """(N,) chance of each item to be drawn for its popularity."""
    liked = (heat / heat.mean() if heat.any() else heat) + UNKNOWN
    popular = np.where(on_sale, liked * np.sqrt(liked), 0.0)  # exact on every machine, unlike **
    chance: np.ndarray = popular / popular.sum()
    return chance


def exploration(explored: float, length: int) -> np.ndarray:
    """(K,) share of each place's chance that is even: little on top, more down the list."""
    rising = 2 * np.arange(1, length + 1) / (length + 1)  # mean 1
    return np.minimum(explored * rising, 1.0)


def draw_slates(
    popular: np.ndarray, even: np.ndarray, explored: np.ndarray, luck: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Draw lists without replacement, and the propensity of each place.

    Place k draws item i with chance p = (1 - explored_k) popular_i + explored_k even_i. Drawing
    again where an item stands above already is drawing without replacement, so the propensity,
    given what stands above, is p / (1 - sum of p above).

    Args:
        popular: (N,) sums to one.
        even: (N,) sums to one; at least K items have some.
        explored: (K,) shares.
        luck: (S,) keys of the draws.

    Returns:
        (S, K) item_ix and (S, K) propensity.

    Interview: Why log the propensity of what was shown?
        It is the only way to ask later what another policy would have earned: weigh each logged
        click by how likely each policy was to show it. It cannot be rebuilt afterwards, because
        the policy changes with every click.
        Trade-off: it needs a policy that draws; a list sorted by score shows with probability 0
        or 1, and 0 cannot be weighed up.
        Shown by: tests/pipelines/test_world_history.py::test_propensities_are_the_shares_that_are_drawn
    """
    item_ix = np.empty((len(luck), len(explored)), np.int64)
    propensity = np.empty(item_ix.shape)
    edges = (np.cumsum(popular), np.cumsum(even))
    tries = np.arange(TRIES)[None, :]
    for place, share in enumerate(explored.tolist()):
        above = item_ix[:, :place]
        where = uniform(luck[:, None], "draw", place, tries)
        by_merit, by_chance = (
            np.minimum(np.searchsorted(edge, where * edge[-1], side="right"), len(edge) - 1)
            for edge in edges
        )
        explores = uniform(luck[:, None], "explore", place, tries) < share
        drawn = np.where(explores, by_chance, by_merit)  # (S, TRIES)
        fresh = (drawn[:, :, None] != above[:, None, :]).all(axis=2)
        item_ix[:, place] = drawn[np.arange(len(luck)), fresh.argmax(axis=1)]
        chance = (1 - share) * popular + share * even
        for row in np.flatnonzero(~fresh.any(axis=1)):  # rare, unless one item has nearly all
            item_ix[row, place] = _another(chance, above[row], luck[row], place)
        taken = chance[above].sum(axis=1)
        # Of the last item that is left, both are the same but for the last digit.
        propensity[:, place] = np.minimum(chance[item_ix[:, place]] / (1 - taken), 1.0)
    return item_ix, propensity


def latencies(truth: Truth, visits: Visits) -> np.ndarray:
    """(S,) ms that the logging platform takes."""
    spread = np.exp(LATENCY_SIGMA * normal(visits.luck, "latency"))
    slow: np.ndarray = truth.config.latency_median_ms * spread
    return slow


def events(truth: Truth, day: LoggedDay) -> pd.DataFrame:
    """Impressions and what users did, as they will arrive."""
    played = day.played
    happened = happenings(truth, played.visits, played.item_ix, played.reaction)
    did = table(truth, played.visits, played.item_ix, happened, day.request_ids)
    return pd.concat([_impressions(truth, day), did], ignore_index=True)


def responses(truth: Truth, visits: Visits, reaction: Reaction, request_ids: list[str]) -> pa.Table:
    """The truth of S slates: what nobody but an experiment may see."""
    return pa.table(
        {
            "request_id": request_ids,
            "user_id": truth.users.ids[visits.user_ix],
            "at": pa.array(visits.at_us, pa.timestamp("us", tz="UTC")),
            "intent": visits.intent,
            "left": reaction.left,
            "true_utility": reaction.utility.sum(axis=1),
            "utility": _lists(reaction.utility),
            "examination": _lists(reaction.examination),
            "attraction": _lists(reaction.attraction),
            "satisfaction": _lists(reaction.satisfaction),
            "dwell_s": _lists(reaction.dwell_s),
            "returned": reaction.returned.sum(axis=1),
            "disliked": reaction.disliked.sum(axis=1),
        }
    )


def _slates(
    truth: Truth, heat: np.ndarray, visits: Visits, randomised: np.ndarray, day_us: int
) -> tuple[np.ndarray, np.ndarray]:
    """(S, K) items and propensities of a day: all slates are known before anybody comes."""
    items, length = truth.items, truth.config.slots
    on_sale = (items.launched_at < day_us) & (items.retires_at > day_us + DAY_US)
    if on_sale.sum() < length:  # a tiny shop may run out: then it shows what it has ever had
        on_sale = items.launched_at < day_us
        on_sale[np.argsort(items.launched_at, kind="stable")[:length]] = True
    item_ix = np.empty((len(visits), length), np.int64)
    propensity = np.empty((len(visits), length))
    popular, even = policy(heat, on_sale), on_sale / on_sale.sum()
    usual = exploration(truth.config.explored, length)
    for rows, explored in ((randomised, np.ones(length)), (~randomised, usual)):
        item_ix[rows], propensity[rows] = draw_slates(popular, even, explored, visits.luck[rows])
    return item_ix, propensity


def _another(chance: np.ndarray, above: np.ndarray, luck: np.ndarray, place: int) -> int:
    """One item that does not stand above, by the Gumbel trick."""
    left = chance.copy()
    left[above] = 0.0
    gumbel = -np.log(-np.log(uniform(luck, "rest", place, np.arange(len(left)))))
    with np.errstate(divide="ignore"):  # log 0 = never
        return int(np.argmax(np.log(left) + gumbel))


def _impressions(truth: Truth, day: LoggedDay) -> pd.DataFrame:
    """One row per place of every slate that came in time."""
    visits, item_ix = day.played.visits, day.played.item_ix
    stayed = np.flatnonzero(~day.played.reaction.left)
    slate = np.repeat(stayed, item_ix.shape[1])
    place = np.tile(np.arange(item_ix.shape[1]), len(stayed))
    requests = np.array(day.request_ids, object)
    at = moments(visits.at_us[slate])
    return pd.DataFrame(
        {
            "event_id": [f"{r}:{p + 1}" for r, p in zip(requests[slate], place, strict=True)],
            "event_type": "impression",
            "user_id": truth.users.ids.astype(object)[visits.user_ix[slate]],
            "item_id": truth.items.ids.astype(object)[item_ix[slate, place]],
            "session_id": session_ids(truth, visits)[slate],
            "request_id": requests[slate],
            "position": place + 1,
            "event_at": at,
            "seen_at": at,
            "value": np.nan,
            "context": contexts(truth, visits)[slate],
            "source": np.where(day.randomised[slate], "random", "popular").astype(object),
            "propensity": day.propensity[slate, place],
        }
    )


def _lists(values: np.ndarray) -> pa.Array:
    """(S, K) as one list of float32 per row; slates over HTTP may differ in length."""
    offsets = np.arange(len(values) + 1, dtype=np.int32) * values.shape[1]
    flat = pa.array(np.ascontiguousarray(values, np.float32).ravel())
    return pa.ListArray.from_arrays(pa.array(offsets), flat)
