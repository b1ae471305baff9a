"""A lake of a few events, written as pipelines/lake.py lays it out."""

import json
from collections.abc import Iterable
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from features.schema import EVENTS, ITEMS, USERS, DatasetInfo

DAY = datetime(2026, 3, 1, tzinfo=UTC)
"""The as-of day that most tests look at."""

POSITIVE = ("click", "cart", "purchase", "rating")


def event(event_id: str, days_before: float, event_type: str = "click", **more: Any) -> dict:
    """An event of user u on item a, `days_before` DAY; `more` overrides any column."""
    event_at = DAY - timedelta(days=days_before)
    row = {name: None for name in EVENTS.names}
    row |= {"event_id": event_id, "event_type": event_type, "user_id": "u", "item_id": "a"}
    row |= {"event_at": event_at, "seen_at": event_at}
    return row | more


def item(item_id: str, category: str | None = "x", price: float | None = 10.0, **more: Any) -> dict:
    row = {"item_id": item_id, "title": item_id, "category": category, "subcategory": category}
    return row | {"price": price, "created_at": DAY - timedelta(days=200)} | more


def user(user_id: str, days_before: float | None = 100.0) -> dict:
    created_at = None if days_before is None else DAY - timedelta(days=days_before)
    return {"user_id": user_id, "created_at": created_at, "location": None}


def write_lake(
    lake: Path, events: Iterable[dict], items: Iterable[dict], users: Iterable[dict]
) -> Path:
    by_date: dict[str, list[dict]] = {}
    for row in sorted(events, key=lambda row: (row["event_at"], row["event_id"])):
        by_date.setdefault(row["event_at"].date().isoformat(), []).append(row)
    for date, rows in by_date.items():
        folder = lake / "events" / f"event_date={date}"
        folder.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.Table.from_pylist(rows, EVENTS), folder / "part.parquet")
    lake.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(list(items), ITEMS), lake / "items.parquet")
    pq.write_table(pa.Table.from_pylist(list(users), USERS), lake / "users.parquet")
    (lake / "dataset.json").write_text(json.dumps(asdict(DatasetInfo("small", POSITIVE))))
    return lake


def random_lake(
    lake: Path, seed: int = 0, n: int = 700
) -> tuple[list[dict], list[dict], list[dict]]:
    """Every kind of gap: no price, no category, no session, no account date, unlisted items."""
    rng = np.random.default_rng(seed)
    kinds = ["impression", "view", "click", "cart", "purchase", "rating"]
    events = [
        event(
            f"e{number:04d}",
            # Some lie exactly on a window's edge, some lie after the as-of day.
            float(rng.choice([0, 1, 7, 30, 90])) if rng.random() < 0.1 else rng.uniform(-2, 95),
            str(rng.choice(kinds, p=[0.4, 0.1, 0.2, 0.1, 0.1, 0.1])),
            user_id=f"u{rng.integers(7)}",
            item_id=f"i{rng.integers(11)}",  # i10 is in no catalogue
            session_id=None if rng.random() < 0.5 else f"s{rng.integers(40)}",
            value=None if rng.random() < 0.3 else float(rng.integers(1, 6)),
            request_id=None if number % 4 == 0 else f"r{number}",
            position=None if number % 5 == 0 else 1 + number % 7 * 9,  # some deeper than any curve
        )
        for number in range(n)
    ]
    for number in range(0, n, 3):  # runs of acts within minutes, for the sessions without ids
        events[number]["event_at"] += timedelta(minutes=float(rng.uniform(0, 50)))
    items = [
        item(
            f"i{number}",
            None if number == 4 else "xyz"[number % 3],
            None if number in (2, 4) else 1.5 * number + 0.1,
            created_at=None if number % 3 else DAY - timedelta(days=60 - 20 * number),
        )
        for number in range(10)
    ]
    users = [user(f"u{number}", None if number % 2 else 10.0 * number - 10) for number in range(8)]
    write_lake(lake, events, items, users)
    return events, items, users
