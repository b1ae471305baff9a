"""The same shop, told later: of what a user did, of users' rows, of items' rows.

Only what serving reads is old; the ranker is the one that learned from fresh rows, as it is after
an incident, or where somebody made a pipeline slower and did not train again.
"""

from collections import deque
from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import partial
from typing import Any

import pandas as pd

from features.definitions import BATCH_LAG
from features.request import UserRow, microseconds
from features.streaming import State
from models.ranker import Ranker
from pipelines.experiments.line import Line, item_values
from pipelines.known_rows import BatchRow
from pipelines.lake import read_events, read_info
from pipelines.loop.shop import BatchRows, Shop
from pipelines.past import in_us
from pipelines.stream_history import COLUMNS, stream_history

Told = Mapping[str, Any]
"""An event whose times are µs since 1970; of an impression, which is ours, `event_at` at least."""

NOT_YET_US = 2**62
"""Later than any event: nothing before it is a row that somebody asks for."""


@dataclass(slots=True)
class LateShop(Shop):
    """A shop that knows, at any moment, only what arrived `late_us` ago or earlier."""

    late_us: int = 0
    waiting: dict[str, deque[Told]] = field(default_factory=dict)
    """User -> what has arrived and is not taken in, in order of arrival."""

    def fold(self, event: Told) -> None:
        """Put it aside."""
        self.waiting.setdefault(event["user_id"], deque()).append(event)

    def user(self, user_id: str, now: datetime) -> UserRow:
        """What is old enough by now is taken in first."""
        queue, until = self.waiting.get(user_id, ()), microseconds(now) - self.late_us
        while queue and arrived_us(queue[0]) <= until:
            Shop.fold(self, queue.popleft())
        return Shop.user(self, user_id, now)


def arrived_us(event: Told) -> int:
    """When the platform could have known of it, µs since 1970."""
    shown = event["event_type"] == "impression"
    return int(event["event_at"] if shown else event["seen_at"])


@dataclass(slots=True)
class LateCounts(LateShop):
    """Counts are told late; the list of what was taken, and when, is `fresh`."""

    fresh: dict[str, State] = field(default_factory=dict)

    def fold(self, event: Told) -> None:
        """Into the list now, into the counts later."""
        LateShop.fold(self, event)
        Shop.fold(replace(self, states=self.fresh), event)

    def user(self, user_id: str, now: datetime) -> UserRow:
        """Two rows of the same user, one told late."""
        row = Shop.user(replace(self, states=self.fresh), user_id, now)
        return replace(row, values=LateShop.user(self, user_id, now).values)


def late(
    line: Line, trained: Ranker, by: timedelta, *, counts_only: bool = False
) -> Callable[[], Shop]:
    """Makes a shop that takes in what a user does `by` later: all of it, or what is counted."""
    past = None if by <= BATCH_LAG else Past.of(line, line.now - by)  # the log ends at midnight

    def made() -> Shop:
        shop = line.shop(trained)
        states, waiting = (
            (shop.states, {}) if past is None else deepcopy((past.states, past.waiting))
        )
        late_us = by // timedelta(microseconds=1)
        if counts_only:
            fresh = line.shop(trained).states
            return LateCounts(shop.bundle, shop.rows, states, late_us, waiting, fresh)
        return LateShop(shop.bundle, shop.rows, states, late_us, waiting)

    return made


@dataclass(frozen=True, slots=True)
class Past:
    """The logged past, cut where a late shop's knowledge ends."""

    states: dict[str, State]
    waiting: dict[str, deque[Told]]

    @classmethod
    def of(cls, line: Line, until: datetime) -> "Past":
        """What arrived up to `until`, that moment included, is known."""
        events = read_events(line.workspace.lake, columns=COLUMNS)
        events = events.sort_values(["seen_at", "event_at", "event_id"], kind="stable")
        known = (events["seen_at"] <= pd.Timestamp(until)).to_numpy()
        states: dict[str, State] = {}
        types = read_info(line.workspace.lake).positive_types
        deque(stream_history(events[known], NOT_YET_US, types, states), maxlen=0)
        rest = events[~known]
        rest = rest.assign(**{name: in_us(rest[name]) for name in ("event_at", "seen_at")})
        waiting: dict[str, deque[Told]] = {}
        for event in rest.to_dict("records"):
            told = {str(name): value for name, value in event.items()}
            waiting.setdefault(told["user_id"], deque()).append(told)
        return cls(states, waiting)


def users_of(line: Line, trained: Ranker, by: timedelta) -> Callable[[], Shop]:
    """Makes a shop whose nightly rows of users, and of users and categories, are those of `by` ago."""
    then = line.now - by
    old = BatchRows.known(line.views_at(then), then)

    def stamped(row: BatchRow) -> BatchRow:
        return row[0] + by, row[1]  # as if made last night: what is measured is age, not a TTL

    rows = BatchRows(
        {user: stamped(row) for user, row in old.users.items()},
        {
            user: {category: stamped(row) for category, row in of_user.items()}
            for user, of_user in old.categories.items()
        },
    )
    return lambda: replace(line.shop(trained), rows=rows)


def items_of(line: Line, trained: Ranker, by: timedelta) -> Callable[[], Shop]:
    """Makes a shop whose nightly rows of items are those of `by` ago; what came since has defaults."""
    then, catalogue = line.now - by, line.bundle.catalogue
    views = line.views_at(then)
    matrix = item_values(views, then, catalogue.item_ids.tolist())
    older = replace(line, bundle=replace(line.bundle, catalogue=replace(catalogue, matrix=matrix)))
    return partial(older.shop, trained)
