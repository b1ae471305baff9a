"""What a computed row was made from, named by the bytes of the lake's files.

A day of the lake is one file, replaced whole and only when an event of that day is new, and the same
events make the same bytes: so the bytes change exactly when what depends on that day must be computed
again. The file's time would do at a glance, and differ after every copy.
"""

import hashlib
from collections.abc import Mapping
from datetime import date
from pathlib import Path


def lake_stamps(lake: Path) -> dict[date, str]:
    """Day -> stamp of its file, oldest first."""
    paths = sorted((lake / "events").glob("event_date=*/part.parquet"))
    return {
        date.fromisoformat(path.parent.name.removeprefix("event_date=")): stamp_of(path)
        for path in paths
    }


def stamp_of(path: Path) -> str:
    """Changes with any byte of the file; empty where there is none."""
    if not path.exists():
        return ""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "blake2b").hexdigest()[:32]


def digest_of(made_by: str, days: Mapping[date, str]) -> str:
    """One name for a way of computing and the days that went into it."""
    told = made_by + " ".join(f"{day}={stamp}" for day, stamp in sorted(days.items()))
    return hashlib.sha256(told.encode()).hexdigest()[:16]
