"""Who comes when: the slates that a day may bring, before anybody has seen one.

Each user's sessions are a Poisson process whose rate follows activity, hour, weekday, season and
the user's satisfaction this morning. It is drawn at its highest rate and thinned: the sessions
that may happen are the same under every policy, and what a policy earned decides how many do.
S counts slates; every array of `Visits` is (S,), sorted by time.
"""

import dataclasses
from dataclasses import dataclass

import numpy as np

from pipelines.world.draws import key, normal, uniform
from pipelines.world.population import DAY_US, DEVICE_SHARES, DEVICES, SECOND_US
from pipelines.world.state import MEDIUM
from pipelines.world.timeline import YEAR_DAYS, YEAR_PEAK, YEAR_SIZE, strength
from pipelines.world.truth import State, Truth

PAGE_GAP_S, PAGE_GAP_SIGMA = 50.0, 0.6
"""Median seconds between pages, log-normal."""

MOST_PAGES = 50
"""Nobody reads on for ever."""

HOURS = np.array(
    [10, 5, 3, 3, 4, 8, 20, 32, 36, 36, 37, 40, 44, 40, 36, 36, 40, 46, 56, 66, 70, 60, 40, 20]
)
"""Relative visits by hour, UTC: evenings are several times busier than nights."""

USUAL_DEVICE = 0.9
"""Share of sessions on the device that the user mostly has."""

MOST_OFTEN = 1.5
"""How much more often than at medium satisfaction the most satisfied may come back."""

MOST_SESSIONS = 60
"""Of one user on one day."""

NO_INTENT = -1
HOUR_US = 3600 * SECOND_US


@dataclass(frozen=True, slots=True)
class Visits:
    """Slates that may be asked for."""

    user_ix: np.ndarray
    session: np.ndarray  # int64, of all users and days: day x MOST_SESSIONS + number of the day
    page: np.ndarray  # 0 = the session's first
    at_us: np.ndarray  # int64, rising
    device: np.ndarray  # str
    intent: np.ndarray  # category that the page is about, or NO_INTENT
    luck: np.ndarray  # uint64, the key of all draws of this page

    def take(self, rows: np.ndarray) -> "Visits":
        """Some of the rows."""
        return Visits(*(getattr(self, field.name)[rows] for field in dataclasses.fields(self)))

    def __len__(self) -> int:
        return len(self.user_ix)


def plan_day(
    truth: Truth, state: State, start_us: int, *, stream: int = 0, factor: float = 1.0
) -> Visits:
    """The slates of the 24 hours from `start_us`, mostly a midnight.

    Args:
        truth: the world.
        state: as of this morning (`begin_day`); decides how often people come back.
        start_us: µs since 1970.
        stream: another number gives another day of the same world.
        factor: on everybody's rate.
    """
    day = start_us // DAY_US
    who, nth = _sessions(truth, state, start_us, stream, factor)
    luck = key(truth.seed, stream, "session", who, day, nth)
    pages = _pages(truth, luck)
    rows = np.repeat(np.arange(len(who)), pages)
    page = np.arange(len(rows)) - np.repeat(np.cumsum(pages) - pages, pages)
    page_luck = key(luck[rows], "page", page)
    at_us = start_us + _moments(truth, who, luck, page_luck, rows, page, start_us)
    order = np.lexsort((page, who[rows], at_us))
    return Visits(
        user_ix=who[rows][order],
        session=(day * MOST_SESSIONS + nth)[rows][order],
        page=page[order],
        at_us=at_us[order],
        device=_devices(truth, who, luck)[rows][order],
        intent=_intents(truth, state, who[rows], page, page_luck)[order],
        luck=page_luck[order],
    )


def exactly(truth: Truth, state: State, start_us: int, slates: int, stream: int) -> Visits:
    """A day cut to a given number of slates: whole sessions drawn from it, the last one shortened.

    A Poisson process given how many there were is a sample of that many, so the mix of users and
    hours stays as it is.
    """
    factor = 1.3 * slates / truth.config.slates_a_day
    visits = plan_day(truth, state, start_us, stream=stream, factor=factor)
    while len(visits) < slates:
        factor *= 1.5
        visits = plan_day(truth, state, start_us, stream=stream, factor=factor)
    lot = uniform(truth.seed, stream, "lot", visits.user_ix, visits.session)
    chosen = np.sort(np.lexsort((visits.page, lot))[:slates])
    return visits.take(chosen)


def at_no_moment(truth: Truth, user_ix: np.ndarray, at_us: int) -> Visits:
    """Visits outside of any plan, without an intent: to ask what users think of items."""
    n = len(user_ix)
    return Visits(
        user_ix=user_ix,
        session=np.full(n, -1),
        page=np.zeros(n, np.int64),
        at_us=np.full(n, at_us),
        device=truth.users.device[user_ix],
        intent=np.full(n, NO_INTENT),
        luck=key(truth.seed, "no moment", user_ix),
    )


def rates(truth: Truth, state: State, start_us: int) -> np.ndarray:
    """(U,) expected sessions on the day, of those who are there at its beginning."""
    users, config = truth.users, truth.config
    known = users.activity * (users.segment == 0)
    settled = users.joined_at < round(truth.end.timestamp() * 1e6) - config.days * DAY_US // 2
    mean = config.slates_a_day / config.pages_mean / (known * settled).sum()
    here = (users.joined_at < start_us) & ~state.gone
    back = np.exp(config.return_slope * (state.satisfaction - MEDIUM))
    usual = mean * known * here * np.clip(back, 1 / MOST_OFTEN, MOST_OFTEN)
    return (usual + _newcomers(truth, usual.sum(), start_us)) * _calendar(truth, start_us)


