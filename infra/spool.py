"""The spool: accepted events on this machine's disk, until the relay has them in Kafka.

One SQLite file for each host that runs the API, beside it a small file that says how far the relay
has come. Each has one kind of writer, so neither waits for the other: the API appends and removes
what is delivered; the relay (`pipelines/relay.py`) reads and moves its mark. The folder must be on a
local disk, because SQLite's readers and writers share memory.

    api-1.sqlite             ... 4711 4712 4713 4714        numbers only grow
    api-1.sqlite.delivered                ^ 4712             4713 and 4714 wait

Each row also holds the bytes of all rows up to it, so what waits is a difference of two rows, and
the limit holds across processes and restarts. Space of removed rows is used again: the file grows
to about the longest backlog it ever had, and no further.
"""

import os
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
from uuid import uuid4

from infra.event_log import Appender, SqliteEventLog, as_json, connect
from infra.forgotten import NOBODY, Forgotten
from infra.group_commit import GroupCommit
from infra.settings import Settings
from infra.workspace import Workspace

ROW_BYTES = 48
"""What a record takes in the file beyond its topic, key and value; about."""

REMOVED_TOGETHER = 5_000
"""Delivered rows that one append removes at most, so that none waits for a long clean-up."""

WAL_BYTES = 16 * 1024 * 1024
"""To which the write-ahead log is cut back after a burst."""

SCHEMA = """
CREATE TABLE IF NOT EXISTS about (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS records (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    topic TEXT NOT NULL, key TEXT NOT NULL, value TEXT NOT NULL,
    bytes INTEGER NOT NULL, bytes_up_to INTEGER NOT NULL, stored_at REAL NOT NULL
);
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


class SpoolReader:
    """The relay's side of a spool: what waits, and the mark up to which it is delivered.

    Interview: Two processes share a table: one appends, the other deletes what it has handled. Why not?
        Because SQLite has one writer at a time and does not queue: who waits sleeps and tries
        again, so a busy appender starves the other, which then repeats work it could not tick
        off. Here the reader never writes to the table. It moves a mark in a file of its own, by
        rename, and the appender removes what lies behind the mark in a transaction it makes anyway.
        Trade-off: removal lags behind delivery, and the mark must name the file it belongs to:
        a number from an older file of the same name would skip records.
        Shown by: tests/infra/test_spool.py::test_a_busy_appender_does_not_hold_up_the_reader
    """

    def __init__(self, path: Path) -> None:
        """Open a spool that is there.

        Raises:
            sqlite3.Error: it is no spool, or not yet.
        """
        self.path = path
        self._connection = sqlite3.connect(
            f"{path.absolute().as_uri()}?mode=rw", uri=True, check_same_thread=False
        )
        self._lock = threading.Lock()
        try:
            ((self._id,),) = self._read("SELECT value FROM about WHERE name = 'id'")
        except BaseException:
            self._connection.close()
            raise

    def take(self, limit: int) -> list[Spooled]:
        """The oldest records that wait, in the order in which they were appended; they stay."""
        rows = self._read(
            "SELECT number, topic, key, value FROM records WHERE number > ?"
            " ORDER BY number LIMIT ?",
            self.delivered(),
            limit,
        )
        return [Spooled(*row) for row in rows]

    def forget(self, up_to: int) -> None:
        """Move the mark: the records up to this number, inclusive, are safe elsewhere.

        Without fsync: a mark that a power cut sets back means that records are sent again.
        """
        part = self._mark.with_name(f".{self._mark.name}")
        part.write_text(f"{self._id} {up_to}\n")
        os.replace(part, self._mark)

    def delivered(self) -> int:
        """The mark; 0 where there is none, or where it is another file's."""
        try:
            of, number = self._mark.read_text().split()
            return int(number) if of == self._id else 0
        except (FileNotFoundError, ValueError):
            return 0

    def backlog(self) -> Backlog:
        """What waits now."""
        oldest = self._read(
            "SELECT number, bytes_up_to - bytes, stored_at FROM records WHERE number > ?"
            " ORDER BY number LIMIT 1",
            self.delivered(),
        )
        newest = self._read("SELECT number, bytes_up_to FROM records ORDER BY number DESC LIMIT 1")
        if not oldest:
            return Backlog(0, 0, 0.0)
        ((first, before, stored_at),), ((last, up_to),) = oldest, newest
        return Backlog(last - first + 1, up_to - before, max(time.time() - stored_at, 0.0))

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._connection.close()

    @property
    def _mark(self) -> Path:
        return self.path.with_name(f"{self.path.name}.delivered")

    def _read(self, query: str, *values: int) -> list[Any]:
        with self._lock:
            return self._connection.execute(query, values).fetchall()


