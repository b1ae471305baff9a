"""Who comes when: the slates of one day, before anybody has seen one.

A day is a number of sessions, a session one mood and a few pages with a minute between them.
S counts slates; every array of a plan is (S,), sorted by time.
"""

from dataclasses import dataclass

import numpy as np

from pipelines.world.population import DAY_US, SECOND_US
from pipelines.world.truth import Users

PAGES_MEAN = 2.2
"""Slates per session, geometric."""

PAGE_GAP_S, PAGE_GAP_SIGMA = 50.0, 0.6
"""Median seconds between pages, log-normal."""

HOURS = np.array([2, 1, 1, 1, 1, 2, 4, 6, 7, 7, 7, 8, 9, 8, 7, 7, 8, 9, 11, 13, 14, 12, 8, 4])
"""Relative visits by hour, UTC: evenings are several times busier than nights."""


HOUR_US = 3600 * SECOND_US


@dataclass(frozen=True, slots=True)
class Plan:
    """The slates of a day."""

    user_ix: np.ndarray
    at_us: np.ndarray  # int64, rising
    session: np.ndarray  # number within the day
    device: np.ndarray  # str
    mood: np.ndarray  # category that the session is about


def plan_day(
    users: Users, weights: np.ndarray, slates: int, day_us: int, rng: np.random.Generator
) -> Plan:
    """Draw a day.

    Args:
        users: the population.
        weights: (U,) chance of each user's visits, need not sum to one; not all zero.
        slates: how many in all; the last session is cut to fit.
        day_us: the moment at which the 24 hours start, mostly a midnight.
        rng: the only randomness.
    """
    pages = rng.geometric(1 / PAGES_MEAN, slates)  # enough even if all were of one page
    sessions = int(np.searchsorted(np.cumsum(pages), slates)) + 1
    pages = pages[:sessions]
    pages[-1] -= pages.sum() - slates
    visitor = rng.choice(len(weights), sessions, p=weights / weights.sum())
    mood = moods(users.taste[visitor], rng)
    busy = np.roll(HOURS, -((day_us % DAY_US) // HOUR_US))
    hour = rng.choice(24, sessions, p=busy / busy.sum())
    begin_us = ((hour + rng.random(sessions)) * HOUR_US).astype(np.int64)
    session = np.repeat(np.arange(sessions), pages)
    gaps = rng.lognormal(np.log(PAGE_GAP_S), PAGE_GAP_SIGMA, slates) * SECOND_US
    offset_us = _running_total(gaps.astype(np.int64), session)
    last_us = np.zeros(sessions, np.int64)
    np.maximum.at(last_us, session, offset_us)
    begin_us -= np.maximum(0, begin_us + last_us - DAY_US + SECOND_US)  # end within the day
    at_us = day_us + begin_us[session] + offset_us
    order = np.argsort(at_us, kind="stable")
    who = visitor[session][order]
    return Plan(who, at_us[order], session[order], users.device[who], mood[session][order])


def moods(taste: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """(S, C) tastes -> (S,) one category each, drawn by taste."""
    return np.argmax(np.log(taste) + rng.gumbel(size=taste.shape), axis=1)


def _running_total(gaps: np.ndarray, session: np.ndarray) -> np.ndarray:
    """Time since the session's first page; `session` is rising and the first gap of each is void."""
    first = np.r_[True, session[1:] != session[:-1]]
    total = np.cumsum(np.where(first, 0, gaps))
    return total - total[first][session]
