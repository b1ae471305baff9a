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
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

from features.errors import FeaturesUnavailable
from features.store import OnlineStore, stream_frame
from features.streaming import State, row_of
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
        return None if row is None else json.loads(row[0])

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


class Pusher:
    """Pushes what the partitions of one worker have to push.

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
        states: Sequence[PartitionState],
        seeds: Seeds,
        partitions: int,
        metrics: StreamMetrics,
    ) -> None:
        self._online, self._seeds, self._metrics = online, seeds, metrics
        self._states, self._partitions = {s.partition: s for s in states}, partitions
        self._pause = Pause("store", metrics)
        self._arrived: dict[str, datetime] = {}  # user -> its oldest event that is not pushed
        self._last: OrderedDict[str, int] = OrderedDict()  # user -> version, newest push last
        self._places: dict[int, str] = {}  # partition -> user up to whom the round has come
        self._next_check, self._next_refill = 0.0, 0.0

    def arrived(self, user_id: str, seen_at: Any) -> None:
        """Note when an event came in, for the delay until its row is pushed."""
        try:
            moment = datetime.fromisoformat(seen_at)
        except (TypeError, ValueError):
            return  # says nothing about arrival; the event counts all the same
        if moment.tzinfo is not None:
            self._arrived.setdefault(user_id, moment)

    def push(self, state: PartitionState, changed: Iterable[str] = ()) -> bool:
        """Push some of what is committed and not pushed, those just changed first.

        A store that does not answer gets it later; says whether anything was pushed.
        """
        if not self._pause.is_over:
            return False
        user_ids = list(dict.fromkeys([*changed, *state.unpushed(ROWS_PER_PUSH)]))
        if not user_ids:
            return False
        rows = {user: row_of(found) for user, found in self._known(state, user_ids).items()}
        try:
            if rows:
                self._online.push_user_stream(stream_frame(rows, datetime.now(UTC)))
        except FeaturesUnavailable as error:
            self._pause.begin(error)
            return False
        self._pause.end()
        state.mark_pushed(user_ids)
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
            stored = self._online.read_versions(list(expected))
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
        for user_id in self._seeds.users():
            if (partition := partition_of(user_id, self._partitions)) in theirs:
                theirs[partition].append(user_id)
        for partition, state in self._states.items():
            state.mark_all(theirs[partition])

    def _known(self, state: PartitionState, user_ids: Sequence[str]) -> dict[str, State]:
        """States by user; of users without one the seed they would start from."""
        known = state.load(user_ids)
        for user_id in user_ids:
            if user_id not in known and (seed := self._seeds.state_of(user_id)):
                known[user_id] = seed
        return known

    def _note(self, rows: dict[str, dict[str, Any]]) -> None:
        self._metrics.pushed.inc(len(rows))
        now = datetime.now(UTC)
        for user_id, row in rows.items():
            if arrived := self._arrived.pop(user_id, None):
                self._metrics.delay_seconds.observe(max((now - arrived).total_seconds(), 0.0))
            self._last[user_id] = row["version"]
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
        some = self._seeds.after(self._places.get(SEEDED, ""), CHECKED_ROWS)
        self._places[SEEDED] = max(some, default="")
        for user_id, seed in some.items():
            owner = self._states.get(partition_of(user_id, self._partitions))
            if owner and not owner.has(user_id) and not owner.is_waiting(user_id):
                found[user_id] = seed["version"]
        return found


SEEDED = -1
"""Stands for a partition in the round: users who have a seed and no state."""
