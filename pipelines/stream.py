"""The stream worker: events of the log -> state -> online features, within a second.

For each partition it owns, over and over, in two stages (stream_users.py, stream_items.py):

    1. read a batch of events from the stored offset
    2. fold them (features/streaming_fast.py)
    3. commit states, the next offset and what is to be sent in ONE transaction (stream_state.py)
    4. send deltas to the owners of the items, and what is no event to the dead letters
    5. push the changed users' absolute rows to the online store (stream_push.py)
    6. forget that they were to send and to push

A crash before 3 repeats the batch from the log; a crash after 3 repeats sending and pushing at the
next start. Neither counts an event twice, and neither loses one. A log or a store that is away is
asked again after a pause that grows to a few seconds; each works on without the other.

Any number of workers share the partitions (stream_owner.py); one that lost a partition and does not
know it yet is refused by the epoch in the partition's file.
"""

import gc
import logging
import signal
import sqlite3
import threading
import time
from collections.abc import Collection
from contextlib import ExitStack, closing

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
from infra.clients import open_feast
from infra.event_log import EventLog, open_log
from infra.settings import Settings
from infra.workspace import Workspace
from monitoring.stream_metrics import StreamMetrics
from pipelines.lake import read_info
from pipelines.materialize import SEED, SEED_TABLE, apply_views
from pipelines.stream_items import ItemStage, item_rows
from pipelines.stream_owner import ByLocks, Owner
from pipelines.stream_push import PAUSE_MAX_S, Pusher, Seeds
from pipelines.stream_read import LogSide
from pipelines.stream_state import ITEMS, USERS, Fenced, PartitionState
from pipelines.stream_users import EVENTS, UserStage, user_rows
from pipelines.stream_users import ITEMS as ITEM_TOPIC

LOOK_EVERY_S = 1.0
"""How often the ends of the log are asked for."""

log = logging.getLogger(__name__)


def run(
    workspace: Workspace,
    events: EventLog,
    *,
    owner: Owner,
    positive_types: Collection[str],
    stop: threading.Event,
    poll_s: float = 0.05,
    metrics: StreamMetrics | None = None,
) -> None:
    """Work until `stop` is set.

    Args:
        workspace: its state folder and online store are written.
        events: the log; topics "events" and "items" are read, "items" and "dead" written.
        owner: says which partitions are this worker's.
        positive_types: event types that enter the history.
        stop: ends the worker between two batches.
        poll_s: pause when there is nothing to read.
        metrics: what it counts; for nobody if None.

    Raises:
        ContractError: the state does not fit the log.
    """
    metrics = metrics or StreamMetrics()
    with ExitStack() as stack:
        seeds = stack.enter_context(closing(open_seeds(workspace)))
        worker = _Worker(workspace, events, seeds, positive_types, metrics)
        stack.callback(worker.close)
        worker.keep(owner.owned())
        worker.look()
        while not stop.is_set():
            worker.keep(owner.owned())
            is_busy = worker.round()
            worker.look()
            if not is_busy:
                stop.wait(poll_s)