class Spool:
    """The API's side: an appender whose records wait on the disk; see the module.

    Interview: Kafka is down. What does the API answer to a click?
        202, as always: it never talks to Kafka. It fsyncs the event into a spool on its own disk,
        and a relay, another process, sends what is there and moves a mark after the acknowledgement.
        So an outage of the broker costs freshness and no event, until the spool is full; then
        events are refused with 429 and Retry-After, which a client can see, and never dropped.
        Trade-off: one more hop (tens of milliseconds) and one more process to watch; a crash of
        the relay between acknowledgement and mark sends records twice, so readers must know
        event ids; a lost disk loses what waited on it.
        Shown by: tests/serving/test_spooled.py::test_what_was_accepted_without_a_broker_is_delivered_later
        See: docs/decisions/0005-the-api-never-talks-to-the-broker.md
    """

    def __init__(self, path: Path, max_bytes: int, forgotten: Forgotten = NOBODY) -> None:
        """Open or make the file.

        Args:
            path: of the file; its folder is made.
            max_bytes: what may wait; about the size that the file may grow to.
            forgotten: whose records are not kept.
        """
        self._forgotten = forgotten
        self.path, self.max_bytes = path, max_bytes
        path.parent.mkdir(parents=True, exist_ok=True)
        self._group = GroupCommit(self._insert)
        self._writer = connect(path)
        self._writer.execute(f"PRAGMA journal_size_limit={WAL_BYTES}")
        with closing(self._writer.cursor()) as cursor:
            cursor.execute("BEGIN IMMEDIATE")
            for statement in filter(str.strip, SCHEMA.split(";\n")):
                cursor.execute(statement)
            cursor.execute("INSERT OR IGNORE INTO about VALUES ('id', ?)", [uuid4().hex])
            cursor.execute("COMMIT")
        self._reader = SpoolReader(path)

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

    def backlog(self) -> Backlog:
        """What waits now."""
        return self._reader.backlog()

    def close(self) -> None:
        """Close the file; appends under way are finished first."""
        self._group.alone(self._writer.close)
        self._reader.close()

    def _append(
        self, topic: str, records: Sequence[tuple[str, Mapping[str, Any]]], limit: int
    ) -> None:
        rows = [_row(topic, key, value) for key, value in self._forgotten.kept(records)]
        if rows:
            self._group.submit(_Batch(rows, sum(row[-1] for row in rows), limit))

    def _insert(self, batches: list[_Batch]) -> list[Exception | None]:
        """One transaction for all that fit; the others hear that the spool is full."""
        try:
            self._writer.execute("BEGIN IMMEDIATE")
            self._remove_delivered()
            waiting, up_to = self.backlog().bytes, self._bytes_up_to()
            outcomes: list[Exception | None] = []
            for batch in batches:
                if waiting + batch.bytes > batch.limit:
                    outcomes.append(
                        SpoolFull(f"{waiting} bytes wait, {batch.limit} may: Kafka is away or slow")
                    )
                    continue
                for row in batch.rows:
                    up_to += row[-1]
                    self._writer.execute(
                        "INSERT INTO records (topic, key, value, bytes, bytes_up_to, stored_at)"
                        " VALUES (?, ?, ?, ?, ?, ?)",
                        (*row, up_to, time.time()),
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

    def _remove_delivered(self) -> None:
        """All but the newest row, from which the next one counts on."""
        self._writer.execute(
            "DELETE FROM records WHERE number <= min(?,"
            " (SELECT min(number) + ? FROM records), (SELECT max(number) - 1 FROM records))",
            (self._reader.delivered(), REMOVED_TOGETHER),
        )

    def _bytes_up_to(self) -> int:
        newest = self._writer.execute(
            "SELECT bytes_up_to FROM records ORDER BY number DESC LIMIT 1"
        ).fetchone()
        return newest[0] if newest else 0


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
    forgotten = Forgotten(workspace.forgotten)
    if workspace.services is None:
        return SqliteEventLog(workspace.event_log, settings.partitions, forgotten)
    return Spool(
        workspace.spool / f"{file_name(socket.gethostname())}.sqlite",
        settings.spool_mb * 1024 * 1024,
        forgotten,
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
