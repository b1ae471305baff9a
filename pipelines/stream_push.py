"""Committed states -> online store, for as long as it takes.

The online store is a view of the log that may be lost: the rows in it can be made again from the
states, and the states remember which of theirs are not there yet. So a store that is away delays
rows and nothing else, and one that comes back without them is filled again.
"""

import json
import logging
import sqlite3
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from prometheus_client import Counter, Histogram

from features.errors import FeaturesUnavailable
from features.store import OnlineStore
from features.streaming import Row, State, upgraded
from infra.event_log import partition_of
from monitoring.stream_metrics import StreamMetrics
from pipelines.stream_state import PartitionState

ROWS_PER_PUSH = 500
"""Rows under one lock of the store: a tenth of a second."""

CHECK_EVERY_S = 2.0
CHECKED_LAST, CHECKED_ROWS = 20, 50
"""Rows looked at in one check: the last that were pushed, and the next ones of each partition."""

REFILL_EVERY_S = 30.0
"""A store that loses rows all the time (too little memory) is not filled more often than this."""

PAUSE_FIRST_S, PAUSE_MAX_S = 0.1, 5.0

log = logging.getLogger(__name__)


class Pause:
    """How long to leave a server alone after it failed: doubling, up to a cap."""

    def __init__(self, server: str, metrics: StreamMetrics) -> None:
        self._server, self._metrics = server, metrics
        self._seconds, self._until = 0.0, 0.0

    @property
    def is_over(self) -> bool:
        """Whether the server may be asked."""
        return time.monotonic() >= self._until

    def begin(self, error: Exception) -> None:
        """The server did not answer."""
        self._metrics.failures.labels(self._server).inc()
        if not self._seconds:
            log.warning("the %s does not answer, trying again: %s", self._server, error)
        self._seconds = min(max(2 * self._seconds, PAUSE_FIRST_S), PAUSE_MAX_S)
        self._until = time.monotonic() + self._seconds

    def end(self) -> None:
        """The server answered."""
        if self._seconds:
            log.warning("the %s answers again", self._server)
        self._seconds = self._until = 0.0


