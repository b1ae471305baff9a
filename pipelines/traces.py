"""Is anything of a user left? A search for the bytes of their id, wherever they may hide.

It knows nothing of what is kept where: every file is read whole, Parquet is decoded, and of Redis
every key and value. An id inside base64, as in dead letters, is found by its three spellings. The
id must be one that occurs in nothing else, so this is for drills and tests, not for real ids.
"""

import base64
from pathlib import Path
from typing import cast

import pyarrow.parquet as pq

from infra.clients import project_of
from infra.workspace import Workspace

MIN_LENGTH = 8
"""Shorter ids occur by chance, and their base64 has no letter of its own."""


def traces(workspace: Workspace, user_id: str) -> dict[str, int]:
    """Place -> how often the id occurs in it; empty where nothing is left.

    Args:
        workspace: its folder and the reports, and in mode services its keys in Redis.
        user_id: ASCII, at least MIN_LENGTH letters, part of no other id.
    """
    assert user_id.isascii(), user_id
    assert len(user_id) >= MIN_LENGTH, user_id
    needles = spellings(user_id)
    found: dict[str, int] = {}
    for root in (workspace.root, workspace.reports):
        for path in sorted(root.rglob("*")):
            if path.is_file() and (count := _in_bytes(_content(path), needles)):
                found[str(path.relative_to(workspace.home))] = count
    if workspace.services is not None and (count := _in_redis(workspace, needles)):
        found["redis"] = count
    return found


def spellings(user_id: str) -> list[bytes]:
    """The id, and what base64 makes of it behind 0, 1 and 2 other bytes.

    Examples:
        >>> spellings("somebody")
        [b'somebody', b'c29tZWJvZH', b'NvbWVib2R5', b'zb21lYm9ke']
    """
    raw = user_id.encode()
    found = [raw]
    for before in range(3):
        text = base64.b64encode(bytes(before) + raw)
        whole = len(raw) * 8 + before * 8
        first = -(-before * 8 // 6)  # the first letter that is of the id alone
        found.append(text[first : whole // 6])
    return found


def _content(path: Path) -> bytes:
    """A file's bytes, and behind them a Parquet file's cells as text."""
    raw = path.read_bytes()
    if raw[:4] != b"PAR1":
        return raw
    return raw + str(pq.read_table(path, partitioning=None).to_pylist()).encode()


def _in_bytes(content: bytes, needles: list[bytes]) -> int:
    return sum(content.count(needle) for needle in needles)


def _in_redis(workspace: Workspace, needles: list[bytes]) -> int:
    from infra.clients import WRITE_TIMEOUT_S
    from infra.redis_store import connect

    assert workspace.services is not None
    client = connect(workspace.services, WRITE_TIMEOUT_S)
    count = 0
    for key in client.scan_iter(b"*" + project_of(workspace).encode(), count=1_000):
        values = cast("dict[bytes, bytes]", client.hgetall(key))
        count += _in_bytes(b"\n".join([key, *values, *values.values()]), needles)
    return count
