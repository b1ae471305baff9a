"""The visitors' side of the wire: their connections, their clock, and what they have clicked.

In a simulated day workers share one `Frontier`: the header X-Simulated-Now is the latest visit that
anybody has begun, so it never falls, and an event is stamped after the list it answers even when a
neighbour's visit has moved the server's clock on meanwhile. Live visitors have `RealTime`: no header,
and events at the moment at which they are sent.
"""

import queue
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

import httpx
import numpy as np

from features.errors import ContractError, Unavailable
from pipelines.world import truth as store
from pipelines.world.behaviour import BOREDOM, Reaction, attraction, examination, react
from pipelines.world.generate import World

K = 10
TIMEOUT_S = 10.0
"""An answer that takes longer comes from a broken server, not from a slow one."""

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Visit:
    """One slate about to be asked for. A user's visits form a chain: each waits for the one before."""

    number: int
    user_ix: int
    at_us: int
    session_id: str
    device: str
    mood: int
    after: threading.Event | None
    done: threading.Event = field(default_factory=threading.Event)


class VisitorsClock(Protocol):
    """What time it is for visitors, and how the API is told."""

    @property
    def pace(self) -> float:
        """Seconds of event time for each second that a user needs to read and decide."""

    def headers(self, at_us: int) -> dict[str, str]:
        """Headers of a request that belongs to a visit at `at_us`."""

    def now(self) -> datetime:
        """UTC; events are stamped from here on."""


class RealTime:
    """This machine's clock. A visit takes milliseconds, so its events are that close together."""

    pace = 0.001

    def headers(self, at_us: int) -> dict[str, str]:
        """None: the API has a clock of its own."""
        return {}

    def now(self) -> datetime:
        """The machine's time."""
        return datetime.now(UTC)


class Frontier:
    """The simulated moment that the visits have reached; it never goes back."""

    pace = 1.0

    def __init__(self, start_us: int) -> None:
        self._lock = threading.Lock()
        self._us = start_us

    def headers(self, at_us: int) -> dict[str, str]:
        """Where the visit is in time; the API's clock follows."""
        return {"X-Simulated-Now": self.reach(at_us).isoformat()}

    def reach(self, at_us: int) -> datetime:
        """Move on to `at_us` if that is later, and say what time it is now."""
        with self._lock:
            self._us = max(self._us, at_us)
            return EPOCH + timedelta(microseconds=self._us)

    def now(self) -> datetime:
        """Where time is, without moving it."""
        return self.reach(0)


