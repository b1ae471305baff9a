"""The stream worker's memory: one SQLite file per partition and stage.

States, the next offset, what is not pushed yet and what is still to be sent to another topic change
in one transaction, so after a crash the file is as if the last batch had been folded whole, or not
at all. Beside the state of a user who was known before the log stands the one they began from
(`origins`): the seed file moves on with every day, and a recount must start where the worker did.
The log is read again from the stored offset, and that is exact: WAL with synchronous=NORMAL may
lose the newest transactions in a power cut, but never half of one.

Whoever takes a partition raises its *epoch*, and a commit names the epoch it was made in: a worker
that slept while another took over cannot write a byte. The files lie in a folder that the workers
of one machine share. On another machine there are none, and the retained log is folded from its
beginning: the same states, since the fold is pure.
"""

import json
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from features.errors import ContractError
from features.streaming import State, upgraded

LATE_ROWS = 10_000
"""Late events kept for reading, newest last; the counter goes on, and the log has them."""

USERS, ITEMS = "partition", "items"
"""What the files of the two stages are called."""

SCHEMA = """
CREATE TABLE IF NOT EXISTS about (name TEXT PRIMARY KEY, value INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS states (user_id TEXT PRIMARY KEY, state TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS origins (user_id TEXT PRIMARY KEY, state TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS unpushed (user_id TEXT PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS timers (id TEXT PRIMARY KEY, due INTEGER NOT NULL) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS timers_due ON timers (due);
CREATE TABLE IF NOT EXISTS late (
    offset INTEGER PRIMARY KEY, user_id TEXT NOT NULL, event_id TEXT NOT NULL, event_at INTEGER
);
CREATE TABLE IF NOT EXISTS outbox (
    number INTEGER PRIMARY KEY AUTOINCREMENT, topic TEXT NOT NULL, partition INTEGER NOT NULL,
    value TEXT NOT NULL
);
"""

OURS = "(SELECT value FROM about WHERE name = 'epoch') = ?"
"""Holds while nobody else has claimed the partition."""

as_text = json.JSONEncoder(separators=(",", ":"), check_circular=False).encode

Outgoing = tuple[str, int, str]
"""topic, partition, JSON"""


class Fenced(ContractError):
    """Another worker has this partition now; nothing of ours was stored."""


@dataclass(slots=True)
class Changes:
    """What one batch changes."""

    states: Mapping[str, State] = field(default_factory=dict)
    """By user or item."""

    origins: Mapping[str, State] = field(default_factory=dict)
    """Seeds that users of this batch began from."""

    outbox: Sequence[Outgoing] = ()
    """To send when this is stored."""

    late: Sequence[tuple[int, str, str, int]] = ()
    """(offset, user, event id, event_at in µs) of events that came later than is allowed."""

    timers: Mapping[str, int | None] = field(default_factory=dict)
    """Item -> watermark at which it is to be looked at again; None = never."""

    numbers: Mapping[str, int] = field(default_factory=dict)
    """Whatever else the stage counts, by name."""

    refused: int = 0


