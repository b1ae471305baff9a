"""The population visits a running API in real time, until told to stop, whatever becomes of the API.

Visits are one Poisson process: `rate` slates a second in all, each by a user drawn by activity, who
goes on with the session of before or begins one with an intent of its own. Nobody waits for an answer
before somebody else comes: what arrives is the world's doing, not the API's.

When the API is away people stop coming and look again now and then; they come back when it is.
"""

import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import httpx
import numpy as np
from tenacity import RetryError, Retrying, retry_if_result, sleep_using_event, stop_when_event_set
from tenacity.wait import wait_exponential_jitter

from features.errors import ContractError, Unavailable
from pipelines.steps import console
from pipelines.world.crowd import Crowd, RealTime, Visit
from pipelines.world.generate import World

WORKERS = 8
WAITING = 64
"""Visits under way at most. Beyond it the API is so slow that who comes, turns round and leaves."""

SESSION_ENDS_S = 1800.0
"""Who comes back later than this has another intent."""

TELL_EVERY_S, SAVE_EVERY_S = 10.0, 60.0

AWAY_AFTER = 3
"""Failures in a row after which people stop coming until the API says that it is ready."""

LOOK_AGAIN_S, LOOK_AGAIN_MAX_S = 0.5, 10.0
PROBE_TIMEOUT_S = 2.0


@dataclass(slots=True)
class Tally:
    """What happened; all methods may be called from any thread."""

    slates: int = 0
    clicks: int = 0
    skipped: int = 0
    """Visits that were not made because too many were under way."""

    rungs: Counter[int] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)
    failures_in_a_row: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    trips: int = 0
    """Times that people stayed away, since the last slate."""

    def served(self, row: dict[str, Any]) -> None:
        """A slate and the reaction to it."""
        with self._lock:
            self.slates += 1
            self.clicks += row["clicks"]
            self.rungs[row["rung"]] += 1
            self.failures_in_a_row = self.trips = 0

    def failed(self, reason: str) -> None:
        """A visit that ended without one."""
        with self._lock:
            self.errors[reason] += 1
            self.failures_in_a_row += 1

    def told(self, since: "Tally", seconds: float) -> str:
        """One line about what came since an earlier copy."""
        slates, clicks = self.slates - since.slates, self.clicks - since.clicks
        rungs = self.rungs - since.rungs
        shares = " ".join(f"{rung}: {n / slates:.0%}" for rung, n in sorted(rungs.items()))
        errors = (self.errors - since.errors).total()
        latest = f" ({next(reversed(self.errors))})" if errors else ""
        return (
            f"{slates} slates ({slates / seconds:.1f}/s), {clicks / max(slates, 1):.2f} clicks a "
            f"slate, rungs {shares or '–'}, {errors} errors{latest}"
        )

    def copy(self) -> "Tally":
        """As it is now."""
        with self._lock:
            return Tally(
                self.slates, self.clicks, self.skipped, self.rungs.copy(), self.errors.copy()
            )


@dataclass(frozen=True, slots=True)
class Arrival:
    """Somebody comes."""

    after_s: float  # since the one before
    user_ix: int
    session: int
    intent: int


def arrivals(world: World, rate: float, seed: int) -> Iterator[Arrival]:
    """Who comes when, without an end.

    Args:
        world: whose users; those of the segment that nobody has seen yet stay away.
        rate: slates per second, of all users together.
        seed: of the process.
    """
    users = world.truth.users
    rng = np.random.default_rng([world.truth.seed, 5, seed])
    pages_mean, taste = world.truth.config.pages_mean, users.taste
    weights = users.activity * (users.segment == 0)
    weights = weights / weights.sum()
    latest: dict[int, tuple[float, int, int]] = {}  # user -> at (s), session, intent
    at, sessions = 0.0, 0
    while True:
        gap = float(rng.exponential(1 / rate))
        at += gap
        user_ix = int(rng.choice(len(weights), p=weights))
        before, session, intent = latest.get(user_ix, (-np.inf, 0, 0))
        goes_on = rng.random() < 1 - 1 / pages_mean
        if not goes_on or at - before > SESSION_ENDS_S:
            sessions += 1
            session = sessions
            liked = taste[user_ix] / taste[user_ix].sum()
            intent = int(rng.choice(len(liked), p=liked))
        latest[user_ix] = (at, session, intent)
        yield Arrival(gap, user_ix, session, intent)


def live(
    world: World,
    url: str,
    *,
    rate: float,
    seed: int,
    stop: threading.Event,
    seconds: float | None = None,
) -> Tally:
    """Let the population use the API until `stop` is set.

    Args:
        world: whose users visit; what they click is remembered in its truth, now and then and at
            the end.
        url: where the API listens, without a path.
        rate: slates per second.
        seed: of who comes, and of every reaction given the list shown.
        stop: ends it; requests under way are finished, who waits for a turn is sent away.
        seconds: end after this long, counted from the API's first readiness; None = never.

    Returns:
        What happened in all.

    Raises:
        ContractError: the API shows an item that this world has not, or the rate is not positive.

    Interview: Your simulated users wait for each answer before they ask again. What do you miss?
        The slow hour: when the API takes five seconds, such users ask less, and the load drops
        just when it should pile up. Here people come by a clock of their own; a slow API meets
        more visits under way, as it would in life, up to a bound at which they turn round.
        Trade-off: a bound must exist, and visits beyond it are counted, not made.
        Shown by: tests/pipelines/test_world_live.py::test_people_come_by_their_own_clock
    """
    if rate <= 0:
        raise ContractError(f"rate is {rate}, expected slates per second above 0, such as 1.5")
    url = url.rstrip("/")
    crowd, ended = Crowd(world, url, seed, RealTime(), WORKERS), threading.Event()
    street = _Street(world, crowd, url, seed)
    teller = threading.Thread(target=_tell, args=(street.tally, crowd, ended), daemon=True)
    try:
        if _wait_until_ready(url, stop):
            teller.start()
            if seconds is not None:
                ending = threading.Timer(seconds, stop.set)
                ending.daemon = True  # a signal may end us before
                ending.start()
            street.run(arrivals(world, rate, seed), stop)
    finally:
        ended.set()
        _save(crowd)
        crowd.leave()
    return street.tally


