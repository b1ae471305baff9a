"""The stream worker: events of the log -> state -> online features, within a second.

For each partition it owns, over and over:

    1. read a batch of events from the stored offset
    2. fold them (features/streaming.py)
    3. commit states and the next offset in ONE transaction (pipelines/stream_state.py)
    4. push the changed users' absolute rows to the online store (pipelines/stream_push.py)
    5. forget that they were to push

A crash before 3 repeats the batch from the log; a crash after 3 repeats the push at the next start.
Neither counts an event twice, and neither loses one. A log or a store that is away is asked again
after a pause that grows to a few seconds; each works on without the other.
"""

import json
import logging
import signal
import sqlite3
import threading
import time
from collections.abc import Collection, Sequence
from contextlib import ExitStack, closing
from typing import Any

from prometheus_client import start_http_server
from tenacity import (
    RetryError,
    Retrying,
    retry_if_exception_type,
    sleep_using_event,
    stop_when_event_set,
    wait_exponential,
)

from features.errors import ContractError, FeaturesUnavailable
from features.schema import POSITIVE_TYPES
from features.store import OnlineStore
from features.streaming import State, fold, parsed
from infra.clients import open_feast
from infra.event_log import EventLog, Record, RecordsGone, open_log
from infra.settings import Settings
from infra.workspace import Workspace
from monitoring.stream_metrics import StreamMetrics
from pipelines.lake import read_info
from pipelines.materialize import SEED, SEED_TABLE, apply_views
from pipelines.stream_push import PAUSE_MAX_S, Pause, Pusher, Seeds
from pipelines.stream_state import PartitionState

TOPIC = "events"

BATCH = 500
"""Records folded per transaction: what bounds the memory, however long the backlog."""

LOOK_EVERY_S = 1.0
"""How often the ends of the log are asked for."""

log = logging.getLogger(__name__)


def run(
    workspace: Workspace,
    events: EventLog,
    *,
    partitions: Sequence[int],
    positive_types: Collection[str],
    stop: threading.Event,
    poll_s: float = 0.05,
    metrics: StreamMetrics | None = None,
) -> None:
    """Work until `stop` is set.

    Args:
        workspace: its state folder and online store are written.
        events: the log; topic "events" is read.
        partitions: the partitions that this worker owns; no other worker may own one of them.
        positive_types: event types that enter the history.
        stop: ends the worker between two batches.
        poll_s: pause when there is nothing to read.
        metrics: what it counts; for nobody if None.

    Raises:
        ContractError: the state does not fit the log, records are gone from the log before they
            were read, or another worker owns a partition.
    """
    metrics = metrics or StreamMetrics()
    with ExitStack() as stack:
        online = open_online(workspace)
        seeds = stack.enter_context(closing(open_seeds(workspace)))
        states = []
        for partition in partitions:
            state = PartitionState(workspace.state, partition, events.partitions)
            states.append(stack.enter_context(closing(state)))
        pusher = Pusher(online, states, seeds, events.partitions, metrics)
        reader = _Reader(events, states, seeds, pusher, positive_types, metrics)
        reader.look()
        while not stop.is_set():
            # A list, not a generator: every partition gets its turn, whatever the others had.
            busy = [_turn(reader, pusher, state) for state in states]
            pusher.check()
            reader.look()
            if not any(busy):
                stop.wait(poll_s)


def _turn(reader: "_Reader", pusher: Pusher, state: PartitionState) -> bool:
    """One batch of one partition; says whether there was anything to do."""
    read, changed = reader.fold_next(state)
    return pusher.push(state, changed) or read > 0


class _Reader:
    """The log's side of the worker: batches in order, and how far behind it is."""

    def __init__(
        self,
        events: EventLog,
        states: Sequence[PartitionState],
        seeds: Seeds,
        pusher: Pusher,
        positive_types: Collection[str],
        metrics: StreamMetrics,
    ) -> None:
        self._events, self._states, self._seeds = events, states, seeds
        self._pusher, self._positive_types, self._metrics = pusher, positive_types, metrics
        self._pause = Pause("log", metrics)
        self._next_look, self._is_checked = 0.0, False

    def fold_next(self, state: PartitionState) -> tuple[int, Collection[str]]:
        """Read, fold and commit one batch; how many records it had, and whose state changed.

        Nothing is read before the offsets were once seen to fit the log.

        Raises:
            ContractError: records that were never read are gone, or another worker is at work.
        """
        if not self._is_checked or not self._pause.is_over:
            return 0, ()
        offset = state.next_offset
        try:
            records = self._events.read(TOPIC, state.partition, offset, BATCH)
        except OSError as error:
            self._pause.begin(error)
            return 0, ()
        except RecordsGone as error:  # no pause brings them back
            raise ContractError(
                f"partition {state.partition}: records from offset {offset} on are gone ({error}): "
                "events were lost; keep the log longer, delete the state folder and start again"
            ) from error
        self._pause.end()
        if not records:
            return 0, ()
        changed, refused, origins = fold_batch(records, state, self._seeds, self._positive_types)
        state.commit(offset, records[-1].offset + 1, changed, refused, origins)
        for record in records:
            if record.key in changed and isinstance(record.value, dict):
                self._pusher.arrived(record.key, record.value.get("seen_at"))
        self._metrics.folded.inc(len(records) - len(refused))
        self._metrics.refused.inc(len(refused))
        return len(records), changed

    def look(self) -> None:
        """Every LOOK_EVERY_S: where the log ends, and whether the state still fits it.

        Raises:
            ContractError: the state is ahead of the log.
        """
        if time.monotonic() < self._next_look or not self._pause.is_over:
            return
        self._next_look = time.monotonic() + LOOK_EVERY_S
        try:
            lags = {s.partition: _lag(self._events, s) for s in self._states}
        except OSError as error:
            self._pause.begin(error)
            return
        self._pause.end()
        if not self._is_checked:
            told = " ".join(
                f"{s.partition}@{s.next_offset}/{s.next_offset + lags[s.partition]}"
                for s in self._states
            )
            log.info("stream worker starts: %s", told)
            self._is_checked = True
        for state in self._states:
            self._metrics.lag.labels(state.partition).set(lags[state.partition])
            self._metrics.waiting.labels(state.partition).set(state.waiting())