class Seeds:
    """States that materialize left for users whom the worker has not met; maybe none."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db

    def state_of(self, user_id: str) -> State | None:
        """The state to start this user from."""
        row = self._db.execute("SELECT state FROM states WHERE user_id = ?", (user_id,)).fetchone()
        return None if row is None else upgraded(json.loads(row[0]))

    def users(self) -> Iterable[str]:
        """Everyone who has one."""
        for (user_id,) in self._db.execute("SELECT user_id FROM states ORDER BY user_id"):
            yield user_id

    def after(self, user_id: str, limit: int) -> dict[str, State]:
        """The next ones in the order of the ids."""
        rows = self._db.execute(
            "SELECT user_id, state FROM states WHERE user_id > ? ORDER BY user_id LIMIT ?",
            (user_id, limit),
        )
        return {user: json.loads(state) for user, state in rows}

    def close(self) -> None:
        """Close the file."""
        self._db.close()


@dataclass(frozen=True, slots=True)
class Pushed:
    """What is pushed where."""

    view: str
    row_of: Callable[[State], Row]
    rows: Counter
    delay_seconds: Histogram


class Pusher:
    """Pushes what the partitions of one worker have to push, of one view.

    Interview: Redis was flushed at night. How do the features come back?
        They never only lived there. The worker's states are committed beside the log's offsets, so
        it reads back a few rows every two seconds: the last it pushed, and the next ones in a
        round through all users. Where one is gone or older than it should be, the store has lost
        data, and every state, also of users known only from before the log, is pushed again.
        Trade-off: hundreds of small reads a minute, and a store that lost one row gets all of
        them; asking Redis when it started would be cheaper and would not see a FLUSHALL.
        Shown by: tests/pipelines/test_stream_redis.py::test_an_emptied_store_is_filled_again
    """

    def __init__(
        self,
        online: OnlineStore,
        pushed: Pushed,
        metrics: StreamMetrics,
        partitions: int,
        seeds: Seeds | None = None,
    ) -> None:
        """Args: seeds = states of who has none in any partition; None where there are none."""
        self._online, self._pushed, self._metrics = online, pushed, metrics
        self._seeds, self._partitions = seeds, partitions
        self._states: dict[int, PartitionState] = {}
        self._pause = Pause("store", metrics)
        self._arrived: dict[str, int] = {}  # user -> arrival of its oldest event that is not pushed
        self._last: OrderedDict[str, int] = OrderedDict()  # user -> version, newest push last
        self._places: dict[int, str] = {}  # partition -> user up to whom the round has come
        self._next_check, self._next_refill = 0.0, 0.0

    def attach(self, state: PartitionState) -> None:
        """Push for this partition too."""
        self._states[state.partition] = state

    def detach(self, partition: int) -> None:
        """This partition is another worker's from now on."""
        self._states.pop(partition, None)
        self._last.clear()

    def arrived(self, first: Mapping[str, int]) -> None:
        """Note when events came in (µs since 1970), for the delay until their rows are pushed."""
        for user_id, at in first.items():
            self._arrived.setdefault(user_id, at)

    def push(self, state: PartitionState, changed: Mapping[str, State] | None = None) -> bool:
        """Push some of what is committed and not pushed, those just changed first.

        A store that does not answer gets it later; says whether anything was pushed.
        """
        changed = changed or {}
        if not self._pause.is_over:
            state.has_backlog |= bool(changed)
            return False
        others = state.unpushed(ROWS_PER_PUSH) if state.has_backlog else []
        others = [user_id for user_id in others if user_id not in changed]
        state.has_backlog = bool(others)
        if not changed and not others:
            return False
        known = {**changed, **self._known(state, others)}
        rows = {user_id: self._pushed.row_of(found) for user_id, found in known.items()}
        try:
            self._online.push(self._pushed.view, rows)
        except FeaturesUnavailable as error:
            self._pause.begin(error)
            state.has_backlog = True
            return False
        self._pause.end()
        state.mark_pushed([*changed, *others])
        self._note(rows)
        return True

    def check(self) -> None:
        """Every CHECK_EVERY_S: look whether the store still holds what was pushed, else refill."""
        now = time.monotonic()
        if now < self._next_check or not self._pause.is_over:
            return
        self._next_check = now + CHECK_EVERY_S
        expected = {**self._next_rows(), **self._last}
        try:
            stored = self._online.read_versions(list(expected), self._pushed.view)
        except FeaturesUnavailable as error:
            self._pause.begin(error)
            return
        self._pause.end()
        lost = sum(stored[user] < version for user, version in expected.items())
        if lost and now >= self._next_refill:
            self._next_refill = now + REFILL_EVERY_S
            self._refill(lost, len(expected))

    def _refill(self, lost: int, looked_at: int) -> None:
        log.warning(
            "the online store lost rows (%d of %d looked at): every state is pushed again",
            lost, looked_at,
        )  # fmt: skip
        self._metrics.refills.inc()
        self._last.clear()
        theirs: dict[int, list[str]] = {partition: [] for partition in self._states}
        for user_id in self._seeds.users() if self._seeds else ():
            if (partition := partition_of(user_id, self._partitions)) in theirs:
                theirs[partition].append(user_id)
        for partition, state in self._states.items():
            state.mark_all(theirs[partition])

    def _known(self, state: PartitionState, user_ids: Sequence[str]) -> dict[str, State]:
        """States by user; of users without one the seed they would start from."""
        known = {user_id: upgraded(found) for user_id, found in state.load(user_ids).items()}
        for user_id in user_ids if self._seeds else ():
            assert self._seeds is not None
            if user_id not in known and (seed := self._seeds.state_of(user_id)):
                known[user_id] = seed
        return known

    def _note(self, rows: Mapping[str, Row]) -> None:
        self._pushed.rows.inc(len(rows))
        now_us = time.time_ns() // 1000
        for user_id in rows:
            if arrived := self._arrived.pop(user_id, None):
                self._pushed.delay_seconds.observe(max((now_us - arrived) / 1e6, 0.0))
        for user_id in list(rows)[-CHECKED_LAST:]:
            self._last[user_id] = rows[user_id]["version"]
            self._last.move_to_end(user_id)
        while len(self._last) > CHECKED_LAST:
            self._last.popitem(last=False)

    def _next_rows(self) -> dict[str, int]:
        """User -> version that the store must hold, of the next users of each partition's round."""
        found: dict[str, int] = {}
        for partition, state in self._states.items():
            some = state.after(self._places.get(partition, ""), CHECKED_ROWS)
            self._places[partition] = max(some, default="")
            found |= {u: s["version"] for u, s in some.items() if not state.is_waiting(u)}
        if self._seeds is None:
            return found
        some = self._seeds.after(self._places.get(SEEDED, ""), CHECKED_ROWS)
        self._places[SEEDED] = max(some, default="")
        for user_id, seed in some.items():
            owner = self._states.get(partition_of(user_id, self._partitions))
            if owner and not owner.has(user_id) and not owner.is_waiting(user_id):
                found[user_id] = seed["version"]
        return found


SEEDED = -1
"""Stands for a partition in the round: users who have a seed and no state."""
