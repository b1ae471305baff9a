"""What users did and the platform has not heard of yet, by user, until its moment has come."""

import heapq
from collections.abc import Iterator
from typing import Any

import pandas as pd

from pipelines.past import in_us

Event = dict[str, Any]
"""A row of `pipelines.world.happenings.table`, its times as µs since 1970."""

Order = tuple[int, int, str, int]
"""Arrives, happened, id, number."""

TIMES = ("event_at", "seen_at")


class Pending:
    """Events on their way. Users are independent: each one's events arrive in order of `seen_at`."""

    def __init__(self, events: pd.DataFrame) -> None:
        self._heaps: dict[str, list[Order]] = {}
        self._events: dict[int, Event] = {}
        self._count = 0
        self.add(events)

    def add(self, events: pd.DataFrame) -> None:
        """Send events off."""
        if events.empty:
            return
        times = {name: in_us(events[name]) for name in TIMES}
        for event in events.assign(**times).to_dict("records"):
            self._count += 1  # a retry has the id of its first sending
            self._events[self._count] = {str(name): value for name, value in event.items()}
            order = (event["seen_at"], event["event_at"], event["event_id"], self._count)
            heapq.heappush(self._heaps.setdefault(event["user_id"], []), order)

    def due(self, user_id: str, at_us: int) -> Iterator[Event]:
        """Take out what has arrived from one user by `at_us`, oldest first."""
        heap = self._heaps.get(user_id, [])
        while heap and heap[0][0] <= at_us:
            yield self._events.pop(heapq.heappop(heap)[-1])

    def all_due(self, at_us: int) -> Iterator[Event]:
        """The same of everybody."""
        for user_id in sorted(self._heaps):
            yield from self.due(user_id, at_us)

    def table(self) -> pd.DataFrame:
        """All that is left, as `add` takes it."""
        rest = sorted(order for heap in self._heaps.values() for order in heap)
        rows = [self._events[number] for *_, number in rest]
        return timed(pd.DataFrame(rows)) if rows else pd.DataFrame()


def timed(events: pd.DataFrame) -> pd.DataFrame:
    """Times as `datetime64[us, UTC]` again."""
    moments = {
        name: pd.to_datetime(events[name], unit="us", utc=True).dt.as_unit("us") for name in TIMES
    }
    return events.assign(**moments)