def fold_batch(
    records: Sequence[Record],
    state: PartitionState,
    seeds: Seeds,
    positive_types: Collection[str],
) -> tuple[dict[str, State], list[tuple[int, str, str]], dict[str, State]]:
    """Fold records in order; a record that is no event is set aside and stops nothing.

    Returns:
        Changed states by user, (offset, reason, record) of what was refused, and the seeds that
        users of this batch began from.
    """
    known: dict[str, Any] = dict(state.load({record.key for record in records}))
    changed: dict[str, State] = {}
    origins: dict[str, State] = {}
    refused = []
    for record in records:
        try:
            event = parsed(record.value, record.key)
        except ContractError as error:
            refused.append((record.offset, str(error), json.dumps(record.value)[:4000]))
            continue
        user_id = record.key
        if user_id not in known:
            known[user_id] = seed = seeds.state_of(user_id)
            if seed is not None:
                origins[user_id] = seed
        known[user_id], row = fold(known[user_id], event, positive_types)
        if row is not None:
            changed[user_id] = known[user_id]
    if refused:
        log.warning("partition %d: %d records refused", state.partition, len(refused))
    return changed, refused, origins


def open_online(workspace: Workspace) -> OnlineStore:
    """The online store; where no feature was ever built, the views are made here."""
    store = open_feast(workspace)
    try:
        return OnlineStore(store)
    except FeaturesUnavailable:
        apply_views(store, workspace.offline)
        return OnlineStore(store)


def open_seeds(workspace: Workspace) -> Seeds:
    """The seeds' file; made, empty, when nothing was ever materialized."""
    workspace.state.mkdir(parents=True, exist_ok=True)
    connection = sqlite3.connect(workspace.state / SEED, timeout=10)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute(SEED_TABLE)
    return Seeds(connection)


def _lag(events: EventLog, state: PartitionState) -> int:
    end, stands = events.end_offset(TOPIC, state.partition), state.next_offset
    if stands > end:
        raise ContractError(
            f"partition {state.partition}: the state stands at offset {stands}, the "
            f"log ends at {end}: the log was replaced; bring it back or delete the state folder"
        )
    return end - stands


def main() -> None:
    """`python -m pipelines.stream`: all partitions of the workspace that the settings name."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s")
    logging.getLogger("kafka").setLevel(logging.ERROR)  # a line per failed attempt; ours says it
    settings = Settings()
    workspace = Workspace.of(settings)
    stop, metrics = threading.Event(), StreamMetrics()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    if settings.metrics_port is not None:
        start_http_server(settings.metrics_port, addr=settings.host, registry=metrics.registry)
    try:
        events = _opened(workspace, settings.partitions, stop, metrics)
    except RetryError:
        return  # told to stop before the log answered
    except ValueError as error:
        raise SystemExit(str(error)) from error
    with closing(events):
        run(
            workspace,
            events,
            partitions=range(settings.partitions),
            positive_types=positive_types_of(workspace),
            stop=stop,
            metrics=metrics,
        )


def positive_types_of(workspace: Workspace) -> Collection[str]:
    """The data set's own, or every kind that may be, where nothing was ingested yet."""
    try:
        return read_info(workspace.lake).positive_types
    except ContractError:
        return POSITIVE_TYPES  # nothing was ingested yet: the events come first


def _opened(
    workspace: Workspace, partitions: int, stop: threading.Event, metrics: StreamMetrics
) -> EventLog:
    """The log, however long it takes to answer.

    Raises:
        RetryError: told to stop meanwhile.
        ValueError: the log has another number of partitions.
    """

    def tell(attempt: object) -> None:
        metrics.failures.labels("log").inc()
        log.warning("the log does not answer, trying again")

    patiently = Retrying(
        retry=retry_if_exception_type(OSError),
        wait=wait_exponential(multiplier=0.2, max=PAUSE_MAX_S),
        stop=stop_when_event_set(stop),
        sleep=sleep_using_event(stop),
        before_sleep=tell,
    )
    return patiently(open_log, workspace, partitions)


if __name__ == "__main__":
    main()
