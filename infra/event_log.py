"""The event log: append-only, partitioned by user, durable when `append` returns.

One interface over Kafka's model, so that the stream worker and the API do not know which log they
use: a *topic* has P *partitions*, a record has an *offset* in its partition, and records of one key
stay in order because murmur2(key) mod P picks the partition exactly as Kafka's producers do.

The embedded log is one SQLite file in WAL mode. Many processes may read and append; a reader never
waits for a writer. An append is one transaction, so a batch is seen whole or not at all, and
`synchronous=FULL` puts the WAL on the disk before it returns.
"""

import json
import sqlite3
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from kafka.partitioner.default import murmur2

from infra.workspace import Workspace

BUSY_TIMEOUT_S = 10.0
"""How long a writer waits for another process's transaction before it gives up."""

SCHEMA = """
CREATE TABLE IF NOT EXISTS about (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS records (
    topic TEXT NOT NULL, partition INTEGER NOT NULL, offset INTEGER NOT NULL,
    key TEXT NOT NULL, value TEXT NOT NULL,
    PRIMARY KEY (topic, partition, offset)
) WITHOUT ROWID;
"""


@dataclass(frozen=True, slots=True)
class Record:
    """One entry of one partition; the next one to read has `offset + 1`."""

    offset: int
    key: str
    value: dict[str, Any]


class Appender(Protocol):
    """What the API needs: a place where an accepted event is safe."""

    def append(self, topic: str, records: Sequence[tuple[str, Mapping[str, Any]]]) -> None:
        """Store (key, value) pairs, all or none; when it returns they survive a crash."""

    def close(self) -> None:
        """Finish what is under way and close."""


class EventLog(Appender, Protocol):
    """What the stream worker, the lake and monitoring need of a log."""

    @property
    def partitions(self) -> int:
        """Number of partitions of every topic, fixed when the log was made."""

    def read(self, topic: str, partition: int, offset: int, limit: int) -> list[Record]:
        """At most `limit` records from `offset` on, in order; empty at the end."""

    def end_offset(self, topic: str, partition: int) -> int:
        """The offset that the next record will get."""


def open_log(workspace: Workspace, partitions: int) -> EventLog:
    """The workspace's event log: its own file, or Kafka's topics.

    Raises:
        ValueError: the log was made with another number of partitions.
        OSError: mode services, and the broker does not answer.
    """
    if workspace.services is None:
        return SqliteEventLog(workspace.event_log, partitions)
    from infra.kafka_log import KafkaEventLog  # type: ignore[import-untyped]  # the embedded mode needs no Kafka client

    return KafkaEventLog(workspace.services.kafka, workspace.name, partitions)


def partition_of(key: str, partitions: int) -> int:
    """Kafka's default: the lower 31 bits of murmur2 of the UTF-8 bytes, modulo P.

    Examples:
        >>> partition_of("foobar", 4)  # (3504634814 & 0x7fffffff) % 4
        2
    """
    return (murmur2(key.encode()) & 0x7FFFFFFF) % partitions


@dataclass(slots=True)
class _Batch:
    rows: list[tuple[str, int, str, str]]  # topic, partition, key, JSON
    stored: Future[None] = field(default_factory=Future)


