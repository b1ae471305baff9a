"""The visitors' side of the wire: their connections, their clock, and what they remember.

In a simulated day workers share one `Frontier`: the header X-Simulated-Now is the latest visit that
anybody has begun, so it never falls, and an event is stamped after the list it answers even when a
neighbour's visit has moved the server's clock on meanwhile. Live visitors have `RealTime`: no header,
and events at the moment at which they are sent.

What follows a slate within minutes is sent at once; purchases of next week, events of phones that
were offline, and retries wait in `Later` until their time has come.
"""

import heapq
import json
import queue
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

import httpx
import numpy as np
import pandas as pd
import pyarrow as pa

from features.errors import ContractError, Unavailable
from pipelines.world import truth as store
from pipelines.world.behaviour import Reaction, comes, experience, react
from pipelines.world.draws import key
from pipelines.world.generate import World
from pipelines.world.happenings import happenings, table
from pipelines.world.history import latencies, responses
from pipelines.world.planning import Visits
from pipelines.world.population import DAY_US, to_us
from pipelines.world.state import begin_day

K = 10
TIMEOUT_S = 10.0
"""An answer that takes longer comes from a broken server, not from a slow one."""

SOON = timedelta(minutes=3)
"""What happens within it is sent at once: the API refuses what lies minutes ahead of its clock."""

AT_ONCE = 200
"""Waiting events in one request."""

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Visit:
    """One slate about to be asked for. A user's visits form a chain: each waits for the one before."""

    number: int
    user_ix: int
    at_us: int
    """Simulated moment; 0 = whatever the clock says."""

    session_id: str
    device: str
    intent: int
    after: threading.Event | None
    session: int = -1
    luck: int | None = None
    """Key of the draws; None = by number."""

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


