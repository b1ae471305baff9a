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
from contextlib import closing
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, Protocol

from kafka.partitioner.default import murmur2

from infra.forgotten import NOBODY, Forgotten
from infra.group_commit import GroupCommit
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


Row = tuple[str, int, str, str]
"""topic, partition, key, JSON"""


@dataclass(frozen=True, slots=True)
class Record:
    """One entry of one partition; the next one to read has `offset + 1`."""

    offset: int
    key: str
    value: dict[str, Any]


Raw = tuple[int, str, bytes]
"""offset, key, the bytes that were appended, whatever they are"""


class LogUnavailable(OSError):
    """The log did not answer in its time; what was asked may be asked again."""


class RecordsGone(LookupError):
    """Records before the oldest one kept were asked for: retention has taken them, for good."""

    def __init__(self, where: str, asked: int, begins: int) -> None:
        """Args: topic and partition, the offset asked for, and where the log begins now."""
        super().__init__(
            f"{begins - asked} records of {where} are gone: asked for offset {asked}, the log "
            f"begins at {begins}; its retention is shorter than this reader was away"
        )
        self.count = begins - asked


class Appender(Protocol):
    """What the API needs: a place where an accepted event is safe."""

    def append(self, topic: str, records: Sequence[tuple[str, Mapping[str, Any]]]) -> None:
        """Store (key, value) pairs; when it returns they survive a crash.

        Raises:
            ValueError: a value is not JSON; nothing of this call is stored.
            OSError: not confirmed. A log of one file has stored none; Kafka may have stored some,
                and appending all of them again is safe where readers know repeated ids.
        """

    def close(self) -> None:
        """Finish what is under way and close."""


class Reader(Protocol):
    """What the lake and monitoring need of a log."""

    @property
    def partitions(self) -> int:
        """Number of partitions of every topic, fixed when the log was made."""

    def read(self, topic: str, partition: int, offset: int, limit: int) -> list[Record]:
        """At most `limit` records from `offset` on, in order; empty at the end and only there.

        Raises:
            RecordsGone: the log no longer has the record at `offset`.
            OSError: no answer in time.
        """

    def end_offset(self, topic: str, partition: int) -> int:
        """The offset that the next record will get."""


class EventLog(Appender, Reader, Protocol):
    """What the stream worker needs of a log: all of it."""

    def read_raw(self, topic: str, partition: int, offset: int, limit: int) -> list[Raw]:
        """As `read`, for who decodes by himself: faster, and nothing of a bad record is lost."""

    def append_at(self, topic: str, records: Sequence[tuple[int, str]]) -> None:
        """Append (partition, JSON) pairs, each to the partition it names; see `append`."""


def open_log(workspace: Workspace, partitions: int) -> EventLog:
    """The workspace's event log: its own file, or Kafka's topics, without who was forgotten.

    Raises:
        ValueError: the log was made with another number of partitions.
        OSError: mode services, and the broker does not answer.
    """
    forgotten = Forgotten(workspace.forgotten)
    if workspace.services is None:
        return SqliteEventLog(workspace.event_log, partitions, forgotten)
    from infra.kafka_log import KafkaEventLog  # the embedded mode needs no Kafka client

    return KafkaEventLog(workspace.services.kafka, workspace.name, partitions, forgotten)


def partition_of(key: str, partitions: int) -> int:
    """Kafka's default: the lower 31 bits of murmur2 of the UTF-8 bytes, modulo P.

    Examples:
        >>> partition_of("foobar", 4)  # (3504634814 & 0x7fffffff) % 4
        2
    """
    return (murmur2(key.encode()) & 0x7FFFFFFF) % partitions


def as_json(value: Mapping[str, Any]) -> str:
    """A value as every log keeps it.

    Raises:
        ValueError: it holds NaN or infinity, which JSON has not.
    """
    return json.dumps(value, allow_nan=False, separators=(",", ":"))