class PartitionState:
    """States and offset of one partition; written by one worker at a time."""

    def __init__(self, folder: Path, partition: int, partitions: int, stage: str = USERS) -> None:
        """Open or make the file; to write, `claim` it.

        Args:
            folder: the workspace's state folder.
            partition: which partition, 0-based.
            partitions: how many the log has.
            stage: USERS or ITEMS.

        Raises:
            ContractError: the file belongs to another number of partitions.
        """
        folder.mkdir(parents=True, exist_ok=True)
        self.partition = partition
        self.has_backlog = self.has_outbox = True  # until a look finds none
        self._db = sqlite3.connect(
            folder / f"{stage}-{partition}.sqlite", timeout=10, isolation_level="IMMEDIATE"
        )
        self._db.execute("PRAGMA synchronous=NORMAL")
        if not self._is_made():  # who only looks does not wait for who writes
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.executescript(SCHEMA)
            with self._db:
                for name, value in (("partitions", partitions), ("next_offset", 0), ("epoch", 0)):
                    self._db.execute("INSERT OR IGNORE INTO about VALUES (?, ?)", (name, value))
        self._epoch = self.number("epoch")
        if (stored := self.number("partitions")) != partitions:
            self._db.close()
            raise ContractError(
                f"state of partition {partition} was made for {stored} partitions, the log has "
                f"{partitions}: users would meet another partition's state; set "
                f"SHORTLIST_PARTITIONS={stored}, or delete {folder.name}/ and replay the log"
            )

    def claim(self) -> int:
        """Become the only one who may write; returns the epoch, one more than any before.

        Interview: A worker sleeps, another takes its partition, it wakes up: what stops its writes?
            The epoch. Taking a partition raises a number in the state file, and each batch is
            stored only if the number is still the one that its worker raised, in the same
            transaction. The sleeper's batch is refused whole. What it pushes to the online store
            is refused there by its version, and what it sends to another topic covers offsets that
            are taken already.
            Trade-off: a check per batch; a lease with a time-out would need no new owner to be
            noticed, and would trust clocks.
            Shown by: tests/pipelines/test_stream_group.py::test_a_worker_that_slept_writes_nothing
        """
        with self._db:
            self._db.execute("UPDATE about SET value = value + 1 WHERE name = 'epoch'")
            self._epoch = self.number("epoch")
        return self._epoch

    @property
    def next_offset(self) -> int:
        """The first offset that is not folded yet."""
        return self.number("next_offset")

    def number(self, name: str) -> int:
        """A stored number; 0 where there is none."""
        row = self._db.execute("SELECT value FROM about WHERE name = ?", (name,)).fetchone()
        return 0 if row is None else int(row[0])

    def load(self, user_ids: Iterable[str]) -> dict[str, State]:
        """States of those that have one."""
        found = {}
        for user_id in user_ids:
            row = self._db.execute("SELECT state FROM states WHERE user_id = ?", (user_id,))
            if (state := row.fetchone()) is not None:
                found[user_id] = json.loads(state[0])
        return found

    def commit(self, offset: int, next_offset: int, changes: Changes) -> None:
        """Store a folded batch, all or none.

        Args:
            offset: where the batch began; what the file must still say.
            next_offset: where the next one begins.
            changes: what it changed.

        Raises:
            Fenced: another worker claimed the partition or moved the offset; nothing was stored.
        """
        with self._db:
            moved = self._db.execute(
                f"UPDATE about SET value = ? WHERE name = 'next_offset' AND value = ? AND {OURS}",
                (next_offset, offset, self._epoch),
            ).rowcount
            if moved != 1:
                raise Fenced(
                    f"partition {self.partition} stands at offset {self.next_offset} in epoch "
                    f"{self.number('epoch')}, expected {offset} in {self._epoch}: another worker "
                    "reads the same partition"
                )
            rows = [(user, as_text(state)) for user, state in changes.states.items()]
            self._db.executemany("INSERT OR REPLACE INTO states VALUES (?, ?)", rows)
            self._db.executemany(
                "INSERT OR IGNORE INTO unpushed VALUES (?)", [(user,) for user in changes.states]
            )
            if changes.origins:
                begun = [(user, as_text(state)) for user, state in changes.origins.items()]
                self._db.executemany("INSERT OR IGNORE INTO origins VALUES (?, ?)", begun)
            self._db.executemany(
                "INSERT INTO outbox (topic, partition, value) VALUES (?, ?, ?)", changes.outbox
            )
            self._set_timers(changes.timers)
            self._keep_late(changes.late)
            self._add("refused", changes.refused)
            self._db.executemany(
                "INSERT OR REPLACE INTO about VALUES (?, ?)", changes.numbers.items()
            )
        self.has_outbox |= bool(changes.outbox)

    def origin(self, user_id: str) -> State | None:
        """The seed that this user began from; None for who began with the log."""
        row = self._db.execute("SELECT state FROM origins WHERE user_id = ?", (user_id,)).fetchone()
        return None if row is None else upgraded(json.loads(row[0]))

    def has(self, user_id: str) -> bool:
        """Whether this user has a state."""
        found = self._db.execute("SELECT 1 FROM states WHERE user_id = ?", (user_id,))
        return found.fetchone() is not None

    def due(self, watermark: int, limit: int) -> list[str]:
        """Items to look at again at this watermark, the longest due first."""
        rows = self._db.execute(
            "SELECT id FROM timers WHERE due <= ? ORDER BY due LIMIT ?", (watermark, limit)
        )
        return [item_id for (item_id,) in rows]

    def outbox(self, limit: int) -> list[tuple[int, str, int, str]]:
        """(number, topic, partition, JSON) of what is to be sent, in order."""
        return self._db.execute(
            "SELECT number, topic, partition, value FROM outbox ORDER BY number LIMIT ?", (limit,)
        ).fetchall()

    def mark_sent(self, number: int) -> None:
        """Forget what was to be sent, up to `number`; a crash before this sends it again."""
        with self._db:
            self._db.execute(
                f"DELETE FROM outbox WHERE number <= ? AND {OURS}", (number, self._epoch)
            )

    def unpushed(self, limit: int) -> list[str]:
        """Users whose state changed since it was last pushed; at most `limit`."""
        rows = self._db.execute("SELECT user_id FROM unpushed LIMIT ?", (limit,))
        return [user_id for (user_id,) in rows]

    def mark_pushed(self, user_ids: Iterable[str]) -> None:
        """Forget that these were to push; a crash before this repeats a push, which is harmless."""
        with self._db:
            self._db.executemany(
                f"DELETE FROM unpushed WHERE user_id = ? AND {OURS}",
                [(user_id, self._epoch) for user_id in user_ids],
            )

    def mark_all(self, others: Iterable[str] = ()) -> None:
        """Every state is to be pushed again, and so are these users, who have none."""
        with self._db:
            self._db.execute("INSERT OR IGNORE INTO unpushed SELECT user_id FROM states")
            self._db.executemany(
                "INSERT OR IGNORE INTO unpushed VALUES (?)", [(user,) for user in others]
            )
        self.has_backlog = True

    def is_waiting(self, user_id: str) -> bool:
        """Whether this user is to be pushed."""
        found = self._db.execute("SELECT 1 FROM unpushed WHERE user_id = ?", (user_id,))
        return found.fetchone() is not None

    def waiting(self) -> int:
        """How many users are to be pushed."""
        return int(self._db.execute("SELECT count(*) FROM unpushed").fetchone()[0])

    def after(self, user_id: str, limit: int) -> dict[str, State]:
        """The next states in the order of the ids; empty at the end."""
        rows = self._db.execute(
            "SELECT user_id, state FROM states WHERE user_id > ? ORDER BY user_id LIMIT ?",
            (user_id, limit),
        )
        return {user: json.loads(state) for user, state in rows}

    def note(self, name: str, value: int) -> None:
        """Keep a number for whoever looks, such as `status`; no part of the fold."""
        with self._db:
            self._db.execute("INSERT OR REPLACE INTO about VALUES (?, ?)", (name, value))

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def _is_made(self) -> bool:
        tables = self._db.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
        return ("outbox",) in tables and self._db.execute(
            "SELECT count(*) FROM about WHERE name IN ('partitions', 'next_offset', 'epoch')"
        ).fetchone() == (3,)

    def _set_timers(self, timers: Mapping[str, int | None]) -> None:
        self._db.executemany(
            "INSERT OR REPLACE INTO timers VALUES (?, ?)",
            [(item, at) for item, at in timers.items() if at is not None],
        )
        self._db.executemany(
            "DELETE FROM timers WHERE id = ?", [(i,) for i, at in timers.items() if at is None]
        )

    def _keep_late(self, rows: Sequence[tuple[int, str, str, int]]) -> None:
        if not rows:
            return
        self._db.executemany("INSERT OR REPLACE INTO late VALUES (?, ?, ?, ?)", rows)
        self._add("late", len(rows))
        self._db.execute(
            "DELETE FROM late WHERE offset <="
            " (SELECT offset FROM late ORDER BY offset DESC LIMIT 1 OFFSET ?)",
            (LATE_ROWS,),
        )

    def _add(self, name: str, count: int) -> None:
        if count:
            self._db.execute(
                "INSERT INTO about VALUES (?, ?) ON CONFLICT DO UPDATE SET value = value + ?",
                (name, count, count),
            )
