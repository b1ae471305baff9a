"""What really changed, and when: the answer key for whoever watches the platform.

    {"kind": "concept", "begins_at": ..., "full_at": ..., "ends_at": null, "size": 0.6}

Item hits and launches are listed too: they move numbers without anything being wrong.
"""

from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np

from pipelines.world.config import Shift, ShiftKind
from pipelines.world.truth import NEVER_US, Truth

DAY_US = 86_400_000_000


def strength(truth: Truth, kind: ShiftKind, at_us: int) -> float:
    """How far the shifts of a kind have come: 0 before the start, their size when ramped up."""
    day = (at_us - round(truth.end.timestamp() * 1e6)) / DAY_US
    return sum(_at(shift, day) for shift in truth.config.shifts if shift.kind == kind)


def novelty_of_change(truth: Truth, at_us: np.ndarray) -> np.ndarray:
    """(S,) logits that a change of the platform adds for a while, falling to 1/e in novelty_days."""
    day = (at_us - round(truth.end.timestamp() * 1e6)) / DAY_US
    added = np.zeros(len(at_us))
    for shift in truth.config.shifts:
        if shift.kind == "novelty":
            since = day - shift.start_day
            faded = np.exp(-np.maximum(since, 0) / truth.config.novelty_days)
            added += np.where(since >= 0, shift.size * faded, 0.0)
    return added


def timeline(truth: Truth) -> list[dict[str, Any]]:
    """All that changes, by time; moments are ISO 8601 in UTC."""
    shifts = [_told(truth, shift) for shift in truth.config.shifts]
    items = truth.items
    hits = [
        {"kind": "hit", "item_id": str(items.ids[ix]), "begins_at": _moment(items.hit_at[ix])}
        for ix in np.flatnonzero(items.hit_at != NEVER_US)
    ]
    return sorted(shifts + hits, key=lambda change: str(change["begins_at"]))


def _at(shift: Shift, day: float) -> float:
    since = day - shift.start_day
    if since < 0 or (shift.days is not None and since >= shift.days):
        return 0.0
    return shift.size * (min(1.0, since / shift.ramp_days) if shift.ramp_days else 1.0)


def _told(truth: Truth, shift: Shift) -> dict[str, Any]:
    begins_at = truth.end + timedelta(days=shift.start_day)
    ends_at = begins_at + timedelta(days=shift.days) if shift.days is not None else None
    return {
        "kind": shift.kind,
        "size": shift.size,
        "begins_at": begins_at.isoformat(),
        "full_at": (begins_at + timedelta(days=shift.ramp_days)).isoformat(),
        "ends_at": ends_at.isoformat() if ends_at else None,
    }


def _moment(at_us: int) -> str:
    return (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=int(at_us))).isoformat()
