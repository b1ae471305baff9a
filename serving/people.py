"""Users to try the page with: who has a history, and what they like."""

import json
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from features.errors import Unavailable
from features.request import UserRow
from models.bundle import Bundle
from serving.recommend import UserReader

READ_TIMEOUT_MS = 250.0
"""The page can wait longer than a recommendation."""

LIKES, RECENT = 2, 3


async def people(
    bundle: Bundle, reader: UserReader, now: datetime, users: Sequence[str]
) -> list[dict[str, Any]]:
    """Users with their strongest categories and newest items.

    A store that does not answer leaves the names without their likes.
    """
    found = []
    answers = True
    for user_id in users:
        row = UserRow.unknown()
        if answers:
            try:
                row = await reader.read(user_id, bundle, now, READ_TIMEOUT_MS)
            except Unavailable:
                answers = False  # one time-out is enough for one page
        found.append({"user_id": user_id, "likes": likes(row), "recent": _titles(bundle, row)})
    return found


def sample_users(path: Path, limit: int) -> list[str]:
    """Some users with a history; none where no bundle was ever published."""
    try:
        return list(json.loads(path.read_text()))[:limit]
    except (OSError, ValueError):
        return []


def likes(row: UserRow) -> list[str]:
    """The categories with most of the user's positives."""
    by_share = sorted(
        row.category_rows, key=lambda name: -row.category_rows[name]["category_share_90d"]
    )
    return by_share[:LIKES]


def _titles(bundle: Bundle, row: UserRow) -> list[str]:
    """Titles of the newest distinct positives."""
    rows = [bundle.catalogue.index.get(item_id, -1) for item_id in dict.fromkeys(row.history_items)]
    return [str(bundle.titles[ix]) for ix in rows if ix >= 0][:RECENT]
