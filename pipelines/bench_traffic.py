"""Events for the benches of the stream: what a shop sends, and what goes wrong on the way.

Slates of impressions with a click now and then, users at random. Of all records a share are
duplicates, arrive out of order by up to REORDERED_MAX, or are later than the stream allows. The
generator keeps its own books, by user and without the fold, of what a right worker must count.
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from features.streaming import ALLOWED_LATENESS

REORDERED_MAX = timedelta(minutes=10)
DUPLICATED, REORDERED, LATE = 0.05, 0.10, 0.01
"""Shares of the records."""

START = datetime(2026, 3, 1, tzinfo=UTC)
STEP = timedelta(milliseconds=15)
"""Between two records: a million take four hours, so that all of them are in the items' day."""

SLATE = 10
CLICKED = 0.5
"""Slates with a click."""

REPEATED_AMONG = 500
"""A duplicate comes within so many records: clients retry within seconds."""

Record = tuple[str, dict[str, Any]]


@dataclass(slots=True)
class Traffic:
    """A stream of records, and the books."""

    count: int
    seed: int
    users: int = 5_000
    items: int = 2_000
    new: int = 0
    late: int = 0
    repeated: int = 0
    touches: int = 0
    """New impressions and clicks: what the items' rows of a day must add up to."""

    newest: dict[str, datetime] = field(default_factory=dict)
    """User -> newest event time that has arrived."""

    def records(self) -> Iterator[Record]:
        """All records, in order of arrival."""
        rng, recent, slate = random.Random(self.seed), list[Record](), list[Record]()
        for number in range(self.count):
            draw, now = rng.random(), START + number * STEP
            if draw < DUPLICATED and recent:
                self.repeated += 1
                yield rng.choice(recent)
                continue
            if not slate:
                slate = self._slate(rng, number)
            user_id, value = slate.pop()
            at = now
            if draw > 1 - LATE and user_id in self.newest:
                at = self.newest[user_id] - ALLOWED_LATENESS
                at -= timedelta(seconds=rng.uniform(1, 3600))
                self.late += 1
            else:
                if draw > 1 - LATE - REORDERED:
                    at -= REORDERED_MAX * rng.random()
                self.new += 1
                self.touches += 1
                self.newest[user_id] = max(at, self.newest.get(user_id, at))
            value |= {
                "event_at": at.isoformat(timespec="microseconds"),
                "seen_at": now.isoformat(timespec="microseconds"),
            }
            yield user_id, value
            if at > now - ALLOWED_LATENESS / 2:
                recent.append((user_id, value))
                del recent[:-REPEATED_AMONG]

    def _slate(self, rng: random.Random, number: int) -> list[Record]:
        """Impressions of one user, and maybe a click; the last one comes first."""
        user_id = f"user-{rng.randrange(self.users)}"
        shown = [f"item-{int(self.items * rng.random() ** 2)}" for _ in range(SLATE)]
        kinds = ["impression"] * SLATE
        if rng.random() < CLICKED:
            kinds.append("click")
            shown.append(rng.choice(shown))
        return [
            (
                user_id,
                {
                    "event_id": f"r{number}:{place}", "event_type": kind, "user_id": user_id,
                    "item_id": item_id, "session_id": None, "request_id": f"r{number}",
                    "position": place, "value": None, "context": "{}", "bundle": "b",
                    "source": "two_tower", "propensity": None, "arms": "{}",
                },
            )
            for place, (kind, item_id) in reversed(list(enumerate(zip(kinds, shown, strict=True), 1)))
        ]  # fmt: skip