def _newcomers(truth: Truth, usual: float, start_us: int) -> np.ndarray:
    """(U,) sessions of the other segment: its share of all visits while a covariate shift lasts."""
    share = min(strength(truth, "covariate", start_us), 0.99)
    new = truth.users.activity * (truth.users.segment == 1)
    return new / new.sum() * usual * share / (1 - share)


def _calendar(truth: Truth, start_us: int) -> float:
    day = start_us // DAY_US
    weekend = (day + 3) % 7 >= 5  # 1970 began on a Thursday
    week = (7 * (truth.config.weekend if weekend else 1.0)) / (5 + 2 * truth.config.weekend)
    year = np.cos(2 * np.pi * (day - YEAR_PEAK) / YEAR_DAYS)
    return float(week * (1 + YEAR_SIZE * year if truth.config.on("season") else 1.0))


def _sessions(
    truth: Truth, state: State, start_us: int, stream: int, factor: float
) -> tuple[np.ndarray, np.ndarray]:
    """User and number of each session that happens."""
    rate = rates(truth, state, start_us) * factor
    most = _at_most(truth, state, rate)
    day = start_us // DAY_US
    everybody = np.flatnonzero(most > 0)
    drawn = uniform(truth.seed, stream, "sessions", everybody, day)
    count = _poisson(most[everybody], drawn)
    who = np.repeat(everybody, count)
    nth = np.arange(len(who)) - np.repeat(np.cumsum(count) - count, count)
    kept = uniform(truth.seed, stream, "thinned", who, day, nth) * most[who] < rate[who]
    return who[kept], nth[kept]


def _at_most(truth: Truth, state: State, rate: np.ndarray) -> np.ndarray:
    """The rate that the most satisfied would have: what thinning starts from."""
    back = np.exp(truth.config.return_slope * (state.satisfaction - MEDIUM))
    return rate * MOST_OFTEN / np.clip(back, 1 / MOST_OFTEN, MOST_OFTEN)


def _poisson(rate: np.ndarray, drawn: np.ndarray) -> np.ndarray:
    """Counts by inverting the distribution function, never more than MOST_SESSIONS."""
    count = np.zeros(len(rate), np.int64)
    term = np.exp(-rate)
    below = term.copy()
    for number in range(1, MOST_SESSIONS):
        more = drawn >= below
        if not more.any():
            break
        count[more] = number
        term = term * rate / number
        below += term
    return count


def _pages(truth: Truth, luck: np.ndarray) -> np.ndarray:
    mean = truth.config.pages_mean
    if mean <= 1:
        return np.ones(len(luck), np.int64)
    more = np.log(uniform(luck, "pages")) / np.log(1 - 1 / mean)
    return 1 + np.minimum(np.floor(more), MOST_PAGES - 1).astype(np.int64)


def _devices(truth: Truth, who: np.ndarray, luck: np.ndarray) -> np.ndarray:
    """The usual device, or now and then another."""
    usual = truth.users.device[who]
    if not truth.config.on("habits"):
        return usual
    edges = np.cumsum(DEVICE_SHARES)[:-1]
    other = np.array(DEVICES)[np.searchsorted(edges, uniform(luck, "other device"))]
    strays = (uniform(luck, "device") >= USUAL_DEVICE) & (truth.users.segment[who] == 0)
    return np.where(strays, other, usual)


def _intents(
    truth: Truth, state: State, who: np.ndarray, page: np.ndarray, luck: np.ndarray
) -> np.ndarray:
    """Category of each page: drawn by taste at first and wherever the session turns."""
    if not truth.config.on("intent"):
        return np.full(len(who), NO_INTENT)
    turns = (page == 0) | (uniform(luck, "turn") < truth.config.intent_switch)
    total = np.cumsum(state.taste[who], axis=1)
    drawn = uniform(luck, "intent")[:, None] * total[:, -1:]
    fresh = (drawn >= total).sum(axis=1)
    since = np.maximum.accumulate(np.where(turns, np.arange(len(who)), 0))
    return fresh[since]


def _moments(
    truth: Truth,
    who: np.ndarray,
    luck: np.ndarray,
    page_luck: np.ndarray,
    rows: np.ndarray,
    page: np.ndarray,
    start_us: int,
) -> np.ndarray:
    """(S,) µs after the start, in whole milliseconds; a session ends within the 24 hours."""
    busy = np.r_[0, np.cumsum(HOURS)] / HOURS.sum()
    hour = np.interp(uniform(luck, "hour"), busy, np.arange(25)) + truth.users.hour_shift[who]
    begin_us = ((hour * HOUR_US).astype(np.int64) - start_us % DAY_US) % DAY_US
    gap = PAGE_GAP_S * np.exp(PAGE_GAP_SIGMA * normal(page_luck, "gap"))
    gap_us = np.where(page == 0, 0, (gap * 1000).astype(np.int64) * 1000)
    total = np.cumsum(gap_us)
    offset_us = total - total[page == 0][rows] if len(rows) else total
    last_us = np.zeros(len(who), np.int64)
    np.maximum.at(last_us, rows, offset_us)
    begin_us = np.maximum(0, np.minimum(begin_us, DAY_US - SECOND_US - last_us))
    return (begin_us // 1000 * 1000)[rows] + offset_us