class _Street:
    """Visits under way: started at their time, counted at their end."""

    def __init__(self, world: World, crowd: Crowd, url: str, seed: int) -> None:
        self._users, self._crowd, self._url = world.truth.users, crowd, url
        self._prefix = f"live{seed}-{datetime.now(UTC):%Y%m%dT%H%M%S}"
        self.tally = Tally()
        self._room = threading.BoundedSemaphore(WAITING)
        self._latest: dict[int, threading.Event] = {}  # user -> the end of their last visit
        self._foreign: ContractError | None = None

    def run(self, coming: Iterator[Arrival], stop: threading.Event) -> None:
        """Until `stop` is set."""
        due = time.monotonic()
        pool = ThreadPoolExecutor(WORKERS)
        try:
            for number, arrival in enumerate(coming):
                due += arrival.after_s
                if stop.wait(max(due - time.monotonic(), 0)):
                    return
                if self._foreign is not None:
                    raise self._foreign
                self._come(pool, number, arrival)
                if self.tally.failures_in_a_row >= AWAY_AFTER:
                    self._stay_away(stop)
                    due = time.monotonic()  # who would have come meanwhile, did not
        finally:  # in order of arrival, so nobody who goes on waits for somebody who was sent away
            pool.shutdown(cancel_futures=True)

    def _come(self, pool: ThreadPoolExecutor, number: int, arrival: Arrival) -> None:
        if not self._room.acquire(blocking=False):
            self.tally.skipped += 1
            return
        user_ix = arrival.user_ix
        visit = Visit(
            number,
            user_ix,
            at_us=0,  # real time asks no clock to move
            session_id=f"{self._prefix}-s{arrival.session}",
            device=str(self._users.device[user_ix]),
            intent=arrival.intent,
            session=arrival.session,
            after=self._latest.get(user_ix),
        )
        self._latest[user_ix] = visit.done
        pool.submit(self._meet, visit)

    def _meet(self, visit: Visit) -> None:
        try:
            if (row := self._crowd.meet(visit)) is not None:  # None: given up on this session
                self.tally.served(row)
        except Unavailable as error:
            self.tally.failed(str(error)[:160])
        except ContractError as error:  # another world's items: waiting will not mend that
            self._foreign = error
        except Exception as error:  # an answer that is none; the next visit may fare better
            self.tally.failed(f"{type(error).__name__}: {error}"[:160])
        finally:
            self._room.release()

    def _stay_away(self, stop: threading.Event) -> None:
        """Until the API is ready again; longer each time that it only said so."""
        self.tally.trips += 1
        if not stop.wait(min(LOOK_AGAIN_S * 2**self.tally.trips, LOOK_AGAIN_MAX_S)):
            _wait_until_ready(self._url, stop)
        self.tally.failures_in_a_row = 0


def _wait_until_ready(url: str, stop: threading.Event) -> bool:
    """Ask until the API is ready; False when `stop` came first."""
    if _is_ready(url):
        return True
    console.print(f"waiting for {url} to be ready", soft_wrap=True)
    asking = Retrying(
        retry=retry_if_result(lambda ready: not ready),
        wait=wait_exponential_jitter(LOOK_AGAIN_S, LOOK_AGAIN_MAX_S),
        sleep=sleep_using_event(stop),
        stop=stop_when_event_set(stop),
    )
    try:
        asking(_is_ready, url)
    except RetryError:
        return False
    console.print(f"{url} is ready", soft_wrap=True)
    return True


def _is_ready(url: str) -> bool:
    try:
        answer = httpx.get(f"{url}/readyz", timeout=PROBE_TIMEOUT_S, trust_env=False)
    except httpx.HTTPError:
        return False
    return answer.status_code == 200


def _tell(tally: Tally, crowd: Crowd, ended: threading.Event) -> None:
    """A line every TELL_EVERY_S, and what was clicked to the disk every SAVE_EVERY_S."""
    before, since = tally.copy(), time.monotonic()
    saved = since
    while not ended.wait(TELL_EVERY_S):
        now = time.monotonic()
        line = tally.told(before, now - since)
        console.print(f"{datetime.now(UTC):%H:%M:%S}  {line}", soft_wrap=True)
        before, since = tally.copy(), now
        if now - saved >= SAVE_EVERY_S:
            saved = now
            _save(crowd)


def _save(crowd: Crowd) -> None:
    try:
        crowd.remember()
    except OSError as error:  # the visits matter more than their memory
        console.print(f"what was clicked is not saved: {error}", soft_wrap=True)