class _Worker:
    """Both stages, over the partitions that are ours."""

    def __init__(
        self,
        workspace: Workspace,
        events: EventLog,
        seeds: Seeds,
        positive_types: Collection[str],
        metrics: StreamMetrics,
    ) -> None:
        self._workspace, self._events, self._metrics = workspace, events, metrics
        online, partitions = open_online(workspace), events.partitions
        self._side = LogSide(events, metrics)
        self._user_pusher = Pusher(online, user_rows(metrics), metrics, partitions, seeds)
        self._item_pusher = Pusher(online, item_rows(metrics), metrics, partitions)
        self._users = UserStage(self._side, seeds, self._user_pusher, positive_types)
        self._items = ItemStage(self._side, self._item_pusher)
        self._open: dict[int, tuple[PartitionState, PartitionState]] = {}
        self._checked: set[int] = set()
        self._next_look = 0.0

    def keep(self, owned: Collection[int]) -> None:
        """Let go of what is no longer ours, and take what is."""
        for partition in set(self._open) - set(owned):
            self.let_go(partition)
        for partition in sorted(set(owned) - set(self._open)):
            self._take(partition)

    def round(self) -> bool:
        """One batch of each stage and partition; says whether there was anything to do.

        Nothing is read of a partition before its offsets were once seen to fit the log.
        """
        is_busy = False
        # Who is furthest behind comes first: a worker that keeps crashing starves no partition.
        ours = [(self._open[p][0].next_offset, p) for p in self._checked & set(self._open)]
        for _, partition in sorted(ours):
            users, items = self._open[partition]
            try:
                is_busy |= self._users.turn(users)
                is_busy |= self._items.turn(items)
            except Fenced as error:
                self._metrics.fenced.inc()
                log.warning("fenced: %s", error)
                self.let_go(partition)  # taken again, in a new epoch, if it is ours after all
        self._user_pusher.check()
        self._item_pusher.check()
        return is_busy

    def look(self) -> None:
        """Every LOOK_EVERY_S: where the log ends, and whether the states still fit it.

        Raises:
            ContractError: a state is ahead of the log.
        """
        is_new = set(self._open) - self._checked
        if not self._side.pause.is_over or (time.monotonic() < self._next_look and not is_new):
            return
        self._next_look = time.monotonic() + LOOK_EVERY_S
        told = []
        try:
            for partition, (users, items) in self._open.items():
                lag = self._side.lag(EVENTS, users)
                item_lag = self._side.lag(ITEM_TOPIC, items)
                self._metrics.lag.labels(partition).set(lag)
                self._metrics.item_lag.labels(partition).set(item_lag)
                self._metrics.waiting.labels(partition).set(users.waiting())
                if partition in is_new:
                    told.append(f"{partition}@{users.next_offset}/{users.next_offset + lag}")
        except OSError as error:
            self._side.pause.begin(error)
            return
        self._side.pause.end()
        if told:
            log.info("stream worker starts: %s", " ".join(told))
        self._checked |= is_new

    def let_go(self, partition: int) -> None:
        """Close what belongs to this partition."""
        self._checked.discard(partition)
        for pusher in (self._user_pusher, self._item_pusher):
            pusher.detach(partition)
        self._users.forget(partition)
        self._side.forget(partition)
        for state in self._open.pop(partition):
            state.close()
        for gauge in (self._metrics.lag, self._metrics.item_lag, self._metrics.waiting):
            gauge.labels(partition).set(0)  # its new owner tells
        self._metrics.partitions.set(len(self._open))

    def close(self) -> None:
        """Let go of all."""
        for partition in list(self._open):
            self.let_go(partition)

    def _take(self, partition: int) -> None:
        folder, partitions = self._workspace.state, self._events.partitions
        users = PartitionState(folder, partition, partitions, USERS)
        items = PartitionState(folder, partition, partitions, ITEMS)
        for state in (users, items):
            state.claim()
        self._open[partition] = users, items
        self._user_pusher.attach(users)
        self._item_pusher.attach(items)
        self._metrics.partitions.set(len(self._open))


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


def main() -> None:
    """`python -m pipelines.stream`: a share of the partitions of the workspace that the settings name."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s")
    logging.getLogger("kafka").setLevel(logging.ERROR)  # a line per failed attempt; ours says it
    settings = Settings()
    workspace = Workspace.of(settings)
    stop, metrics = threading.Event(), StreamMetrics()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    if settings.metrics_port is not None:
        start_http_server(settings.metrics_port, addr=settings.host, registry=metrics.registry)
    patiently = _patient(stop, metrics)
    with ExitStack() as stack:
        try:
            events = stack.enter_context(
                closing(patiently(open_log, workspace, settings.partitions))
            )
            owner = stack.enter_context(closing(patiently(owner_of, workspace, settings)))
        except RetryError:
            return  # told to stop before the log answered
        except ValueError as error:
            raise SystemExit(str(error)) from error
        positive_types = positive_types_of(workspace)
        gc.freeze()  # else a collection of all that was imported falls into the first batch
        run(
            workspace,
            events,
            owner=owner,
            positive_types=positive_types,
            stop=stop,
            metrics=metrics,
        )


def owner_of(workspace: Workspace, settings: Settings) -> Owner:
    """How the workers of this workspace share it: by Kafka's group, or by locks beside the states.

    Raises:
        LogUnavailable: no broker answers.
    """
    if workspace.services is None:
        return ByLocks(workspace.state / "workers", settings.partitions)
    from infra.kafka_group import GroupMember

    topic, group = f"{workspace.name}.events", f"{workspace.name}.stream"
    return GroupMember(
        workspace.services.kafka, topic, group, settings.group_session_ms, settings.worker
    )


def positive_types_of(workspace: Workspace) -> Collection[str]:
    """The data set's own, or every kind that may be, where nothing was ingested yet."""
    try:
        return read_info(workspace.lake).positive_types
    except ContractError:
        return POSITIVE_TYPES  # nothing was ingested yet: the events come first


def _patient(stop: threading.Event, metrics: StreamMetrics) -> Retrying:
    """Calls something of the log's, however long it takes to answer; RetryError = told to stop."""

    def tell(attempt: object) -> None:
        metrics.failures.labels("log").inc()
        log.warning("the log does not answer, trying again")

    return Retrying(
        retry=retry_if_exception_type(OSError),
        wait=wait_exponential(multiplier=0.2, max=PAUSE_MAX_S),
        stop=stop_when_event_set(stop),
        sleep=sleep_using_event(stop),
        before_sleep=tell,
    )


if __name__ == "__main__":
    main()
