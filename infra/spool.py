"""The spool: accepted events on this machine's disk, until the relay has them in Kafka.

One SQLite file for each API process's host. The API appends; `pipelines/relay.py` takes the oldest,
delivers, and forgets. Both may have the file open at once, and so may several processes of one host;
the folder must be on a local disk, because SQLite's WAL is shared memory.

The number of bytes that wait is kept in the file, in the transactions that change it, so the limit
holds across processes and restarts. Space that was forgotten is used again: the file grows to the
longest backlog it ever had, and no further.
"""

import re
import socket
import sqlite3
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from infra.event_log import Appender, SqliteEventLog, as_json, connect
from infra.group_commit import GroupCommit
from infra.settings import Settings
from infra.workspace import Workspace

ROW_BYTES = 48
"""What a record takes in the file beyond its topic, key and value; about."""

WAL_BYTES = 16 * 1024 * 1024
"""To which the write-ahead log is cut back after a burst."""

SCHEMA = """
CREATE TABLE IF NOT EXISTS waiting (
    number INTEGER PRIMARY KEY AUTOINCREMENT,  -- never used twice, so "forget up to" is safe
    topic TEXT NOT NULL, key TEXT NOT NULL, value TEXT NOT NULL,
    bytes INTEGER NOT NULL, stored_at REAL NOT NULL
);
CREATE TABLE IF NOT EXISTS total (records INTEGER NOT NULL, bytes INTEGER NOT NULL);
INSERT INTO total SELECT 0, 0 WHERE NOT EXISTS (SELECT 1 FROM total);
"""


class SpoolFull(Exception):
    """What is to be kept would exceed the limit, or the disk is full; nothing of it was kept."""


@dataclass(frozen=True, slots=True)
class Spooled:
    """One record that waits; `value` is JSON."""

    number: int
    topic: str
    key: str
    value: str


@dataclass(frozen=True, slots=True)
class Backlog:
    """What waits: how much, and the age of the oldest (0 when nothing waits)."""

    records: int
    bytes: int
    oldest_s: float


@dataclass(frozen=True, slots=True)
class _Batch:
    rows: list[tuple[str, str, str, int]]  # topic, key, JSON, bytes
    bytes: int
    limit: int


