"""Where a user lies in a workspace, and how they are taken out: one function per kind of place.

Each may be repeated, returns what it removed, and leaves everybody else's rows as they were. Who
calls them holds the data set's lock, so nobody else writes lake, features or training tables.
"""

import json
import os
import sqlite3
import uuid
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from infra.erase import erase_rows
from infra.event_log import EventLog, RecordsGone, partition_of
from infra.forgotten import users_in
from infra.kafka_log import TOPICS, KafkaEventLog
from infra.reports import write_json
from infra.workspace import Workspace
from pipelines.materialize import SEED
from pipelines.offline_file import replaced
from pipelines.stream_read import BATCH
from pipelines.stream_state import PartitionState
from pipelines.stream_users import DEAD

FORGOTTEN = "(forgotten)"
"""What a report shows where it named the user."""

IN_STATE = ("states", "origins", "unpushed", "late")
"""Tables of a state file with a column user_id."""


def from_states(workspace: Workspace, user_id: str, partitions: int) -> int:
    """Rows of the stream worker's states, and of the seeds it starts from.

    The partition is claimed first: a worker that has the user in memory is fenced, and takes the
    partition again by what is in the file then.
    """
    removed = 0
    for partition in range(partitions):
        path = workspace.state / f"partition-{partition}.sqlite"
        if not path.exists():
            continue
        with closing(PartitionState(workspace.state, partition, partitions)) as state:
            letters = _letters(path, user_id)
            if partition != partition_of(user_id, partitions) and not letters:
                continue
            state.claim()
        mine = [(f"DELETE FROM {table} WHERE user_id = ?", (user_id,)) for table in IN_STATE]
        sent = [("DELETE FROM outbox WHERE number = ?", (number,)) for number in letters]
        removed += erase_rows(path, [*mine, *sent])
    return removed + erase_rows(
        workspace.state / SEED, [("DELETE FROM states WHERE user_id = ?", (user_id,))]
    )


def _letters(path: Path, user_id: str) -> list[int]:
    """Dead letters of theirs that wait to be sent."""
    with closing(sqlite3.connect(path, timeout=10)) as connection:
        rows = connection.execute("SELECT number, value FROM outbox WHERE topic = ?", (DEAD,))
        return [n for n, value in rows if user_id in users_in(DEAD, "", value.encode())]


def from_tables(folder: Path, user_id: str) -> dict[str, int]:
    """Rows of every Parquet file below a folder that has a column user_id; rows by part of it.

    Files that a crash left half written are removed: nobody is writing now.
    """
    removed: dict[str, int] = {}
    for stale in folder.rglob(".*.parquet.*"):
        stale.unlink()
    for path in sorted(folder.rglob("*.parquet")):
        schema = pq.read_schema(path)
        if "user_id" not in schema.names:
            continue
        if not _is_his(pq.read_table(path, columns=["user_id"], partitioning=None), user_id).any():
            continue
        table = pq.read_table(path, schema=schema, partitioning=None)
        mine = _is_his(table, user_id)
        with replaced(path, schema) as write:
            write(table.filter(pa.array(~mine)))
        part = path.relative_to(folder).parts[0].removesuffix(".parquet")
        removed[part] = removed.get(part, 0) + int(mine.sum())
    return removed


def _is_his(table: pa.Table, user_id: str) -> Any:
    return pc.fill_null(pc.equal(pc.cast(table["user_id"], pa.string()), user_id), False).to_numpy()


def from_texts(workspace: Workspace, user_id: str) -> int:
    """Places in JSON files that are exactly this id, and rows of the quarantine that hold it."""
    return sum(_in_json(path, user_id) for path in _json_files(workspace)) + sum(
        _in_csv(path, user_id) for path in workspace.quarantine.glob("*.csv")
    )


def _json_files(workspace: Workspace) -> Iterator[Path]:
    """Of this data set but its bundles, which name no user, and the reports of all."""
    apart = (workspace.bundles, workspace.receipts)
    for path in [*workspace.root.rglob("*.json"), *workspace.reports.rglob("*.json")]:
        if not any(path.is_relative_to(folder) for folder in apart):
            yield path


def _in_json(path: Path, user_id: str) -> int:
    text = path.read_text(errors="replace")
    if json.dumps(user_id) not in text:
        return 0
    count = 0

    def without(value: Any) -> Any:
        nonlocal count
        if value == user_id:
            count += 1
            return FORGOTTEN
        if isinstance(value, list):
            return [without(item) for item in value]
        if isinstance(value, dict):
            return {without(key): without(item) for key, item in value.items()}
        return value

    told = without(json.loads(text))
    if path.name == "sample_users.json":  # these are read as ids
        told = [user for user in told if user != FORGOTTEN]
    write_json(path, told)
    return count


def _in_csv(path: Path, user_id: str) -> int:
    faults = pd.read_csv(path, dtype=str, keep_default_na=False)
    mine = faults["value"] == user_id
    if mine.any():
        part = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
        faults.assign(value=faults["value"].where(~mine, FORGOTTEN)).to_csv(part, index=False)
        os.replace(part, path)
    return int(mine.sum())


def in_kafka(workspace: Workspace, user_id: str, partitions: int) -> dict[str, int]:
    """Topic -> records of this user that lie on the broker; nothing can take them out one by one."""
    assert workspace.services is not None
    found: dict[str, int] = {}
    raw: EventLog = KafkaEventLog(workspace.services.kafka, workspace.name, partitions)
    with closing(raw) as log:
        for topic in (name for name in TOPICS if name != "items"):
            of_all = range(partitions) if topic == DEAD else [partition_of(user_id, partitions)]
            for partition in of_all:
                found[topic] = found.get(topic, 0) + sum(
                    user_id in users_in(topic, key, value)
                    for key, value in _records(log, topic, partition)
                )
    return {topic: count for topic, count in found.items() if count}


def _records(log: EventLog, topic: str, partition: int) -> Iterator[tuple[str, bytes]]:
    offset = 0
    while True:
        try:
            rows = log.read_raw(topic, partition, offset, BATCH)
        except RecordsGone as gone:  # retention has taken the oldest
            offset += gone.count
            continue
        if not rows:
            return
        yield from ((key, value) for _, key, value in rows)
        offset = rows[-1][0] + 1
