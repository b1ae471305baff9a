"""Removing rows so that no byte of them stays: SQLite files, the embedded log, spools, the online store.

A deleted row's bytes lie in the file's free pages and in the write-ahead log until something else
takes the place. So after the rows, the file is written anew (VACUUM) and the log is cut to nothing.
"""

import json
import re
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from infra.event_log import BUSY_TIMEOUT_S
from infra.forgotten import DEAD, ERASED, users_in
from infra.workspace import Workspace

if TYPE_CHECKING:
    from redis import Redis

SCANNED_TOGETHER = 1_000


def erase_rows(path: Path, statements: Sequence[tuple[str, Sequence[Any]]]) -> int:
    """Run the statements in one transaction, then leave no byte of what they removed.

    Args:
        path: of an SQLite file; one that is missing holds nothing.
        statements: (SQL, values) that delete or overwrite.

    Returns:
        Rows changed.

    Raises:
        sqlite3.OperationalError: another process holds the file for too long; nothing is lost by
            calling again.
    """
    if not path.exists():
        return 0
    with closing(_opened(path)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        count = sum(max(connection.execute(sql, values).rowcount, 0) for sql, values in statements)
        connection.execute("COMMIT")
        rewritten(connection)
    return count


def rewritten(connection: sqlite3.Connection) -> None:
    """Write the file anew, without what was deleted ever since it was made."""
    connection.execute("VACUUM")
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def erase_records(path: Path, user_id: str, *, rewrite: bool = True) -> dict[str, int]:
    """Overwrite a user's records in an embedded log or a spool; offsets keep their place.

    Args:
        path: of the file; one that is missing holds nothing.
        user_id: whose.
        rewrite: the file even where nothing was found, as after a crash; it may be large.

    Returns:
        Topic -> records overwritten.
    """
    if not path.exists():
        return {}
    with closing(_opened(path)) as connection:
        spooled = "number" in _columns(connection, "records")
        place = ("number",) if spooled else ("topic", "partition", "offset")
        where = " AND ".join(f"{name} = ?" for name in place)
        found: dict[str, int] = {}
        connection.execute("BEGIN IMMEDIATE")
        for topic, *at in _places(connection, place, user_id):
            connection.execute(
                f"UPDATE records SET key = '', value = ? WHERE {where}",
                (ERASED.decode(), *at),
            )
            found[topic] = found.get(topic, 0) + 1
        connection.execute("COMMIT")
        if found or rewrite:
            rewritten(connection)
    return found


def _places(connection: sqlite3.Connection, place: Sequence[str], user_id: str) -> list[Any]:
    """(topic, what names the row) of the user's records."""
    inside = json.dumps(user_id)[1:-1]
    rows = connection.execute(
        f"SELECT topic, key, CAST(value AS BLOB), {', '.join(place)} FROM records"
        " WHERE key = ? OR instr(value, ?) > 0 OR instr(value, ?) > 0 OR topic = ?",
        (user_id, user_id, inside, DEAD),
    )
    return [
        (topic, *at) for topic, key, value, *at in rows if user_id in users_in(topic, key, value)
    ]


def erase_online(workspace: Workspace, user_id: str) -> int:
    """Remove the rows of every view whose entity is, or contains, this user.

    Returns:
        Entities removed.

    Raises:
        sqlite3.OperationalError or RedisError: the store does not answer; call again.
    """
    if workspace.services is None:
        return _erase_in_sqlite(workspace.feast / "online.sqlite", user_id)
    from infra.clients import WRITE_TIMEOUT_S, project_of
    from infra.redis_store import connect

    client = connect(workspace.services, WRITE_TIMEOUT_S)
    project = project_of(workspace).encode()
    keys = list(_redis_keys(client, project, user_id))
    return int(cast(int, client.unlink(*keys))) if keys else 0


def _erase_in_sqlite(path: Path, user_id: str) -> int:
    if not path.exists():
        return 0
    removed = 0
    with closing(_opened(path)) as connection:
        named = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
        for (table,) in named:
            if "entity_key" not in _columns(connection, table):
                continue
            keys = connection.execute(
                f'SELECT DISTINCT entity_key FROM "{table}" WHERE instr(entity_key, ?) > 0',
                (user_id.encode(),),
            ).fetchall()
            mine = [key for key in keys if _is_of(key[0], user_id)]
            connection.executemany(f'DELETE FROM "{table}" WHERE entity_key = ?', mine)
            removed += len(mine)
        rewritten(connection)
    return removed


def _redis_keys(client: "Redis", project: bytes, user_id: str) -> Iterator[bytes]:
    pattern = b"*" + re.sub(rb"([\\*?\[\]])", rb"\\\1", user_id.encode()) + b"*" + project
    for key in client.scan_iter(pattern, count=SCANNED_TOGETHER):
        if _is_of(key.removesuffix(project), user_id):
            yield key


def _is_of(entity_key: bytes, user_id: str) -> bool:
    """Whether a key of Feast's names this user, and not only one whose id contains theirs."""
    from infra.clients import decoded_key

    return decoded_key(entity_key).get("user_id") == user_id


def _columns(connection: sqlite3.Connection, table: str) -> list[str]:
    return [row[1] for row in connection.execute(f'PRAGMA table_info("{table}")')]


def _opened(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=BUSY_TIMEOUT_S, isolation_level=None)
    connection.execute("PRAGMA secure_delete=ON")
    return connection
