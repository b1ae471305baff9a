"""The stream worker's memory: one SQLite file per partition.

States, the next offset, what is not pushed yet and what was refused change in one transaction, so
after a crash the file is as if the last batch had been folded whole, or not at all. Beside the
state of a user who was known before the log stands the one he began from (`origins`): the seed file
moves on with every day, and a recount must start where the worker did. The log is read
again from the stored offset, and that is exact: WAL with synchronous=NORMAL may lose the newest
transactions in a power cut, but never half of one.
"""

import json
import sqlite3
from collections.abc import Iterable, Mapping
from pathlib import Path

from features.errors import ContractError
from features.streaming import State

QUARANTINE_ROWS = 10_000
"""Refused records kept for reading, newest last; the counter goes on."""

SCHEMA = """
CREATE TABLE IF NOT EXISTS about (name TEXT PRIMARY KEY, value INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS states (user_id TEXT PRIMARY KEY, state TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS origins (user_id TEXT PRIMARY KEY, state TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS unpushed (user_id TEXT PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS quarantine (
    offset INTEGER PRIMARY KEY, reason TEXT NOT NULL, record TEXT NOT NULL
);
"""


class PartitionState:
    """States and offset of one partition; opened by one worker at a time."""

    def __init__(self, folder: Path, partition: int, partitions: int) -> None:
        """Open or make the file.

        Args:
            folder: the workspace's state folder.
            partition: which partition, 0-based.
            partitions: how many the log has.

        Raises:
            ContractError: the file belongs to another number of partitions.
        """
        folder.mkdir(parents=True, exist_ok=True)
        self.partition = partition
        self._db = sqlite3.connect(folder / f"partition-{partition}.sqlite", timeout=10)
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=NORMAL")
        self._db.executescript(SCHEMA)
        with self._db:
            for name, value in (("partitions", partitions), ("next_offset", 0), ("quarantined", 0)):
                self._db.execute("INSERT OR IGNORE INTO about VALUES (?, ?)", (name, value))
        if (stored := self._about("partitions")) != partitions:
            self._db.close()
            raise ContractError(
                f"state of partition {partition} was made for {stored} partitions, the log has "
                f"{partitions}: users would meet another partition's state; set "
                f"SHORTLIST_PARTITIONS={stored}, or delete {folder.name}/ and replay the log"
            )

    @property
    def next_offset(self) -> int:
        """The first offset that is not folded yet."""
        return self._about("next_offset")

    @property
    def quarantined(self) -> int:
        """Records refused so far."""
        return self._about("quarantined")

    def load(self, user_ids: Iterable[str]) -> dict[str, State]:
        """States of those users that have one."""
        found = {}
        for user_id in user_ids:
            row = self._db.execute("SELECT state FROM states WHERE user_id = ?", (user_id,))
            if (state := row.fetchone()) is not None:
                found[user_id] = json.loads(state[0])
        return found

    def commit(
        self,
        offset: int,
        next_offset: int,
        states: Mapping[str, State],
        refused: Iterable[tuple[int, str, str]],
        origins: Mapping[str, State] | None = None,
    ) -> None:
        """Store a folded batch: states, offset, what to push and what was refused, all or none.

        Args:
            offset: where the batch began; what the file must still say.
            next_offset: where the next one begins.
            states: changed states by user.
            refused: (offset, reason, record as text).
            origins: seeds that users of this batch began from.

        Raises:
            ContractError: another worker moved the offset meanwhile; nothing was stored.
        """
        with self._db:
            moved = self._db.execute(
                "UPDATE about SET value = ? WHERE name = 'next_offset' AND value = ?",
                (next_offset, offset),
            ).rowcount
            if moved != 1:
                raise ContractError(
                    f"partition {self.partition} stands at offset {self.next_offset}, expected "
                    f"{offset}: another worker reads the same partition; stop one of them"
                )
            rows = [(user, json.dumps(state)) for user, state in states.items()]
            self._db.executemany("INSERT OR REPLACE INTO states VALUES (?, ?)", rows)
            self._db.executemany(
                "INSERT OR IGNORE INTO unpushed VALUES (?)", [(user,) for user in states]
            )
            self._refuse(list(refused))
            begun = [(user, json.dumps(state)) for user, state in (origins or {}).items()]
            self._db.executemany("INSERT OR IGNORE INTO origins VALUES (?, ?)", begun)

    def origin(self, user_id: str) -> State | None:
        """The seed that this user began from; None for who began with the log."""
        row = self._db.execute("SELECT state FROM origins WHERE user_id = ?", (user_id,)).fetchone()
        return None if row is None else json.loads(row[0])

    def has(self, user_id: str) -> bool:
        """Whether this user has a state."""
        found = self._db.execute("SELECT 1 FROM states WHERE user_id = ?", (user_id,))
        return found.fetchone() is not None

    def unpushed(self, limit: int) -> list[str]:
        """Users whose state changed since it was last pushed; at most `limit`."""
        rows = self._db.execute("SELECT user_id FROM unpushed LIMIT ?", (limit,))
        return [user_id for (user_id,) in rows]

    def mark_pushed(self, user_ids: Iterable[str]) -> None:
        """Forget that these were to push; a crash before this repeats a push, which is harmless."""
        with self._db:
            self._db.executemany(
                "DELETE FROM unpushed WHERE user_id = ?", [(user_id,) for user_id in user_ids]
            )

    def mark_all(self, others: Iterable[str] = ()) -> None:
        """Every state is to be pushed again, and so are these users, who have none."""
        with self._db:
            self._db.execute("INSERT OR IGNORE INTO unpushed SELECT user_id FROM states")
            self._db.executemany(
                "INSERT OR IGNORE INTO unpushed VALUES (?)", [(user,) for user in others]
            )

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

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def _refuse(self, rows: list[tuple[int, str, str]]) -> None:
        self._db.executemany("INSERT OR REPLACE INTO quarantine VALUES (?, ?, ?)", rows)
        self._db.execute(
            "UPDATE about SET value = value + ? WHERE name = 'quarantined'", (len(rows),)
        )
        self._db.execute(
            "DELETE FROM quarantine WHERE offset NOT IN"
            " (SELECT offset FROM quarantine ORDER BY offset DESC LIMIT ?)",
            (QUARANTINE_ROWS,),
        )

    def _about(self, name: str) -> int:
        row = self._db.execute("SELECT value FROM about WHERE name = ?", (name,)).fetchone()
        return int(row[0])
