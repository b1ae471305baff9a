"""A client that asks at a fixed pace whatever happens, and remembers every answer.

Open loop: request n leaves at n / rate seconds after the start, even if earlier ones still wait. A
client that waits for its answers asks least when the server is worst, and sees few of its errors.
"""

import asyncio
import itertools
import random
import time
import uuid
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import aiohttp

TIMEOUT_S = 15.0
"""Longer than the proxy tries; a client that gave up earlier would hide the proxy's answer."""

EVENTS_SHARE = 0.4


@dataclass(frozen=True, slots=True)
class Answer:
    """One request, as its sender saw it."""

    kind: str
    """read or event"""

    at_s: float
    """Intended time of sending, from the start."""

    seconds: float
    """From the intended time to the last byte."""

    status: int
    """0 = no answer: the connection broke, or nothing came in time."""

    rung: int | None = None
    event_id: str | None = None

    @property
    def failed(self) -> bool:
        """A client would complain."""
        return self.status == 0 or self.status >= 500


class Client:
    """Sends until it is told to stop."""

    def __init__(self, url: str, user_ids: Sequence[str], rate: float, seed: int) -> None:
        self._url, self._users, self._rate = url, user_ids, rate
        self._rng = random.Random(seed)
        self._seen: list[tuple[str, str, str]] = []  # (user, item, request) of the latest slates
        self.answers: list[Answer] = []
        self.started = time.monotonic()

    @property
    def accepted(self) -> set[str]:
        """Events that were answered 202: the ones that must never be lost."""
        return {a.event_id for a in self.answers if a.status == 202 and a.event_id}

    def now_s(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self.started

    async def run(self, stop: asyncio.Event) -> None:
        """Send at the pace until `stop` is set, then wait for what is under way."""
        limits = aiohttp.TCPConnector(limit=0)
        timeout = aiohttp.ClientTimeout(total=TIMEOUT_S)
        self.started = time.monotonic()
        async with aiohttp.ClientSession(self._url, connector=limits, timeout=timeout) as session:
            under_way: set[asyncio.Task[None]] = set()
            for n in itertools.count():
                at_s = n / self._rate
                await asyncio.sleep(max(at_s - self.now_s(), 0))
                if stop.is_set():
                    break
                task = asyncio.create_task(self._one(session, at_s))
                under_way.add(task)
                task.add_done_callback(under_way.discard)
            await asyncio.gather(*under_way)

    async def _one(self, session: aiohttp.ClientSession, at_s: float) -> None:
        if self._seen and self._rng.random() < EVENTS_SHARE:
            await self._event(session, at_s, *self._rng.choice(self._seen))
        else:
            await self._read(session, at_s, self._rng.choice(self._users))

    async def _read(self, session: aiohttp.ClientSession, at_s: float, user_id: str) -> None:
        status, body = await _post(session, "/v1/recommendations", {"user_id": user_id, "k": 10})
        self._note("read", at_s, status, rung=body.get("rung"))
        if status == 200 and body["items"]:
            shown = self._rng.choice(body["items"])
            self._seen = [*self._seen[-200:], (user_id, shown["item_id"], body["request_id"])]

    async def _event(
        self, session: aiohttp.ClientSession, at_s: float, user_id: str, item_id: str, request: str
    ) -> None:
        event = {
            "event_id": f"chaos-{uuid.uuid4()}",
            "event_type": "click",
            "user_id": user_id,
            "item_id": item_id,
            "request_id": request,
        }
        status, _ = await _post(session, "/v1/events", event)
        self._note("event", at_s, status, event_id=event["event_id"])

    def _note(self, kind: str, at_s: float, status: int, **more) -> None:
        self.answers.append(Answer(kind, at_s, self.now_s() - at_s, status, **more))


async def _post(session: aiohttp.ClientSession, path: str, body: dict) -> tuple[int, dict]:
    try:
        async with session.post(path, json=body) as response:
            return response.status, await response.json(content_type=None) or {}
    except (aiohttp.ClientError, TimeoutError, ValueError):
        return 0, {}


def summary(answers: Sequence[Answer]) -> dict:
    """Figures of some answers; times in ms, from the intended time of sending."""
    times = sorted(a.seconds * 1000 for a in answers) or [float("nan")]
    return {
        "requests": len(answers),
        "errors_5xx": sum(a.status >= 500 for a in answers),
        "unanswered": sum(a.status == 0 for a in answers),
        "refused_429": sum(a.status == 429 for a in answers),
        "p50_ms": round(times[len(times) // 2], 1),
        "p99_ms": round(times[int(len(times) * 0.99)], 1),
        "max_ms": round(times[-1], 1),
        "rungs": dict(sorted(Counter(str(a.rung) for a in answers if a.rung is not None).items())),
    }
