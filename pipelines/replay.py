"""The stream's online rows from the log alone, or from the lake alone: no worker's state is folded on.

    log     partition by partition, each from its first record; a user begins where the worker began
    lake    every event in order of arrival, those from before the log and those of the log alike

Both fold as the worker does and push absolute rows with the versions that the fold gives, so the
worker may go on meanwhile. Users end in equal rows. Items too, but for the first day of a log:
what was shown before it is in the lake only.
"""

from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import closing

from features.errors import ContractError
from features.item_streaming import ItemState, Touch, fold_item, item_row
from features.store import OnlineStore
from features.streaming import Row, State, empty, row_of
from features.streaming_fast import Event, checked, fold_run
from infra.event_log import EventLog, Raw, RecordsGone, partition_of
from infra.workspace import Workspace
from pipelines.lake import read_events
from pipelines.stream import open_seeds
from pipelines.stream_history import COLUMNS, in_order_of_arrival
from pipelines.stream_push import ROWS_PER_PUSH, Seeds
from pipelines.stream_read import BATCH
from pipelines.stream_state import PartitionState
from pipelines.stream_users import EVENTS

TOUCHES_TOGETHER = 100_000
"""An item's windows are copied once per fold: the rarer, the faster, and the more memory."""

Start = Callable[[str], State | None]
"""The state that a user begins from; None = with nothing."""


def from_log(
    workspace: Workspace, online: OnlineStore, log: EventLog, positive_types: Collection[str]
) -> int:
    """Push every row that the log makes; how many were newer than what is stored.

    Args:
        workspace: its seeds are read, and from which of them the worker began, if it did.
        online: is written.
        log: from its first record on; one partition's users are in memory at a time.
        positive_types: event types that enter the history.

    Raises:
        ContractError: the log's beginning is gone.
        OSError: the log does not answer.
        FeaturesUnavailable: the store does not answer; repeating it is safe.
    """
    items, written = _Items(log.partitions), 0
    with closing(open_seeds(workspace)) as seeds:
        for partition in range(log.partitions):
            with closing(PartitionState(workspace.state, partition, log.partitions)) as state:
                users = _Users(positive_types, _start_of(state, seeds))
                for records in _records(log, partition):
                    items.add(users.add(checked(records).runs))
            written += _push(online, "user_stream", users.states, row_of)
    return written + _push(online, "item_stream", items.settled(), item_row)


def from_lake(
    workspace: Workspace, online: OnlineStore, partitions: int, positive_types: Collection[str]
) -> int:
    """As `from_log`, of every event that the lake holds.

    Args:
        workspace: its lake is read.
        online: is written.
        partitions: of the log: items of one partition stand at one watermark.
        positive_types: event types that enter the history.

    Raises:
        ContractError: the lake is empty.
        FeaturesUnavailable: the store does not answer; repeating it is safe.

    Interview: Kappa or lambda: do you rebuild from the log or from the lake?
        From either, by the same fold, and a test holds the two equal. The log is the shorter way
        while it is kept whole; the lake is what is left when retention has cut it, and it also
        holds what was there before the log. What makes them agree is that the lake keeps when each
        event arrived, so it can be folded in the order in which the worker met it.
        Trade-off: order of arrival is known to the microsecond of one clock only; events of a user
        that share it may fold in another order, and the last of equal moments may differ.
        Shown by: tests/pipelines/test_replay.py::test_the_log_and_the_lake_rebuild_the_same_rows
    """
    users, items = _Users(positive_types, lambda _: None), _Items(partitions)
    events = read_events(workspace.lake, columns=COLUMNS)
    for user_id, _, event in in_order_of_arrival(events):
        items.add(users.add({user_id: [event]}))
    written = _push(online, "user_stream", users.states, row_of)
    return written + _push(online, "item_stream", items.settled(), item_row)


class _Users:
    """States of users, folded on."""

    def __init__(self, positive_types: Collection[str], start: Start) -> None:
        self.states: dict[str, State] = {}
        self._positive_types, self._start = positive_types, start

    def add(self, runs: Mapping[str, Sequence[Event]]) -> list[Event]:
        """Fold events by user; those that were new."""
        accepted: list[Event] = []
        for user_id, run in runs.items():
            if (state := self.states.get(user_id)) is None:
                state = self._start(user_id) or empty()
            new, _ = fold_run(state, run, self._positive_types)
            if new:
                self.states[user_id] = state
                accepted += new
        return accepted


class _Items:
    """States of items, and the watermark of each partition of them."""

    def __init__(self, partitions: int) -> None:
        self._states: dict[str, ItemState] = {}
        self._touches: dict[str, list[Touch]] = defaultdict(list)
        self._waiting, self._partitions, self._places = 0, partitions, dict[str, int]()
        self._watermarks: dict[int, int] = defaultdict(int)

    def add(self, accepted: Sequence[Event]) -> None:
        """Note what was done to items; fold it when there is much of it."""
        for _, _, kind, item_id, _, at in accepted:
            if kind in ("impression", "click"):
                self._touches[item_id].append((at, kind == "click"))
        self._waiting += len(accepted)
        if self._waiting > TOUCHES_TOGETHER:
            self._fold(self._touches)

    def settled(self) -> dict[str, ItemState]:
        """All of them at the last watermark of their partition."""
        self._fold({**dict.fromkeys(self._states, ()), **self._touches})
        return self._states

    def _fold(self, touches: Mapping[str, Sequence[Touch]]) -> None:
        for item_id, some in touches.items():
            place = self._place(item_id)
            newest = max((at for at, _ in some), default=0)
            self._watermarks[place] = max(self._watermarks[place], newest)
        for item_id, some in touches.items():
            watermark = self._watermarks[self._place(item_id)]
            self._states[item_id] = fold_item(self._states.get(item_id), some, watermark)
        self._touches.clear()
        self._waiting = 0

    def _place(self, item_id: str) -> int:
        if (place := self._places.get(item_id)) is None:
            place = self._places[item_id] = partition_of(item_id, self._partitions)
        return place


def _start_of(state: PartitionState, seeds: Seeds) -> Start:
    """Where the worker began with a user, or would begin; users without either begin empty."""

    def start(user_id: str) -> State | None:
        origin = state.origin(user_id)
        if origin is None and not state.has(user_id):
            return seeds.state_of(user_id)
        return origin

    return start


def _records(log: EventLog, partition: int) -> Iterator[Sequence[Raw]]:
    offset = 0
    try:
        while records := log.read_raw(EVENTS, partition, offset, BATCH):
            yield records
            offset = records[-1][0] + 1
    except RecordsGone as error:
        raise ContractError(
            f"partition {partition}: {error}; a replay needs the whole log: rebuild from the "
            "worker's states or from the lake"
        ) from error


def _push(
    online: OnlineStore, view: str, states: Mapping[str, State], made: Callable[[State], Row]
) -> int:
    names = list(states)
    return sum(
        online.push(view, {name: made(states[name]) for name in names[at : at + ROWS_PER_PUSH]})
        for at in range(0, len(names), ROWS_PER_PUSH)
    )
