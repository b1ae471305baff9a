"""The stream worker: events of the log -> state -> online features, within a second.

For each partition it owns, over and over:

    1. read a batch of events from the stored offset
    2. fold them (features/streaming.py)
    3. commit states and the next offset in ONE transaction (pipelines/stream_state.py)
    4. push the changed users' absolute rows to the online store
    5. forget that they were to push

A crash before 3 repeats the batch from the log; a crash after 3 repeats the push at the next start.
Neither counts an event twice, and neither loses one.
"""

import json
import logging
import signal
import sqlite3
import threading
from collections.abc import Collection, Sequence
from contextlib import ExitStack, closing
from datetime import UTC, datetime
from typing import Any

from features.errors import ContractError, FeaturesUnavailable
from features.schema import POSITIVE_TYPES
from features.store import OnlineStore, stream_frame
from features.streaming import State, fold, parsed, row_of
from infra.clients import open_feast
from infra.event_log import EventLog, Record, open_log
from infra.settings import Settings
from infra.workspace import Workspace
from pipelines.lake import read_info
from pipelines.materialize import SEED, SEED_TABLE, apply_views
from pipelines.stream_state import PartitionState

TOPIC = "events"

BATCH = 500
"""Records folded per transaction: what bounds the memory, however long the backlog."""

log = logging.getLogger(__name__)


def run(
    workspace: Workspace,
    events: EventLog,
    *,
    partitions: Sequence[int],
    positive_types: Collection[str],
    stop: threading.Event,
    poll_s: float = 0.05,
) -> None:
    """Work until `stop` is set.

    Args:
        workspace: its state folder and online store are written.
        events: the log; topic "events" is read.
        partitions: the partitions that this worker owns; no other worker may own one of them.
        positive_types: event types that enter the history.
        stop: ends the worker between two batches.
        poll_s: pause when there is nothing to read.

    Raises:
        ContractError: the state does not fit the log, or another worker owns a partition.
    """
    with ExitStack() as stack:
        online = _open_online(workspace)
        seeds = stack.enter_context(closing(_open_seeds(workspace)))
        states = []
        for partition in partitions:
            state = PartitionState(workspace.state, partition, events.partitions)
            states.append(stack.enter_context(closing(state)))
        _check_offsets(events, states)
        log.info("stream worker starts: %s", _standing(events, states))
        while not stop.is_set():
            # A list, not a generator: every partition gets its turn, whatever the others had.
            busy = [_turn(events, state, seeds, online, positive_types) for state in states]
            if not any(busy):
                stop.wait(poll_s)


def _turn(
    events: EventLog,
    state: PartitionState,
    seeds: sqlite3.Connection,
    online: OnlineStore,
    positive_types: Collection[str],
) -> bool:
    """One batch of one partition; says whether there was anything to do."""
    offset = state.next_offset
    records = events.read(TOPIC, state.partition, offset, BATCH)
    if records:
        changed, refused = fold_batch(records, state, seeds, positive_types)
        state.commit(offset, records[-1].offset + 1, changed, refused)
    return _push(state, online) or bool(records)


def fold_batch(
    records: Sequence[Record],
    state: PartitionState,
    seeds: sqlite3.Connection,
    positive_types: Collection[str],
) -> tuple[dict[str, State], list[tuple[int, str, str]]]:
    """Fold records in order; a record that is no event is set aside and stops nothing.

    Returns:
        Changed states by user, and (offset, reason, record) of what was refused.
    """
    known = state.load({record.key for record in records})
    changed: dict[str, State] = {}
    refused = []
    for record in records:
        try:
            event = parsed(record.value, record.key)
        except ContractError as error:
            refused.append((record.offset, str(error), json.dumps(record.value)[:4000]))
            continue
        user_id = record.key
        if user_id not in known:
            known[user_id] = _seed_of(seeds, user_id)
        known[user_id], row = fold(known[user_id], event, positive_types)
        if row is not None:
            changed[user_id] = known[user_id]
    if refused:
        log.warning("partition %d: %d records refused", state.partition, len(refused))
    return changed, refused


def _push(state: PartitionState, online: OnlineStore) -> bool:
    """Push what is committed and not pushed; a store that is busy gets it at the next turn."""
    user_ids = state.unpushed(BATCH)
    if not user_ids:
        return False
    rows = {user_id: row_of(found) for user_id, found in state.load(user_ids).items()}
    try:
        online.push_user_stream(stream_frame(rows, datetime.now(UTC)))
    except sqlite3.OperationalError as error:
        log.warning("partition %d: push waits: %s", state.partition, error)
        return False
    state.mark_pushed(user_ids)
    return True


def _open_online(workspace: Workspace) -> OnlineStore:
    """The online store; where no feature was ever built, the views are made here."""
    store = open_feast(workspace)
    try:
        return OnlineStore(store)
    except FeaturesUnavailable:
        apply_views(store, workspace.offline)
        return OnlineStore(store)


def _open_seeds(workspace: Workspace) -> sqlite3.Connection:
    """States that materialize left for users whom this worker has not met; maybe none."""
    workspace.state.mkdir(parents=True, exist_ok=True)
    connection = sqlite3.connect(workspace.state / SEED, timeout=10)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute(SEED_TABLE)
    return connection


def _seed_of(seeds: sqlite3.Connection, user_id: str) -> Any:
    row = seeds.execute("SELECT state FROM states WHERE user_id = ?", (user_id,)).fetchone()
    return None if row is None else json.loads(row[0])


def _check_offsets(events: EventLog, states: Sequence[PartitionState]) -> None:
    for state in states:
        end = events.end_offset(TOPIC, state.partition)
        if state.next_offset > end:
            raise ContractError(
                f"partition {state.partition}: the state stands at offset {state.next_offset}, the "
                f"log ends at {end}: the log was replaced; bring it back or delete the state folder"
            )


def _standing(events: EventLog, states: Sequence[PartitionState]) -> str:
    return " ".join(
        f"{s.partition}@{s.next_offset}/{events.end_offset(TOPIC, s.partition)}" for s in states
    )


def main() -> None:
    """`python -m pipelines.stream`: all partitions of the workspace that the settings name."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s")
    settings = Settings()
    workspace = Workspace.of(settings)
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    try:
        positive_types: Collection[str] = read_info(workspace.lake).positive_types
    except ContractError:
        positive_types = POSITIVE_TYPES  # nothing was ingested yet: the events come first
    try:
        events = open_log(workspace, settings.partitions)
    except ValueError as error:
        raise SystemExit(str(error)) from error
    with closing(events):
        run(
            workspace,
            events,
            partitions=range(settings.partitions),
            positive_types=positive_types,
            stop=stop,
        )


if __name__ == "__main__":
    main()