class Crowd:
    """Who visits: shared by all workers; every method may be called from any of them."""

    def __init__(
        self, world: World, url: str, seed: int, clock: VisitorsClock, workers: int
    ) -> None:
        self._world, self._url, self._seed, self._clock = world, url, seed, clock
        self._clicked: set[int] = set(store.load_clicked(world.home).tolist())
        self._rows = {str(item_id): ix for ix, item_id in enumerate(world.truth.items.ids)}
        self._clients: queue.SimpleQueue[httpx.Client] = queue.SimpleQueue()
        for _ in range(workers):
            # trust_env off: a proxy of the environment has no business on loopback.
            self._clients.put(httpx.Client(timeout=TIMEOUT_S, trust_env=False))

    def meet(self, visit: Visit) -> dict[str, Any]:
        """One visit from request to reaction; also says when it is over, however it ended."""
        try:
            if visit.after is not None:
                visit.after.wait()
            with self._client() as client:
                return self._served(client, visit)
        finally:
            visit.done.set()

    def leave(self) -> None:
        """Hang up."""
        while not self._clients.empty():
            self._clients.get().close()

    def remember(self) -> None:
        """Save what was clicked so far."""
        # A copy in one step: workers go on adding.
        store.save_clicked(np.array(sorted(self._clicked.copy()), np.int64), self._world.home)

    @contextmanager
    def _client(self) -> Iterator[httpx.Client]:
        client = self._clients.get()
        try:
            yield client
        finally:
            self._clients.put(client)

    def _served(self, client: httpx.Client, visit: Visit) -> dict[str, Any]:
        users = self._world.truth.users
        user_id = str(users.ids[visit.user_ix])
        context = {"device": visit.device, "location": str(users.location[visit.user_ix])}
        question = {"user_id": user_id, "k": K, "context": context}
        answer = self._post(client, "/v1/recommendations", question, visit.at_us)
        reaction, expected = self._react(visit, [item["item_id"] for item in answer["items"]])
        events = _events(answer, reaction, visit.session_id, self._clock, context)
        if events:
            self._post(client, "/v1/events", {"events": events}, visit.at_us)
        return {
            "user_id": user_id,
            "request_id": answer["request_id"],
            "arm": next(iter(answer["arms"].values()), "full"),
            "rung": answer["rung"],
            "clicks": int(reaction.click.sum()),
            "purchases": int(reaction.purchase.sum()),
            "true_utility": expected,
        }

    def _react(self, visit: Visit, shown: Sequence[str]) -> tuple[Reaction, float]:
        """What this user does with this list, and the clicks that the truth expects of it."""
        truth = self._world.truth
        foreign = [item_id for item_id in shown if item_id not in self._rows]
        if foreign:
            raise ContractError(
                f"the API at {self._url} shows {foreign[0]!r}, which this world has not; "
                "it serves another data set or another world: train on this one"
            )
        item_ix = np.array([[self._rows[item_id] for item_id in shown]], np.int64)
        keys = visit.user_ix * len(truth.items.ids) + item_ix
        known = np.array([[key in self._clicked for key in keys[0].tolist()]], bool)
        who, mood = np.array([visit.user_ix]), np.array([visit.mood])
        attracted = attraction(truth.users, truth.items, who, item_ix, mood)
        examined = examination(np.array([visit.device]), len(shown))
        rng = np.random.default_rng([truth.seed, 4, self._seed, visit.number])
        reaction = react(attracted, examined, known, rng)
        self._clicked.update(keys[reaction.click].tolist())
        expected = float((attracted * np.where(known, BOREDOM, 1.0) * examined).sum())
        return reaction, expected

    def _post(
        self, client: httpx.Client, path: str, body: Mapping[str, Any], at_us: int
    ) -> dict[str, Any]:
        try:
            answer = client.post(self._url + path, json=body, headers=self._clock.headers(at_us))
        except httpx.HTTPError as error:
            raise Unavailable(
                f"no answer from {self._url}{path}: {error}; start the API with `shortlist serve`"
            ) from error
        if answer.status_code >= 300:
            raise Unavailable(
                f"{self._url}{path} answered {answer.status_code} where 200 or 202 was expected: "
                f"{answer.text[:300]}"
            )
        content: dict[str, Any] = answer.json()
        return content


def _events(
    answer: Mapping[str, Any],
    reaction: Reaction,
    session_id: str,
    clock: VisitorsClock,
    context: Mapping[str, str],
) -> list[dict[str, Any]]:
    """What the user did, within seconds: the API refuses what lies minutes ahead of its clock."""
    events, now = [], clock.now()
    for place in np.flatnonzero(reaction.click[0]).tolist():
        item = answer["items"][place]
        steps: list[tuple[str, bool, int, float | None]] = [
            ("click", True, 2, None),
            ("cart", bool(reaction.cart[0, place]), 4, None),
            ("purchase", bool(reaction.purchase[0, place]), 6, item["price"]),
        ]
        events += [
            {
                "event_id": f"{answer['request_id']}:{place + 1}:{kind}",
                "event_type": kind,
                "user_id": answer["user_id"],
                "item_id": item["item_id"],
                "session_id": session_id,
                "request_id": answer["request_id"],
                "position": place + 1,
                "event_at": (now + clock.pace * timedelta(seconds=place + seconds)).isoformat(),
                "value": value,
                "context": dict(context),
            }
            for kind, did, seconds, value in steps
            if did
        ]
    return events
