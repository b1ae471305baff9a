"""Is what the online store says true? Every user's stream features again, from the log.

The worker's states are not asked. Each user is folded anew by the plain definition, event by event
in the order of the log, from where the worker began with them, and every event that counts is counted
for its item too. Then every column of the stored rows is compared, of users and of items.
"""

import math
import time
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import ExitStack, closing
from functools import partial
from itertools import islice
from typing import Any

from features.errors import ContractError
from features.item_streaming import Touch
from features.store import OnlineStore
from features.streaming import Row, State, empty, fold, judged, parsed, row_of
from features.streaming_fast import decoded
from features.windows import DAY, HOUR
from infra.event_log import EventLog, Raw, RecordsGone, partition_of
from infra.forgotten import ERASED
from infra.workspace import Workspace
from pipelines.stream import open_online, open_seeds
from pipelines.stream_push import Seeds
from pipelines.stream_read import BATCH
from pipelines.stream_state import ITEMS, PartitionState
from pipelines.stream_users import EVENTS
from pipelines.stream_users import ITEMS as ITEM_TOPIC

WHOLE_LOG = "a recount needs the whole log, from offset 0 on; keep it longer"

FLOAT_SLACK = 1e-9
USERS_PER_READ = 500
EXAMPLES = 5

SETTLE_S = 15.0
"""Users who differ are looked at again for this long: events go on coming in meanwhile."""

POLL_S = 0.2


def recount(
    workspace: Workspace,
    events: EventLog,
    positive_types: Collection[str],
    *,
    wait_s: float,
    settle_s: float = SETTLE_S,
) -> dict[str, Any]:
    """Compare the online store with the log.

    Args:
        workspace: its online store, seeds and state folder are read.
        events: the log, from its first record on.
        positive_types: event types that enter the history.
        wait_s: how long the worker may take to come to the log's present end.
        settle_s: how long a difference must last to count.

    Returns:
        users: with an event or a past from before the log; events: folded; repeated: left out;
        late: set aside; refused: no events; wrong: users whose row differs; missing: users without
        a row; items, items_wrong, items_missing: the same of items; lag: records the worker still
        had not folded after the wait; examples: some differences, by column.

    Raises:
        ContractError: the log's beginning is gone.
        FeaturesUnavailable: the online store does not answer.
        OSError: the log does not answer.

    Interview: How do you know that your streaming features are right?
        By a second count that shares no state with the first: it folds the log from its beginning
        and compares every user's stored row, column by column. Kills, repeats, outages and a store
        filled again all end in the same number, or the report names who differs.
        Trade-off: it reads the whole log and holds one partition's users in memory, so it is a
        nightly job or the end of a fault test, and it needs a log that was not cut.
        Shown by: tests/pipelines/test_recount.py::test_a_wrong_and_a_missing_row_are_found
    """
    online = open_online(workspace)
    with ExitStack() as stack:
        seeds = stack.enter_context(closing(open_seeds(workspace)))
        states = [
            stack.enter_context(closing(PartitionState(workspace.state, p, events.partitions)))
            for p in range(events.partitions)
        ]
        item_states = [
            stack.enter_context(
                closing(PartitionState(workspace.state, p, events.partitions, ITEMS))
            )
            for p in range(events.partitions)
        ]
        lag = _wait_for_worker(events, states, item_states, wait_s)
        found: dict[str, Any] = {
            "users": 0, "events": 0, "repeated": 0, "late": 0, "refused": 0, "wrong": 0,
            "missing": 0, "lag": lag, "examples": [],
        }  # fmt: skip
        counts = []
        for state in states:
            counts.append(count := _Count(events, state, seeds, positive_types))
            _add(found, count, _differences(count, online, settle_s))
        items = partial(_items, counts, online, events.partitions)
        return found | _items_told(items, settle_s)


class _Count:
    """One partition, folded plainly."""

    def __init__(
        self,
        events: EventLog,
        state: PartitionState,
        seeds: Seeds,
        positive_types: Collection[str],
    ) -> None:
        self._events, self._worker, self._seeds = events, state, seeds
        self._positive_types, self._offset = positive_types, 0
        self.events = self.repeated = self.late = self.refused = 0
        self.states: dict[str, State] = {}
        self.touched: dict[str, list[Touch]] = defaultdict(list)  # item -> what counted
        for user_id in seeds.users():
            mine = partition_of(user_id, events.partitions) == state.partition
            if mine and (start := self._start(user_id)):
                self.states[user_id] = start
        self.read_on()

    def read_on(self) -> None:
        """Fold up to the log's present end."""
        while records := self._read():
            for _, key, raw in records:
                if raw != ERASED:
                    self._fold(raw, key)
            self._offset = records[-1][0] + 1

    def _read(self) -> list[Raw]:
        partition = self._worker.partition
        try:
            records = self._events.read_raw(EVENTS, partition, self._offset, BATCH)
        except RecordsGone as error:
            raise ContractError(f"partition {partition}: {error}; {WHOLE_LOG}") from error
        if records and not self._offset and (begins := records[0][0]):
            raise ContractError(f"partition {partition} begins at offset {begins}; {WHOLE_LOG}")
        return records

    def _fold(self, raw: bytes, user_id: str) -> None:
        try:
            event = parsed(decoded(raw), user_id)
        except ContractError:
            self.refused += 1  # the worker has set it aside
            return
        before = self.states.get(user_id) or self._start(user_id) or empty()
        verdict = judged(before, event["event_id"], event["event_at"])
        if verdict == "new":
            self.events += 1
            self.states[user_id], _ = fold(before, event, self._positive_types)
            if (kind := event["event_type"]) in ("impression", "click"):
                self.touched[event["item_id"]].append((event["event_at"], kind == "click"))
        elif verdict == "late":
            self.late += 1
        else:
            self.repeated += 1

    def _start(self, user_id: str) -> State | None:
        """What the worker began from, or would begin from."""
        origin = self._worker.origin(user_id)
        if origin is None and not self._worker.has(user_id):
            return self._seeds.state_of(user_id)
        return origin


