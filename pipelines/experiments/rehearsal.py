"""A world's days with their clock, and test visits that can be shown anything: E-12 opens the truth here.

Throughout: S slates, K places, P items of a pool, N items.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from pipelines.experiments.card import Setting
from pipelines.experiments.log import Catalogue
from pipelines.world.behaviour import appraise, react
from pipelines.world.config import configure
from pipelines.world.draws import uniform
from pipelines.world.generate import WORLD_END
from pipelines.world.history import LoggedDay, log_past
from pipelines.world.planning import Visits
from pipelines.world.population import DAY_US, DEVICES, KINDS, populate
from pipelines.world.state import fresh_state
from pipelines.world.truth import State, Truth

HOUR_US = DAY_US // 24


@dataclass(frozen=True, slots=True)
class Day:
    """One logged day, in order of time."""

    number: int
    user_ix: np.ndarray  # (S,)
    hour: np.ndarray  # (S,) of the day, UTC
    device: np.ndarray  # (S,) int
    item_ix: np.ndarray  # (S, K)
    click: np.ndarray  # (S, K) bool


@dataclass(frozen=True, slots=True)
class Stage:
    """The visits of a day once more, to be shown what somebody else chooses."""

    day: Day
    pool: np.ndarray  # (S, P) items on sale, to choose from
    attraction: np.ndarray  # (S, P) true chance of a click by who looks
    clicks: Callable[[np.ndarray], np.ndarray]  # (S, K) items -> (S, K) true chances of a click


@dataclass(frozen=True, slots=True)
class Rehearsal:
    """What a platform logged, and the stages on which its models are tried."""

    catalogue: Catalogue
    users: int
    days: list[Day]
    stages: list[Stage]


def rehearse(setting: Setting, seed: int, days: int, tried: int, pool: int) -> Rehearsal:
    """Let a world be logged for `days`; the last `tried` days become stages.

    Every variant meets the same visits in the same mood: a stage remembers the morning and forgets
    what it was shown.

    Args:
        setting: family and scale.
        seed: of the world.
        days: in all.
        tried: of them, that are stages too.
        pool: items to choose from on each visit, drawn evenly from what is on sale.
    """
    truth = populate(configure(setting.scale, seed, setting.family, days=days), WORLD_END)
    state = fresh_state(truth)
    past = log_past(truth, state)
    logged, stages = [], []
    for number in range(days):
        morning = state.copy()
        played = next(past)
        logged.append(_day(played))
        if number >= days - tried:
            stages.append(_stage(truth, morning, played, pool))
    items = truth.items
    catalogue = Catalogue(items.category, items.category * KINDS + items.told_kind, items.price)
    return Rehearsal(catalogue, len(truth.users.ids), logged, stages)


def _day(logged: LoggedDay) -> Day:
    visits, did = logged.played.visits, logged.played.reaction
    return Day(
        logged.number,
        visits.user_ix,
        visits.at_us // HOUR_US % 24,
        np.searchsorted(np.sort(DEVICES), visits.device),
        logged.played.item_ix,
        did.click & ~did.left[:, None],
    )


def _stage(truth: Truth, morning: State, logged: LoggedDay, size: int) -> Stage:
    visits: Visits = logged.played.visits
    pool = _pool(truth, visits, size)

    def clicks(item_ix: np.ndarray) -> np.ndarray:
        return react(truth, morning, visits, item_ix).utility

    return Stage(_day(logged), pool, appraise(truth, morning, visits, pool).attraction, clicks)


def _pool(truth: Truth, visits: Visits, size: int) -> np.ndarray:
    """(S, P) distinct items, by each visit's own luck."""
    day_us = visits.at_us[0] // DAY_US * DAY_US
    items = truth.items
    on_sale = np.flatnonzero((items.launched_at < day_us) & (items.retires_at > day_us))
    drawn = uniform(visits.luck[:, None], "rehearsal", on_sale[None, :])
    return on_sale[np.argsort(drawn, axis=1)[:, :size]]