class Spool:
    """An appender whose records wait on the disk; see the module.

    Interview: Kafka is down. What does the API answer to a click?
        202, as always: it never talks to Kafka. It fsyncs the event into a spool on its own disk,
        and a relay, another process, sends what is there and forgets it after the acknowledgement.
        So an outage of the broker costs freshness and no event, until the spool is full; then
        events are refused with 429 and Retry-After, which a client can see, and never dropped.
        Trade-off: one more hop (tens of milliseconds) and one more process to watch; a crash of
        the relay between acknowledgement and forgetting sends a record twice, so readers must
        know event ids; a lost disk loses what waited on it.
        See: docs/decisions/0005-the-api-never-talks-to-the-broker.md
        Shown by: tests/serving/test_spooled.py::test_what_was_accepted_without_a_broker_is_delivered_later
    """

    def __init__(self, path: Path, max_bytes: int) -> None:
        """Open or make the file.

        Args:
            path: of the file; its folder is made.
            max_bytes: what may wait; about the size that the file may grow to.
        """
        self.path, self.max_bytes = path, max_bytes
        path.parent.mkdir(parents=True, exist_ok=True)
        self._group = GroupCommit(self._insert)
        self._writer = connect(path)
        self._writer.execute(f"PRAGMA journal_size_limit={WAL_BYTES}")
        with closing(self._writer.cursor()) as cursor:
            cursor.execute("BEGIN IMMEDIATE")
            for statement in filter(str.strip, SCHEMA.split(";\n")):
                cursor.execute(statement)
            cursor.execute("COMMIT")
        self._reader, self._read_lock = connect(path), threading.Lock()

    def append(self, topic: str, records: Sequence[tuple[str, Mapping[str, Any]]]) -> None:
        """Keep the records, all or none; they are on the disk when this returns.

        Raises:
            ValueError: a value is not JSON.
            SpoolFull: the limit, or the disk.
            sqlite3.OperationalError: another process holds the file too long.
        """
        self._append(topic, records, self.max_bytes)

    def up_to(self, share: float) -> Appender:
        """This spool for records that are no promise: it is full for them at `share` of the limit."""
        return _Share(self, int(self.max_bytes * share))

    def take(self, limit: int) -> list[Spooled]:
        """The oldest records, in the order in which they were appended; they stay."""
        with self._read_lock:
            rows = self._reader.execute(
                "SELECT number, topic, key, value FROM waiting ORDER BY number LIMIT ?", [limit]
            ).fetchall()
        return [Spooled(*row) for row in rows]

    def forget(self, up_to: int) -> None:
        """Remove the records up to this number, inclusive: they are safe elsewhere."""
        self._group.alone(lambda: self._delete(up_to))

    def backlog(self) -> Backlog:
        """What waits now."""
        with self._read_lock:
            records, size = self._reader.execute("SELECT records, bytes FROM total").fetchone()
            oldest = self._reader.execute(
                "SELECT stored_at FROM waiting ORDER BY number LIMIT 1"
            ).fetchone()
        return Backlog(records, size, max(time.time() - oldest[0], 0.0) if oldest else 0.0)

    def close(self) -> None:
        """Close the file; appends under way are finished first."""
        self._group.alone(self._writer.close)
        with self._read_lock:
            self._reader.close()

    def _append(
        self, topic: str, records: Sequence[tuple[str, Mapping[str, Any]]], limit: int
    ) -> None:
        if records:
            rows = [_row(topic, key, value) for key, value in records]
            self._group.submit(_Batch(rows, sum(row[-1] for row in rows), limit))

    def _insert(self, batches: list[_Batch]) -> list[Exception | None]:
        """One transaction for all that fit; the others hear that the spool is full."""
        try:
            self._writer.execute("BEGIN IMMEDIATE")
            (waiting,) = self._writer.execute("SELECT bytes FROM total").fetchone()
            outcomes: list[Exception | None] = []
            for batch in batches:
                if waiting + batch.bytes > batch.limit:
                    outcomes.append(
                        SpoolFull(f"{waiting} bytes wait, {batch.limit} may: Kafka is away or slow")
                    )
                    continue
                self._writer.executemany(
                    "INSERT INTO waiting (topic, key, value, bytes, stored_at)"
                    " VALUES (?, ?, ?, ?, ?)",
                    [(*row, time.time()) for row in batch.rows],
                )
                self._writer.execute(
                    "UPDATE total SET records = records + ?, bytes = bytes + ?",
                    (len(batch.rows), batch.bytes),
                )
                waiting += batch.bytes
                outcomes.append(None)
            self._writer.execute("COMMIT")
        except BaseException as error:
            if self._writer.in_transaction:
                self._writer.execute("ROLLBACK")
            if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL:
                raise SpoolFull("the disk is full") from error
            raise
        return outcomes

    def _delete(self, up_to: int) -> None:
        self._writer.execute("BEGIN IMMEDIATE")
        try:
            records, size = self._writer.execute(
                "SELECT count(*), coalesce(sum(bytes), 0) FROM waiting WHERE number <= ?", [up_to]
            ).fetchone()
            self._writer.execute("DELETE FROM waiting WHERE number <= ?", [up_to])
            self._writer.execute(
                "UPDATE total SET records = records - ?, bytes = bytes - ?", (records, size)
            )
            self._writer.execute("COMMIT")
        except BaseException:
            if self._writer.in_transaction:
                self._writer.execute("ROLLBACK")
            raise


@dataclass(frozen=True, slots=True)
class _Share:
    spool: Spool
    limit: int

    def append(self, topic: str, records: Sequence[tuple[str, Mapping[str, Any]]]) -> None:
        self.spool._append(topic, records, self.limit)

    def close(self) -> None:
        """Nothing: the spool is closed by who opened it."""


def open_appender(workspace: Workspace, settings: Settings) -> SqliteEventLog | Spool:
    """Where the API keeps what it accepts: the embedded log, or its spool on the way to Kafka.

    Raises:
        ValueError: the embedded log has another number of partitions.
    """
    if workspace.services is None:
        return SqliteEventLog(workspace.event_log, settings.partitions)
    return Spool(
        workspace.spool / f"{file_name(socket.gethostname())}.sqlite",
        settings.spool_mb * 1024 * 1024,
    )


def file_name(host: str) -> str:
    """A host's name as a file's: what a path could be made of is replaced.

    Examples:
        >>> file_name("api-7f9c.local"), file_name("../Käse"), file_name("")
        ('api-7f9c.local', '_.._K_se', '_')
    """
    safe = re.sub(r"[^A-Za-z0-9._-]", "_", host)[:64]
    return safe if safe[:1].isalnum() else f"_{safe}"


def _row(topic: str, key: str, value: Mapping[str, Any]) -> tuple[str, str, str, int]:
    text = as_json(value)
    return topic, key, text, len(topic) + len(key.encode()) + len(text) + ROW_BYTES