def _wait_for_worker(
    events: EventLog,
    users: Sequence[PartitionState],
    items: Sequence[PartitionState],
    wait_s: float,
) -> int:
    """Records up to the log's end of now that the worker has not folded; 0 when it is done."""
    ends = [events.end_offset(EVENTS, state.partition) for state in users]
    until = time.monotonic() + wait_s
    while True:
        lag = sum(max(end - s.next_offset, 0) for end, s in zip(ends, users, strict=True))
        if time.monotonic() >= until or (not lag and _is_done(events, users, items)):
            return lag
        time.sleep(POLL_S)


def _is_done(
    events: EventLog, users: Sequence[PartitionState], items: Sequence[PartitionState]
) -> bool:
    """Whether everything is sent on, folded by the second stage too, and pushed."""
    return not any(s.outbox(1) or s.unpushed(1) for s in users) and not any(
        events.end_offset(ITEM_TOPIC, s.partition) > s.next_offset or s.unpushed(1) for s in items
    )


def _differences(
    count: _Count, online: OnlineStore, settle_s: float
) -> dict[str, dict[str, Any] | None]:
    """User -> column -> (stored, counted) where they differ; None for a user without a row."""
    found = _compared(count, online, list(count.states))
    until = time.monotonic() + settle_s
    while found and time.monotonic() < until:
        time.sleep(POLL_S)
        count.read_on()
        found = _compared(count, online, list(found))
    return found


def _compared(
    count: _Count, online: OnlineStore, users: Sequence[str]
) -> dict[str, dict[str, Any] | None]:
    found: dict[str, dict[str, Any] | None] = {}
    for some in _chunks(users):
        stored = online.read_stream(some)
        for user_id in some:
            if user_id not in stored:
                found[user_id] = None
            elif columns := _unlike(stored[user_id], row_of(count.states[user_id])):
                found[user_id] = columns
    return found


def _items(
    counts: Sequence[_Count], online: OnlineStore, partitions: int
) -> tuple[int, dict[str, dict[str, Any] | None]]:
    """How many items were touched, and those whose row differs from a count of what touched them."""
    touched: dict[str, list[Touch]] = defaultdict(list)
    for count in counts:
        count.read_on()
        for item_id, some in count.touched.items():
            touched[item_id] += some
    watermarks: dict[int, int] = defaultdict(int)
    for item_id, some in touched.items():
        place = partition_of(item_id, partitions)
        watermarks[place] = max(watermarks[place], *(at for at, _ in some))
    found: dict[str, dict[str, Any] | None] = {}
    for chunk in _chunks(list(touched)):
        stored = online.read_item_stream(chunk)
        for item_id in chunk:
            counted = _counted(touched[item_id], watermarks[partition_of(item_id, partitions)])
            if item_id not in stored:
                found[item_id] = None
            elif columns := _unlike(stored[item_id], counted):
                found[item_id] = columns
    return len(touched), found


def _counted(touches: Sequence[Touch], watermark: int) -> dict[str, int]:
    """The item's row by the definition of its windows; its version is the worker's own."""
    row = {}
    for span, window in (("1h", HOUR), ("24h", DAY)):
        last = watermark // window.step_us
        inside = [c for at, c in touches if last - window.steps < at // window.step_us <= last]
        row[f"item_impressions_{span}"] = inside.count(False)
        row[f"item_clicks_{span}"] = inside.count(True)
    return row


def _items_told(
    look: Callable[[], tuple[int, dict[str, dict[str, Any] | None]]], settle_s: float
) -> dict[str, Any]:
    items, found = look()
    until = time.monotonic() + settle_s
    while found and time.monotonic() < until:
        time.sleep(POLL_S)
        items, found = look()
    missing = sum(columns is None for columns in found.values())
    return {
        "items": items, "items_wrong": len(found) - missing, "items_missing": missing,
        "item_examples": _told(found, EXAMPLES),
    }  # fmt: skip


def _unlike(stored: Row, counted: Row) -> dict[str, Any]:
    """Columns that differ; an empty list is stored as no value."""
    return {
        name: (stored.get(name), value)
        for name, value in counted.items()
        if not _is_same(stored.get(name, []), value)
    }


def _is_same(stored: Any, counted: Any) -> bool:
    if isinstance(counted, float):
        return isinstance(stored, float) and math.isclose(
            stored, counted, rel_tol=FLOAT_SLACK, abs_tol=FLOAT_SLACK
        )
    return bool(stored == counted)


def _add(
    found: dict[str, Any], count: _Count, differences: dict[str, dict[str, Any] | None]
) -> None:
    missing = sum(columns is None for columns in differences.values())
    found["users"] += len(count.states)
    found["events"] += count.events
    found["repeated"] += count.repeated
    found["late"] += count.late
    found["refused"] += count.refused
    found["missing"] += missing
    found["wrong"] += len(differences) - missing
    found["examples"] += _told(differences, EXAMPLES - len(found["examples"]))


def _told(differences: dict[str, dict[str, Any] | None], limit: int) -> list[dict[str, Any]]:
    return [
        {
            "id": key,
            "columns": {n: f"{s!r}, counted {c!r}" for n, (s, c) in (columns or {}).items()},
        }
        for key, columns in islice(differences.items(), limit)
    ]


def _chunks(users: Sequence[str]) -> Iterator[list[str]]:
    for start in range(0, len(users), USERS_PER_READ):
        yield list(users[start : start + USERS_PER_READ])