class Later:
    """Events that have not arrived yet, by the moment at which they will."""

    def __init__(self, pending: pd.DataFrame) -> None:
        self._lock = threading.Lock()
        self._heap: list[tuple[int, str, dict[str, Any]]] = []
        if len(pending):
            for event in pending.to_dict("records"):
                self.put(posted(event), int(event["seen_at"].value // 1000))

    def put(self, event: dict[str, Any], seen_us: int) -> None:
        """Keep an event until `seen_us`."""
        with self._lock:
            heapq.heappush(self._heap, (seen_us, event["event_id"] + event["event_at"], event))

    def due(self, at_us: int) -> list[dict[str, Any]]:
        """Take out what has arrived by now, oldest first, at most AT_ONCE."""
        with self._lock:
            arrived: list[dict[str, Any]] = []
            while self._heap and self._heap[0][0] <= at_us and len(arrived) < AT_ONCE:
                arrived.append(heapq.heappop(self._heap)[2])
            return arrived

    def table(self) -> pd.DataFrame:
        """All that is left, for the truth's `pending`."""
        with self._lock:
            rest = sorted(self._heap, key=lambda entry: entry[:2])
        rows = [
            {
                **event,
                "context": json.dumps(event["context"]),
                "event_at": pd.Timestamp(event["event_at"]),
                "seen_at": pd.Timestamp(seen_us, unit="us", tz="UTC"),
            }
            for seen_us, _, event in rest
        ]
        return pd.DataFrame(rows)


class Crowd:
    """Who visits: shared by all workers; every method may be called from any of them.

    Users are independent of each other and a user's visits wait for each other, so their rows of
    the state need no lock.
    """

    def __init__(
        self, world: World, url: str, seed: int, clock: VisitorsClock, workers: int
    ) -> None:
        self._world, self._url, self._seed, self._clock = world, url, seed, clock
        self._state = store.load_state(world.home)
        self._later = Later(store.load_pending(world.home))
        self._lock = threading.Lock()
        self._told: list[pa.Table] = []
        self._saved = 0
        self._rows = {str(item_id): ix for ix, item_id in enumerate(world.truth.items.ids)}
        self._clients: queue.SimpleQueue[httpx.Client] = queue.SimpleQueue()
        for _ in range(workers):
            # trust_env off: a proxy of the environment has no business on loopback.
            self._clients.put(httpx.Client(timeout=TIMEOUT_S, trust_env=False))

    @property
    def state(self) -> store.State:
        """What users remember so far."""
        return self._state

    def dawn(self, day: int) -> None:
        """Let the nights up to a morning (days since 1970) pass; nothing if they have."""
        with self._lock:
            if day > self._state.day:
                begin_day(self._world.truth, self._state, day)

    def meet(self, visit: Visit) -> dict[str, Any] | None:
        """One visit from request to reaction; also says when it is over, however it ended.

        Returns:
            What became of the slate; None when the user had given up on the session before.
        """
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
        """Save what users remember, what has not arrived yet, and the truth of the slates since."""
        with self._lock:
            told, self._told = self._told, []
            store.save_state(self._state, self._world.home)
        store.save_pending(self._later.table(), self._world.home)
        if told:
            whole = pa.concat_tables(told).sort_by([("at", "ascending"), ("user_id", "ascending")])
            day, name = self._clock.now().date(), f"visit-{self._seed}-{self._saved:04d}"
            store.save_responses(whole, day, name, self._world.home)
            self._saved += 1

    @contextmanager
    def _client(self) -> Iterator[httpx.Client]:
        client = self._clients.get()
        try:
            yield client
        finally:
            self._clients.put(client)

    def _served(self, client: httpx.Client, visit: Visit) -> dict[str, Any] | None:
        users = self._world.truth.users
        at_us = visit.at_us or to_us(self._clock.now())
        if not visit.at_us:
            self.dawn(at_us // DAY_US)
        visits = self._one(visit, at_us)
        if not comes(self._state, visits)[0]:
            return None
        while events := self._later.due(at_us):
            self._post(client, "/v1/events", {"events": events}, visit.at_us)
        user_id = str(users.ids[visit.user_ix])
        context = {"device": visit.device, "location": str(users.location[visit.user_ix])}
        question = {"user_id": user_id, "k": K, "context": context}
        asked = time.perf_counter()
        answer = self._post(client, "/v1/recommendations", question, visit.at_us)
        waited_ms = 1000 * (time.perf_counter() - asked)
        item_ix = self._known([item["item_id"] for item in answer["items"]])
        # In simulated time a request takes what it takes in the world, not on this machine.
        latency = latencies(self._world.truth, visits) if visit.at_us else waited_ms
        reaction = react(self._world.truth, self._state, visits, item_ix, latency)
        experience(self._world.truth, self._state, visits, item_ix, reaction)
        self._tell(client, visit, visits, item_ix, reaction, answer["request_id"])
        return {
            "user_id": user_id,
            "request_id": answer["request_id"],
            "arm": next(iter(answer["arms"].values()), "full"),
            "rung": answer["rung"],
            "clicks": int(reaction.click.sum()),
            "purchases": int(reaction.purchase.sum()),
            "true_utility": float(reaction.utility.sum()),
        }

    def _one(self, visit: Visit, at_us: int) -> Visits:
        luck = visit.luck
        if luck is None:
            luck = int(key(self._world.truth.seed, self._seed, "visit", visit.number))
        return Visits(
            user_ix=np.array([visit.user_ix]),
            session=np.array([visit.session]),
            page=np.array([0]),
            at_us=np.array([at_us]),
            device=np.array([visit.device]),
            intent=np.array([visit.intent]),
            luck=np.array([luck], np.uint64),
        )

    def _known(self, shown: Sequence[str]) -> np.ndarray:
        """(1, K) rows of the items."""
        foreign = [item_id for item_id in shown if item_id not in self._rows]
        if foreign:
            raise ContractError(
                f"the API at {self._url} shows {foreign[0]!r}, which this world has not; "
                "it serves another data set or another world: train on this one"
            )
        return np.array([[self._rows[item_id] for item_id in shown]], np.int64)

    def _tell(
        self,
        client: httpx.Client,
        visit: Visit,
        visits: Visits,
        item_ix: np.ndarray,
        reaction: Reaction,
        request_id: str,
    ) -> None:
        """Send what happened at once, keep what happens later, and write down the truth."""
        truth = self._world.truth
        told = responses(truth, visits, reaction, [request_id])
        with self._lock:
            self._told.append(told)
        if not reaction.click.any():
            return
        happened = happenings(truth, visits, item_ix, reaction)
        events = table(truth, visits, item_ix, happened, [request_id]).to_dict("records")
        now, sent = self._clock.now(), dict[str, dict[str, Any]]()
        start = EPOCH + timedelta(microseconds=int(visits.at_us[0]))
        for event in events:
            event["session_id"] = visit.session_id if event["session_id"] else None
            happens, arrives = event["event_at"] - start, event["seen_at"] - start
            is_soon = arrives <= SOON and event["event_id"] not in sent
            # Neighbours may have moved the clock on: what follows the list is stamped after it.
            event["event_at"] = now + (self._clock.pace if is_soon else 1.0) * happens
            if is_soon:
                sent[event["event_id"]] = posted(event)
            else:
                self._later.put(posted(event), to_us(now + arrives))
        if sent:
            self._post(client, "/v1/events", {"events": list(sent.values())}, visit.at_us)

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


def posted(event: Mapping[Any, Any]) -> dict[str, Any]:
    """A row of the event table as the API takes it."""
    value, context = event["value"], event["context"]
    return {
        "event_id": event["event_id"],
        "event_type": event["event_type"],
        "user_id": event["user_id"],
        "item_id": event["item_id"],
        "session_id": event["session_id"],
        "request_id": event["request_id"],
        "position": int(event["position"]),
        "event_at": event["event_at"].isoformat(),
        "value": None if value is None or np.isnan(value) else float(value),
        "context": json.loads(context) if isinstance(context, str) else context,
    }