class SqliteEventLog:
    """The embedded log; see the module.

    Interview: What does 202 Accepted promise, and what does it cost?
        That the event is on the disk: the log calls fsync before the answer leaves, so killing the
        process a microsecond later loses nothing. The fsync is paid once per *group*: while one
        transaction syncs, the appends that arrive wait, and the next transaction takes them all.
        Trade-off: each caller waits up to two syncs; a buffer without fsync is faster and loses
        its tail. One machine's disk is still one copy: replication is Kafka's work.
        Shown by: tests/infra/test_event_log.py::test_waiting_appends_share_one_transaction
    """

    def __init__(self, path: Path, partitions: int) -> None:
        """Open or make the log.

        Raises:
            ValueError: The file was made with another number of partitions.
        """
        self.partitions = partitions
        self.transactions = 0
        self._waiting: list[_Batch] = []
        self._waiting_lock, self._write_lock, self._read_lock = (threading.Lock() for _ in range(3))
        path.parent.mkdir(parents=True, exist_ok=True)
        self._writer = _connect(path)
        with closing(self._writer.cursor()) as cursor:
            cursor.execute("BEGIN IMMEDIATE")
            for statement in filter(str.strip, SCHEMA.split(";")):
                cursor.execute(statement)
            cursor.execute("INSERT OR IGNORE INTO about VALUES ('partitions', ?)", [partitions])
            stored = cursor.execute("SELECT value FROM about WHERE name = 'partitions'").fetchone()
            cursor.execute("COMMIT")
        if stored[0] != partitions:
            self._writer.close()
            raise ValueError(
                f"the event log {path.name} has {stored[0]} partitions, the settings say "
                f"{partitions}: users would change partition and lose their order and state; set "
                f"SHORTLIST_PARTITIONS={stored[0]}, or replay the log into a new one"
            )
        self._reader = _connect(path)

    def append(self, topic: str, records: Sequence[tuple[str, Mapping[str, Any]]]) -> None:
        """Store the records, all or none; they are on the disk when this returns.

        Args:
            topic: Name of the topic; made by its first record.
            records: (key, value) pairs; a value must be JSON without NaN or infinity.

        Raises:
            ValueError: A value is not JSON; nothing of this call is stored.
            sqlite3.OperationalError: The disk is full, or another process holds the file too long.
        """
        if not records:
            return
        batch = _Batch([_row(topic, key, value, self.partitions) for key, value in records])
        with self._waiting_lock:
            self._waiting.append(batch)
        with self._write_lock:  # whoever enters first commits for all that wait behind it
            if not batch.stored.done():
                self._commit_waiting()
        batch.stored.result()

    def read(self, topic: str, partition: int, offset: int, limit: int) -> list[Record]:
        """At most `limit` records from `offset` on, in order."""
        with self._read_lock:
            rows = self._reader.execute(
                "SELECT offset, key, value FROM records"
                " WHERE topic = ? AND partition = ? AND offset >= ? ORDER BY offset LIMIT ?",
                (topic, partition, offset, limit),
            ).fetchall()
        return [Record(at, key, json.loads(value)) for at, key, value in rows]

    def end_offset(self, topic: str, partition: int) -> int:
        """The offset that the next record will get; 0 for an empty partition."""
        with self._read_lock:
            return _end(self._reader, topic, partition)

    def close(self) -> None:
        """Close the file; appends under way are finished first."""
        with self._write_lock, self._read_lock:
            self._writer.close()
            self._reader.close()

    def _commit_waiting(self) -> None:
        with self._waiting_lock:
            batches, self._waiting = self._waiting, []
        try:
            self._insert([row for batch in batches for row in batch.rows])
        except Exception as error:  # every waiting caller gets it; none may hang
            for batch in batches:
                batch.stored.set_exception(error)
        else:
            for batch in batches:
                batch.stored.set_result(None)

    def _insert(self, rows: list[tuple[str, int, str, str]]) -> None:
        """One transaction; offsets are given inside it, so no two processes give the same."""
        self._writer.execute("BEGIN IMMEDIATE")
        try:
            ends: dict[tuple[str, int], int] = {}
            for topic, partition, key, value in rows:
                place = (topic, partition)
                at = ends[place] if place in ends else _end(self._writer, topic, partition)
                self._writer.execute(
                    "INSERT INTO records VALUES (?, ?, ?, ?, ?)", (topic, partition, at, key, value)
                )
                ends[place] = at + 1
            self._writer.execute("COMMIT")
        except BaseException:
            if self._writer.in_transaction:
                self._writer.execute("ROLLBACK")
            raise
        self.transactions += 1


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(
        path, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False
    )
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")  # fsync of the WAL at every commit
    return connection


def _end(connection: sqlite3.Connection, topic: str, partition: int) -> int:
    row = connection.execute(
        "SELECT max(offset) FROM records WHERE topic = ? AND partition = ?", (topic, partition)
    ).fetchone()
    return 0 if row[0] is None else int(row[0]) + 1


def _row(
    topic: str, key: str, value: Mapping[str, Any], partitions: int
) -> tuple[str, int, str, str]:
    text = json.dumps(value, allow_nan=False, separators=(",", ":"))
    return topic, partition_of(key, partitions), key, text
