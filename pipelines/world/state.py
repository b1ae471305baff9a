"""What changes about users while they visit: memory, satisfaction, taste, and whether they are gone.

Arrays over users, so that one call moves everybody. Users do not read each other's rows; only the
shelves (`stock`) are shared, and only in a world that counts them.

Axis letters: U users, C categories, D style dimensions, N items, R places of a memory.
"""

import numpy as np

from pipelines.world.draws import normal, uniform
from pipelines.world.population import DAY_US, to_us
from pipelines.world.timeline import strength
from pipelines.world.truth import State, Truth

MEMORY = 50
"""Looks and clicks that a user remembers; older ones are forgotten one by one."""

MEDIUM = 0.5
"""Satisfaction of who has no reason to be anything else."""

ROTATED_BY = 7
"""Categories by which a turned taste moves on: what was liked is liked no more."""

NOBODY = -1


def fresh_state(truth: Truth) -> State:
    """How things stand before the first day: nothing seen, nobody gone."""
    users, items = truth.users, truth.items
    n = len(users.ids)
    return State(
        day=to_us(truth.end) // DAY_US - truth.config.days - 1,
        taste=users.taste.copy(),
        style=users.style.copy(),
        satisfaction=np.full(n, MEDIUM),
        gone=np.zeros(n, bool),
        left=np.full(n, NOBODY, np.int64),
        seen_item=np.full((n, MEMORY), NOBODY, np.int32),
        seen_at=np.zeros((n, MEMORY), np.int64),
        seen=np.zeros(n, np.int64),
        clicked_item=np.full((n, MEMORY), NOBODY, np.int32),
        clicked=np.zeros(n, np.int64),
        stock=items.stock.copy(),
    )


def begin_day(truth: Truth, state: State, day: int) -> None:
    """Let the nights up to the morning of `day` (days since 1970) pass: tastes walk, users leave.

    What a night does to a user depends on nothing that another user did.
    """
    for night in range(state.day + 1, day + 1):
        _walk(truth, state, night)
        _leave(truth, state, night)
    if day > state.day:
        state.taste = _turned(truth, day)
        state.day = day


def remember(
    state: State, user_ix: np.ndarray, at_us: np.ndarray, item_ix: np.ndarray, looked: np.ndarray
) -> None:
    """Write the places where `looked` holds into their users' memory of looks.

    Args:
        state: changed in place.
        user_ix: (S,) distinct users.
        at_us: (S,) when.
        item_ix: (S, K) what was shown.
        looked: (S, K) bool.
    """
    places = _write(state.seen_item, state.seen, user_ix, item_ix, looked)
    state.seen_at[places] = np.broadcast_to(at_us[:, None], item_ix.shape)[looked]


def remember_clicks(
    state: State, user_ix: np.ndarray, item_ix: np.ndarray, clicked: np.ndarray
) -> None:
    """As `remember`, for clicks: they are not forgotten with time, only by newer ones."""
    _write(state.clicked_item, state.clicked, user_ix, item_ix, clicked)


def _write(
    memory: np.ndarray,
    count: np.ndarray,
    user_ix: np.ndarray,
    item_ix: np.ndarray,
    where: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """A ring per user: entry number n lies at n modulo MEMORY."""
    nth = np.cumsum(where, axis=1) - 1  # (S, K) of the new entries
    slot = (count[user_ix][:, None] + nth) % MEMORY
    rows = np.broadcast_to(user_ix[:, None], item_ix.shape)[where]
    places = (rows, slot[where])
    memory[places] = item_ix[where]
    count[user_ix] += where.sum(axis=1)
    return places


def _walk(truth: Truth, state: State, night: int) -> None:
    config = truth.config
    if not config.on("walk") or not config.walk_sigma:
        return
    users, width = state.style.shape
    who, dimension = np.arange(users)[:, None], np.arange(width)[None, :]
    step = config.walk_sigma * normal(config.seed, "walk", night, who, dimension)
    state.style = state.style + step
    state.style /= np.sqrt((state.style**2).sum(axis=1, keepdims=True))


def _leave(truth: Truth, state: State, night: int) -> None:
    """Some of those who have joined leave for good, the dissatisfied sooner."""
    config = truth.config
    if not config.on("churn"):
        return
    hazard = config.churn * np.exp(-config.churn_slope * (state.satisfaction - MEDIUM))
    drawn = uniform(config.seed, "churn", night, np.arange(len(state.gone)))
    here = (truth.users.joined_at < night * DAY_US) & (truth.users.segment == 0)
    state.gone = state.gone | (here & (drawn < hazard))


def _turned(truth: Truth, day: int) -> np.ndarray:
    """(U, C) tastes of the day: turned for the users whom a concept shift has reached."""
    users, config = truth.users, truth.config
    reached = strength(truth, "concept", day * DAY_US)
    if not reached:
        return users.taste
    turned = uniform(config.seed, "concept", np.arange(len(users.ids))) < reached
    return np.where(turned[:, None], np.roll(users.taste, ROTATED_BY, axis=1), users.taste)
