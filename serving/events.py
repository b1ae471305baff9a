"""What users did: checked, completed, and on the disk before the caller hears 202.

A record on the topic `events` has the columns of features/schema.py EVENTS, its times as ISO text
in UTC with microseconds, `context` and `arms` as JSON text, as in the lake.
"""

import json
import sqlite3
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import structlog

from features.errors import Unavailable
from features.schema import POSITIVE_TYPES
from infra.event_log import Appender
from infra.spool import SpoolFull
from models.bundle import Bundle
from monitoring.metrics import Metrics
from serving.deadline import BoundedPool
from serving.fallback import Fallback
from serving.refusals import Refusal
from serving.schemas import FUTURE_SLACK, EventIn, EventsIn

WRITE_TIMEOUT_MS = 5_000.0
RETRY_AFTER_S = 5
"""A backlog takes longer to drain than that; asking a little early costs a refusal."""

WRITERS, WRITES_WAITING = 8, 256
"""Waiting writers share one fsync, so a few threads are enough; beyond the queue callers get 503."""


class EventDoor:
    """The write side of the API."""

    def __init__(self, log: Appender, fallback: Fallback, metrics: Metrics) -> None:
        self._log, self._fallback, self._metrics = log, fallback, metrics
        self._pool = BoundedPool(
            "event log", threads=WRITERS, waiting=WRITES_WAITING, error=Unavailable
        )

    async def accept(self, posted: EventIn | EventsIn, now: datetime, bundle: Bundle | None) -> int:
        """Store all the events, or none, and return how many.

        Raises:
            Refusal: 422 an event lies in the future; 429 the spool is full, none is stored; 503
                the log did not confirm in time: the events may or may not be stored, and sending
                them again is safe.
        """
        events = posted.events if isinstance(posted, EventsIn) else [posted]
        records = [
            (event.user_id, record(event, now, _field(posted, place)))
            for place, event in enumerate(events)
        ]
        try:
            await self._pool.call(WRITE_TIMEOUT_MS, self._log.append, "events", records)
        except SpoolFull as error:
            raise Refusal(
                429, "events", "no room until the log is back; send them again later", RETRY_AFTER_S
            ) from error
        except (Unavailable, sqlite3.Error, OSError) as error:
            structlog.get_logger().error("events not stored", events=len(events), exc_info=error)
            raise Refusal(
                503, "events", "not confirmed by the log; send them again, their ids count once"
            ) from error
        self._learn(events, bundle)
        for kind, count in Counter(event.event_type for event in events).items():
            self._metrics.events.labels(kind).inc(count)
        return len(events)

    def close(self) -> None:
        """Take no more events."""
        self._pool.close()

    def _learn(self, events: Sequence[EventIn], bundle: Bundle | None) -> None:
        """Keep the lower rungs fresh; the stream worker does the same for the upper ones."""
        positive = bundle.info.positive_types if bundle else POSITIVE_TYPES
        for event in events:
            if event.event_type in positive:
                self._fallback.note_positive(event.user_id, event.context.known(), event.item_id)


def record(event: EventIn, now: datetime, field: str = "event_at") -> dict[str, Any]:
    """One event as the log keeps it.

    Raises:
        Refusal: it lies further in the future than clocks are wrong; `field` is named.
    """
    at = event.event_at.astimezone(UTC) if event.event_at else now
    if at > now + FUTURE_SLACK:
        minutes = FUTURE_SLACK.total_seconds() / 60
        raise Refusal(422, field, f"more than {minutes:.0f} minutes in the future")
    return {
        "event_id": event.event_id,
        "event_type": event.event_type,
        "user_id": event.user_id,
        "item_id": event.item_id,
        "session_id": event.session_id,
        "request_id": event.request_id,
        "position": event.position,
        "event_at": at.isoformat(timespec="microseconds"),
        "seen_at": now.isoformat(timespec="microseconds"),
        "value": event.value,
        "context": json.dumps(event.context.known()),
        "bundle": None,
        "source": None,
        "propensity": None,
        "arms": None,
    }


def _field(posted: EventIn | EventsIn, place: int) -> str:
    return f"events.{place}.event_at" if isinstance(posted, EventsIn) else "event_at"
