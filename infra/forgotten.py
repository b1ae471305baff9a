"""Who asked to be forgotten: the list that every reader and writer of the log honours.

An append-only log cannot be cut in its middle, so whoever reads it must know what no longer counts.
The list holds a salted hash of each id and never the id, since a list of the forgotten would itself
be a trace of them. It is a file of the workspace; a reader looks whether it changed, and reads on.

A record of a forgotten user keeps its place, and its key and value become ERASED: whoever does not
know that word meets a record that is no event, never a person.
"""

import base64
import hashlib
import json
import os
import secrets
import uuid
from collections.abc import Iterable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

ERASED = b'{"forgotten":true}'
"""What stands where a record of a forgotten user stood."""

DEAD = "dead"
"""The topic whose records carry another record inside, as base64."""

REMEMBERED_IDS = 100_000
"""Verdicts kept in memory, so that an id is hashed once."""


class Forgotten:
    """The list of one workspace; empty where its file is missing.

    Interview: A user asks to be deleted, and your events lie in an append-only log. What do you do?
        Three things. What can be rewritten is: online rows, lake, states, tables on the way to a
        model. What cannot be is hidden at one door: a list of salted hashes that the log itself
        consults, so that ingest, the stream, a replay and a backfill see an empty place. And the
        receipt says how long the bytes still lie on the broker, and that retention takes them.
        Trade-off: a hash that can be tested is a pseudonym, so the list must be kept as safe as
        the data was; encrypting each user's records with a key to throw away would need no list,
        and a key lookup per record.
        Shown by: tests/pipelines/test_forget.py::test_nothing_is_left_and_nothing_comes_back
    """

    def __init__(self, path: Path | None) -> None:
        """Args: path = of the file; None = nobody was ever forgotten."""
        self._path = path
        self._stamp: tuple[int, int] | None = None
        self._salt, self._hashes = b"", dict[str, str]()
        self._known: dict[str, bool] = {}

    def __contains__(self, user_id: object) -> bool:
        self._look()
        if not self._hashes:
            return False
        key = str(user_id)
        if (known := self._known.get(key)) is None:
            if len(self._known) >= REMEMBERED_IDS:
                self._known.clear()
            known = self._known[key] = self.name_of(key) in self._hashes
        return known

    def __bool__(self) -> bool:
        """Whether anybody is."""
        self._look()
        return bool(self._hashes)

    def since(self, user_id: str) -> str | None:
        """When this user was forgotten (ISO 8601); None for who was not."""
        return self._hashes[self.name_of(user_id)] if user_id in self else None

    def name_of(self, user_id: str) -> str:
        """What a user is called here: 32 hex digits that only who has the salt can test."""
        raw = user_id.encode(errors="surrogatepass")
        return hashlib.blake2b(raw, key=self._salt, digest_size=16).hexdigest()

    def add(self, user_id: str, at: datetime) -> None:
        """Forget this user from now on; who holds the data set's lock may call this."""
        self._look()
        if not self._salt:
            self._salt = secrets.token_bytes(32)
        self._store({**self._hashes, self.name_of(user_id): at.isoformat(timespec="seconds")})

    def drop(self, user_id: str) -> None:
        """Take the id off the list: nothing of it was ever found."""
        name = self.name_of(user_id)
        self._store({known: at for known, at in self._hashes.items() if known != name})

    def _store(self, hashes: dict[str, str]) -> None:
        assert self._path is not None
        self._path.parent.mkdir(parents=True, exist_ok=True)
        part = self._path.with_name(f".{self._path.name}.{uuid.uuid4().hex}")
        with part.open("w") as file:
            json.dump({"salt": self._salt.hex(), "forgotten": hashes}, file, indent=1)
            file.flush()
            os.fsync(file.fileno())  # before anything is removed: else a crash brings them back
        os.replace(part, self._path)
        self._look()

    def hidden(
        self, topic: str, rows: Sequence[tuple[int, str, bytes]]
    ) -> list[tuple[int, str, bytes]]:
        """Records (offset, key, bytes) as a reader may see them."""
        if not self:
            return list(rows)
        return [row if not self._is_of(topic, *row[1:]) else (row[0], "", ERASED) for row in rows]

    def kept(self, records: Iterable[tuple[str, Any]]) -> list[tuple[str, Any]]:
        """(key, value) records that may be stored at all."""
        return [record for record in records if record[0] not in self]

    def _is_of(self, topic: str, key: str, raw: bytes) -> bool:
        return key in self or (
            topic == DEAD and any(user_id in self for user_id in users_in(topic, key, raw))
        )

    def _look(self) -> None:
        """Read the file again if it is another one."""
        if self._path is None:
            return
        try:
            found = os.stat(self._path)
        except FileNotFoundError:
            self._stamp, self._salt, self._hashes = None, b"", {}
            return
        if (stamp := (found.st_mtime_ns, found.st_ino)) == self._stamp:
            return
        told = json.loads(self._path.read_text())
        self._salt, self._hashes = bytes.fromhex(told["salt"]), told["forgotten"]
        self._stamp, self._known = stamp, {}


NOBODY = Forgotten(None)


def users_in(topic: str, key: str, raw: bytes) -> set[str]:
    """Whose record it is: by its key, by the event inside, and in a dead letter by both of that.

    Examples:
        >>> sorted(users_in("events", "u", b'{"user_id": "v"}'))
        ['u', 'v']
    """
    found = {key} if key else set()
    try:
        value = json.loads(raw)
    except (ValueError, RecursionError):
        return found
    if not isinstance(value, dict):
        return found
    if isinstance(user_id := value.get("user_id"), str):
        found.add(user_id)
    if topic == DEAD and isinstance(inside := value.get("bytes"), str):
        found |= users_in("events", str(value.get("key", "")), base64.b64decode(inside))
    return found
