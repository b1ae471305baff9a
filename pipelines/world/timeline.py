"""What really changes, and when: the answer key for whoever watches the platform.

    {"kind": "concept", "size": 0.6, "begins_at": ..., "full_at": ..., "ends_at": null}

    covariate, concept, incident, novelty   the shifts of the configuration
    launch, retirement, hit                 of one item; they move numbers without anything being wrong
    season                                  of one category, or of everybody's visits (category null)
    walk                                    of tastes, all the time

What fades has ended when a twentieth is left; what stays for good has no end. Sizes are in the units
of the parameter that they come from (docs/world.md): shares or logits.
"""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np

from pipelines.world.config import Shift, ShiftKind
from pipelines.world.titles import CATEGORIES
from pipelines.world.truth import NEVER_US, Truth

DAY_US = 86_400_000_000

YEAR_DAYS, YEAR_SIZE, YEAR_PEAK = 365.25, 0.1, 340
"""Visits swing by a tenth over the year, most of them in December."""

FADED = np.log(20)
"""Times to 1/e until a twentieth is left."""

Change = dict[str, Any]


def strength(truth: Truth, kind: ShiftKind, at_us: int) -> float:
    """How far the shifts of a kind have come: 0 before the start, their size when ramped up."""
    day = _day(truth, np.array([at_us]))
    return float(sum(_at(shift, day)[0] for shift in truth.config.shifts if shift.kind == kind))


def novelty_of_change(truth: Truth, at_us: np.ndarray) -> np.ndarray:
    """(S,) logits that a change of the platform adds for a while, falling to 1/e in novelty_days.

    The fall begins when the change is there in full.
    """
    day = _day(truth, at_us)
    added = np.zeros(len(at_us))
    for shift in truth.config.shifts:
        if shift.kind == "novelty":
            since = np.maximum(day - shift.start_day - shift.ramp_days, 0.0)
            added += _at(shift, day) * np.exp(-since / truth.config.novelty_days)
    return added


def timeline(truth: Truth) -> list[Change]:
    """All that changes from the first day of the logged past to the horizon, by its beginning.

    Moments are ISO 8601 in UTC. What was under way before that is listed too, if it is not over.
    """
    changes = [*_shifts(truth), *_of_items(truth), *_seasons(truth)]
    if truth.config.on("walk") and truth.config.walk_sigma:
        changes.append(_change("walk", truth.config.walk_sigma, _span(truth)[0]))
    return sorted(changes, key=_order)


def merged(first: list[Change], second: list[Change]) -> list[Change]:
    """Both, what is in both once."""
    return sorted([*first, *(change for change in second if change not in first)], key=_order)


def _order(change: Change) -> tuple[str, ...]:
    return tuple(str(change.get(key)) for key in ("begins_at", "kind", "item_id", "category"))


def _day(truth: Truth, at_us: np.ndarray) -> np.ndarray:
    """Days since the end of the logged past."""
    days: np.ndarray = (at_us - round(truth.end.timestamp() * 1e6)) / DAY_US
    return days


def _at(shift: Shift, day: np.ndarray) -> np.ndarray:
    """The shift's size on its days, less while it ramps up, 0 elsewhere."""
    since = day - shift.start_day
    there = since >= 0 if shift.days is None else (since >= 0) & (since < shift.days)
    come = np.minimum(since / shift.ramp_days, 1.0) if shift.ramp_days else 1.0
    return np.where(there, shift.size * come, 0.0)


def _span(truth: Truth) -> tuple[int, int]:
    """First µs of the logged past, and the end of what is laid down."""
    end_us, config = round(truth.end.timestamp() * 1e6), truth.config
    return end_us - config.days * DAY_US, end_us + config.horizon_days * DAY_US


def _shifts(truth: Truth) -> Iterator[Change]:
    end_us = round(truth.end.timestamp() * 1e6)
    for shift in truth.config.shifts:
        ends = np.inf if shift.days is None else shift.days
        if shift.kind == "novelty":
            ends = min(ends, shift.ramp_days + FADED * truth.config.novelty_days)
        begins_us = end_us + shift.start_day * DAY_US
        yield _change(shift.kind, shift.size, begins_us, shift.ramp_days, ends)


def _of_items(truth: Truth) -> Iterator[Change]:
    """Launches, hits and retirements within the span."""
    items, config = truth.items, truth.config
    low, high = _span(truth)

    def within(at_us: np.ndarray) -> np.ndarray:
        return np.flatnonzero((at_us >= low) & (at_us < high) & (at_us != NEVER_US))

    if config.on("lifecycle"):
        for ix in within(items.launched_at):
            fades = items.half_life_days[ix] * FADED / np.log(2)
            yield _change("launch", config.charm, items.launched_at[ix], 0, fades, items.ids[ix])
    for ix in within(items.retires_at):
        yield _change("retirement", 1.0, items.retires_at[ix], item_id=items.ids[ix])
    for ix in within(items.hit_at):
        fades = FADED * config.hit_days
        yield _change("hit", config.hit_size, items.hit_at[ix], 0, fades, items.ids[ix])


def _seasons(truth: Truth) -> Iterator[Change]:
    """From the trough before each peak to the trough after it."""
    if not truth.config.on("season"):
        return
    peaks: list[tuple[str | None, float, float]] = [(None, YEAR_SIZE, YEAR_PEAK)]
    for number, category in enumerate(CATEGORIES):
        of_category = truth.items.season_peak[truth.items.category == number]
        if len(of_category):
            peaks.append((category, truth.config.season_size, float(of_category[0])))
    low, high = (moment / DAY_US for moment in _span(truth))
    for name, size, peak in peaks:
        for year in range(int(low / YEAR_DAYS) - 1, int(high / YEAR_DAYS) + 2):
            begins = peak + (year - 0.5) * YEAR_DAYS
            if begins < high and begins + YEAR_DAYS > low:
                at_us = round(begins * DAY_US)
                yield _change("season", size, at_us, YEAR_DAYS / 2, YEAR_DAYS) | {"category": name}


def _change(
    kind: str,
    size: float,
    begins_us: int,
    ramp_days: float = 0.0,
    days: float = np.inf,
    item_id: str | None = None,
) -> Change:
    begins_at = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=int(begins_us))
    told: Change = {
        "kind": kind,
        "size": float(size),
        "begins_at": begins_at.isoformat(),
        "full_at": (begins_at + timedelta(days=ramp_days)).isoformat(),
        "ends_at": None
        if days == np.inf
        else (begins_at + timedelta(days=float(days))).isoformat(),
    }
    return told if item_id is None else told | {"item_id": str(item_id)}
