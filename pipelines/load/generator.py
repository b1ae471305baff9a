"""Sends a plan on time, and notes what came of each request."""

import asyncio
import json
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import aiohttp

from pipelines.load.arrivals import Plan

SPIN_S = 0.002
"""Timers of an event loop count in whole milliseconds; the rest of a wait is spent asking the clock."""

SLATES_KEPT = 200
"""Clicks go to one of the last slates: a user clicks within seconds, if at all."""

KEEPALIVE_S = 3.0
"""Less than uvicorn's 5 s: a connection that the server is closing must not be used again."""

IN_FLIGHT_MAX = 800
"""Below the usual limit of 1,024 open files. A request beyond it is an error, not a longer queue."""

Tick = Callable[[int, int], None]
"""Called about once a second with how many requests are over, and how many of them are errors."""


@dataclass(slots=True)
class Sent:
    """One request; times in seconds after the start of its plan."""

    is_event: bool
    due_s: float
    sent_s: float = 0.0
    done_s: float = 0.0
    problem: str | None = None
    """Kind of failure; None for an answer that is what was asked for."""

    timed_out: bool = False
    rung: int | None = None
    stages_ms: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Shown:
    """A slate that can be clicked on."""

    user_id: str
    request_id: str
    item_ids: list[str]


class Generator:
    """Keeps the connections and the slates that were shown, from the warm-up to the end."""

    def __init__(self, session: aiohttp.ClientSession, run_id: str, users: list[str]) -> None:
        """Send as `users` (by rank); `run_id` keeps the event ids of two runs apart."""
        self._session, self._run_id, self._users = session, run_id, users
        self._shown: deque[Shown] = deque(maxlen=SLATES_KEPT)
        self._in_flight = self._over = self._errors = self._events = 0
        self.in_flight_max = 0

    async def fire(self, plan: Plan, tick: Tick = lambda over, errors: None) -> list[Sent]:
        """Send every request of the plan at its time, whatever became of those before it.

        Returns when the last one is answered or given up.
        """
        start, next_tick = time.perf_counter() + SPIN_S, 1.0
        all_sent: list[Sent] = []
        self._over = self._errors = 0
        async with asyncio.TaskGroup() as tasks:
            for row, due_s in enumerate(plan.due_s.tolist()):
                await _wait_until(start + due_s)
                sent = Sent(bool(plan.is_event[row]), due_s)
                all_sent.append(sent)
                tasks.create_task(self._one(sent, plan, row, start))
                await asyncio.sleep(0)  # a late generator must let its requests begin all the same
                if due_s >= next_tick:
                    next_tick = due_s + 1.0
                    tick(self._over, self._errors)
        tick(self._over, self._errors)
        return all_sent

    async def _one(self, sent: Sent, plan: Plan, row: int, start: float) -> None:
        self._in_flight += 1
        self.in_flight_max = max(self.in_flight_max, self._in_flight)
        try:
            if self._in_flight > IN_FLIGHT_MAX:
                _not_sent(sent, f"not sent: {IN_FLIGHT_MAX} requests wait already", start)
            elif sent.is_event:
                await self._click(sent, plan.draw[row], start)
            else:
                await self._read(sent, self._users[plan.user_ix[row]], start)
        finally:
            self._in_flight -= 1
            self._over += 1
            self._errors += sent.problem is not None

    async def _read(self, sent: Sent, user_id: str, start: float) -> None:
        answer = await self._post("/v1/recommendations", {"user_id": user_id}, sent, start)
        if answer is None:
            return
        try:
            slate = json.loads(answer)
            ids = [item["item_id"] for item in slate["items"]]
            sent.rung = slate["rung"]
            shown = Shown(user_id, slate["request_id"], ids)
        except (ValueError, KeyError, TypeError):
            sent.problem = "an answer that is no slate"
            return
        if ids:
            self._shown.append(shown)

    async def _click(self, sent: Sent, draw: Any, start: float) -> None:
        if not self._shown:
            _not_sent(sent, "no slate was shown to click on", start)
            return
        shown = self._shown[int(draw[0] * len(self._shown))]
        place = int(draw[1] * len(shown.item_ids))
        self._events += 1
        event = {
            "event_id": f"load-{self._run_id}-{self._events}",
            "event_type": "click",
            "user_id": shown.user_id,
            "item_id": shown.item_ids[place],
            "session_id": f"load-{self._run_id}",
            "request_id": shown.request_id,
            "position": place + 1,
        }
        await self._post("/v1/events", event, sent, start)

    async def _post(
        self, path: str, body: dict[str, Any], sent: Sent, start: float
    ) -> bytes | None:
        """The body of a good answer; None after a failure, which is noted."""
        data, content = json.dumps(body).encode(), None
        sent.sent_s = time.perf_counter() - start
        try:
            async with self._session.post(path, data=data, allow_redirects=False) as answer:
                content = await answer.read()
                if not 200 <= answer.status < 300:
                    sent.problem, content = f"status {answer.status}", None
                sent.stages_ms = stages_of(answer.headers.get("Server-Timing", ""))
        except TimeoutError:
            sent.problem, sent.timed_out = "no answer in time", True
        except aiohttp.ClientConnectorError:
            sent.problem = "no connection"
        except (aiohttp.ClientError, OSError):
            sent.problem = "the connection broke"
        sent.done_s = time.perf_counter() - start
        return content


def session(url: str, timeout_s: float) -> aiohttp.ClientSession:
    """A client without a queue of its own: as many connections as requests are under way."""
    return aiohttp.ClientSession(
        url,
        connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=KEEPALIVE_S),
        timeout=aiohttp.ClientTimeout(total=timeout_s),
        headers={"Content-Type": "application/json"},
    )


def stages_of(server_timing: str) -> dict[str, float]:
    """Milliseconds by stage from the header; what is not a duration is left out.

    Examples:
        >>> stages_of("rank;dur=1.25, total;dur=3.0, cache;desc=hit")
        {'rank': 1.25, 'total': 3.0}
    """
    found = {}
    for entry in server_timing.split(","):
        name, *parameters = (part.strip() for part in entry.split(";"))
        for parameter in parameters:
            key, _, value = parameter.partition("=")
            with suppress(ValueError):
                if key == "dur":
                    found[name] = float(value)
    return found


def _not_sent(sent: Sent, why: str, start: float) -> None:
    sent.sent_s = sent.done_s = time.perf_counter() - start
    sent.problem = why


async def _wait_until(moment: float) -> None:
    while (left := moment - time.perf_counter()) > 0:
        await asyncio.sleep(left - SPIN_S if left > SPIN_S else 0)