def value_of(raw: bytes) -> dict[str, Any]:
    """A record's value; what is no JSON object is handed on as text, for readers to set aside.

    Examples:
        >>> value_of(b'{"n": 1}'), value_of(b"[1"), value_of(b"")
        ({'n': 1}, {'unreadable': '[1'}, {'unreadable': ''})
    """
    try:
        value = json.loads(raw)
    except (ValueError, RecursionError):
        value = None
    return value if isinstance(value, dict) else {"unreadable": raw.decode(errors="replace")}


class SqliteEventLog:
    """The embedded log; see the module and group_commit.py."""

    def __init__(self, path: Path, partitions: int, forgotten: Forgotten = NOBODY) -> None:
        """Open or make the log.

        Args:
            path: of the file; its folder is made.
            partitions: of every topic.
            forgotten: whose records are neither stored nor shown.

        Raises:
            ValueError: The file was made with another number of partitions.
        """
        self.partitions = partitions
        self._forgotten = forgotten
        self._group = GroupCommit(self._insert)
        self._read_lock = threading.Lock()
        path.parent.mkdir(parents=True, exist_ok=True)
        self._writer = connect(path)
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
        self._reader = connect(path)

    def append(self, topic: str, records: Sequence[tuple[str, Mapping[str, Any]]]) -> None:
        """Store the records, all or none; they are on the disk when this returns.

        Args:
            topic: Name of the topic; made by its first record.
            records: (key, value) pairs; a value must be JSON without NaN or infinity.

        Raises:
            ValueError: A value is not JSON; nothing of this call is stored.
            sqlite3.OperationalError: The disk is full, or another process holds the file too long.
        """
        rows = [
            _row(topic, key, value, self.partitions) for key, value in self._forgotten.kept(records)
        ]
        if rows:
            self._group.submit(rows)

    def append_at(self, topic: str, records: Sequence[tuple[int, str]]) -> None:
        """Store (partition, JSON) pairs, all or none, each in the partition it names."""
        if records:
            self._group.submit([(topic, partition, "", text) for partition, text in records])

    def read(self, topic: str, partition: int, offset: int, limit: int) -> list[Record]:
        """At most `limit` records from `offset` on, in order."""
        rows = self.read_raw(topic, partition, offset, limit)
        return [Record(at, key, value_of(raw)) for at, key, raw in rows]

    def read_raw(self, topic: str, partition: int, offset: int, limit: int) -> list[Raw]:
        """At most `limit` records from `offset` on, in order, as they were appended.

        Raises:
            RecordsGone: somebody has deleted the record at `offset`, and kept later ones.
        """
        with self._read_lock:
            rows = self._reader.execute(
                "SELECT offset, key, CAST(value AS BLOB) FROM records"
                " WHERE topic = ? AND partition = ? AND offset >= ? ORDER BY offset LIMIT ?",
                (topic, partition, offset, limit),
            ).fetchall()
        if rows and rows[0][0] > offset:  # offsets have no holes here
            raise RecordsGone(f"{topic}, partition {partition}", offset, rows[0][0])
        return self._forgotten.hidden(topic, rows)

    def end_offset(self, topic: str, partition: int) -> int:
        """The offset that the next record will get; 0 for an empty partition."""
        with self._read_lock:
            return _end(self._reader, topic, partition)

    def close(self) -> None:
        """Close the file; appends under way are finished first."""
        self._group.alone(self._writer.close)
        with self._read_lock:
            self._reader.close()

    def _insert(self, batches: list[list[Row]]) -> list[None]:
        """One transaction; offsets are given inside it, so no two processes give the same."""
        self._writer.execute("BEGIN IMMEDIATE")
        try:
            ends: dict[tuple[str, int], int] = {}
            for topic, partition, key, value in chain.from_iterable(batches):
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
        return [None] * len(batches)


def connect(path: Path) -> sqlite3.Connection:
    """Open a file whose commits are on the disk when they return, for use by several threads."""
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


def _row(topic: str, key: str, value: Mapping[str, Any], partitions: int) -> Row:
    return topic, partition_of(key, partitions), key, as_json(value)
