"""One load test: warm up, send the plan, read what it cost."""

import asyncio
import gc
import os
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import uvloop

from features.errors import ContractError
from pipelines.load.arrivals import plan, visitors
from pipelines.load.generator import Generator, Tick, session
from pipelines.load.latency import latencies_ms, summary
from pipelines.load.target import cpu_ms_per_request, known_users, processes

WARM_UP_S = 3.0
"""At the rate of the test, and not counted: first connections, first calls, first slates."""

READS_FIRST = 50
"""Requests of the warm-up before the first click: there must be something to click on."""

RATE_MAX = 2_000.0
"""Of one generator in Python; ask several for more."""

REQUESTS_MAX = 200_000
USERS_MAX = 100_000
TIMEOUT_MAX_S = 30.0

Progress = Callable[[str, int], Tick]
"""Called with a phase and its number of requests; gives what to call as they go."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What the load test is to be."""

    rate: float = 100.0
    """Requests per second, reads and events together."""

    seconds: float = 30.0
    events_share: float = 0.2
    users: int | None = None
    """None = as many as there are known ones, and some new."""

    seed: int = 0
    timeout_s: float = 5.0

    def check(self) -> None:
        """Refuse what is endless, or more than this generator can do.

        Raises:
            ContractError: naming the limit.
        """
        limits = [
            ("rate", self.rate, 0.1, RATE_MAX),
            ("seconds", self.seconds, 1.0, 3_600.0),
            ("rate times seconds", self.rate * self.seconds, 1.0, REQUESTS_MAX),
            ("events-share", self.events_share, 0.0, 1.0),
            ("users", self.users or 1, 1, USERS_MAX),
            ("timeout", self.timeout_s, 0.1, TIMEOUT_MAX_S),
        ]
        for name, value, least, most in limits:
            if not least <= value <= most:
                raise ContractError(f"{name} is {value:g}, expected {least:g} to {most:g}")


def measure(
    url: str,
    asked: Asked,
    progress: Progress = lambda name, total: _silent,
    known: Sequence[str] = (),
) -> tuple[dict[str, Any], dict[str, list[float]]]:
    """The metrics of one load test of the API at `url`.

    Args:
        url: origin of the API; `target.origin` has let it pass.
        asked: within its limits.
        progress: shows how far it is.
        known: users with a history; empty = those whom the API names, which are few.

    Returns:
        The report's metrics, and all latencies in ms of "reads" and "events".

    Raises:
        RecommenderError: the API does not answer at all.
    """
    asked.check()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_measure(url, asked, progress, known))


async def _measure(
    url: str, asked: Asked, progress: Progress, known: Sequence[str]
) -> tuple[dict[str, Any], dict[str, list[float]]]:
    rng = np.random.default_rng(asked.seed)
    load_average = os.getloadavg()[0]
    async with session(url, asked.timeout_s) as client:
        known = list(known) or await known_users(client)
        users = visitors(known, asked.users, rng)
        phases = [
            plan(asked.rate, seconds, asked.events_share, len(users), rng)
            for seconds in (WARM_UP_S, asked.seconds)
        ]
        phases[0].is_event[:READS_FIRST] = False
        # Not `seed`: a second run's clicks are new clicks, not the first one's sent again.
        generator = Generator(client, uuid.uuid4().hex[:12], users)
        gc.collect()
        gc.freeze()  # else a full collection, in the middle, makes the generator late
        try:
            await generator.fire(phases[0], progress("warm-up", len(phases[0])))
            before = await processes(client)
            sent = await generator.fire(phases[1], progress("load", len(phases[1])))
            after = await processes(client)
        finally:
            gc.unfreeze()
    metrics = summary(sent, asked.rate, asked.seconds)
    cpu_ms, unknown = cpu_ms_per_request(before, after, len(sent) - metrics["errors"])
    metrics |= {
        "cpu_ms_per_request": cpu_ms,
        "cpu_unknown": unknown,
        "users": {"known": len(set(users) & set(known)), "all": len(users)},
        "events_share": asked.events_share,
        "in_flight_max": generator.in_flight_max,
        "load_average_before": round(load_average, 2),
    }
    latencies = {
        name: latencies_ms(one for one in sent if one.is_event == is_event)
        for name, is_event in (("reads", False), ("events", True))
    }
    return metrics, latencies


def _silent(over: int, errors: int) -> None:
    """Nobody watches."""
