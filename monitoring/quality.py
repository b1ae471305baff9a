"""Is a new batch fit to learn from? Each day of events, and each view's newest rows, before training.

The edge (pipelines/validate.py) refuses rows that cannot be; a batch can be made of good rows only and
be wrong all the same: half of it missing, prices in another unit, a column that went empty, the same
clicks sent twice under new ids. So a batch is compared with the batches before it.

Limits are wide: a check that cries on a holiday is switched off before the day it is needed. What
breaks a limit fails the batch; what comes near it is a warning, and blocks nothing.
"""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Literal

import numpy as np
import pandas as pd
import pandera.pandas as pa

from features.definitions import VIEWS, Feature, stored_of
from features.schema import EVENT_TYPES

Severity = Literal["fail", "warn"]

BEFORE = 28
"""Days that a day is compared with, at most."""

DAYS_NEEDED = 5
"""With fewer days before it a day is judged by itself only."""

ROWS_NEEDED = 100
"""Of a day, in the middle of the days before: a share of fewer rows says nothing."""


COVERED = 0.9

ACTS = tuple(kind for kind in EVENT_TYPES if kind != "impression")
"""What users do; impressions are ours and have no session."""


@dataclass(frozen=True, slots=True)
class Limits:
    """When a batch is no longer like those before it: (warn, fail)."""

    volume: tuple[float, float] = (3.0, 8.0)  # times more or less than the median day, and ...
    beyond: float = 2.0  # ... this many times beyond every day before
    share: tuple[float, float] = (0.2, 0.4)  # how far a share may move from the median day's
    level: tuple[float, float] = (3.0, 10.0)  # times the median day's median value
    age: tuple[timedelta, timedelta] = (timedelta(hours=30), timedelta(days=3))


LIMITS = Limits()


@dataclass(frozen=True, slots=True)
class Finding:
    """One check that a batch did not pass."""

    severity: Severity
    check: str
    batch: str  # "events 2026-03-01", "item_daily 2026-03-01"
    column: str
    found: str
    expected: str
    remedy: str


@dataclass(frozen=True, slots=True)
class Known:
    """What the catalogue says, for events to be compared with."""

    category: Mapping[str, str]  # of every item
    described: frozenset[str]  # items with more than an id
    users: frozenset[str]


def day_findings(
    days: Sequence[tuple[date, pd.DataFrame]],
    judged: int,
    known: Known,
    accepted: frozenset[date] = frozenset(),
    may_be_cut: bool = False,
    limits: Limits = LIMITS,
) -> list[Finding]:
    """What is wrong with the newest days.

    Args:
        days: (day, its events) without gaps, oldest first; a day without events has an empty frame.
        judged: how many of the newest; the others are what they are compared with.
        known: items and users of the lake.
        accepted: days that somebody looked at and let pass: their findings are warnings.
        may_be_cut: whether the data may end within the newest day, as a file's does; a day that
            covers less than COVERED of its hours is then not blamed for its volume.
        limits: when to warn and to fail.

    Returns:
        In the order of the days. A day that failed is no example for the days after it.

    Interview: Every row passes validation. What can still be wrong with the data?
        Everything that shows in the batch only. A third of it is missing, because one partition
        was not read; prices come in cents; a client sends each click twice under new ids; a new
        app version forgets the position. So each day is compared with the month before it, in
        volume, empty cells, levels, repeats and categories, and a failed day blocks training:
        a model trained on it would learn the fault, and the drift alarm would ask for just that.
        Trade-off: a true change looks the same. Somebody has to look, and accepts the day by name.
        Shown by: tests/monitoring/test_quality.py::test_each_fault_is_found_and_named
    """
    found: list[Finding] = []
    facts: list[dict[str, float]] = []
    first = len(days) - judged
    seen_ids: set[str] = set()
    seen_categories: set[str] = set()
    for place, (day, events) in enumerate(days):
        fact = day_facts(events, known, seen_categories)
        seen_categories |= set(events["item_id"].map(known.category).dropna())
        if place >= first:
            batch = f"events {day}"
            mine = by_itself(batch, events, known, seen_ids)
            is_cut = may_be_cut and place == len(days) - 1 and _covered(day, events) < COVERED
            if not is_cut:
                mine += beside_the_others(batch, fact, facts[-BEFORE:], limits)
            if day in accepted:
                mine = [_as_warning(finding) for finding in mine]
            found += mine
            if any(finding.severity == "fail" for finding in mine):
                continue
        facts.append(fact)
        seen_ids.update(events["event_id"])
    return found


def _covered(day: date, events: pd.DataFrame) -> float:
    """The share of the day up to its last event."""
    midnight = pd.Timestamp(day, tz="UTC")
    return 0.0 if events.empty else (events["event_at"].max() - midnight) / timedelta(days=1)


EVENT_SCHEMA = pa.DataFrameSchema(
    {
        **{
            name: pa.Column(None, pa.Check(lambda s: s.astype(str) != "", error="empty"))
            for name in ("event_id", "user_id", "item_id")
        },
        "event_type": pa.Column(None, pa.Check.isin(EVENT_TYPES, error="a known type")),
        "event_at": pa.Column(None),
        "seen_at": pa.Column(None),
        "position": pa.Column(None, pa.Check.ge(1, error="at least 1"), nullable=True),
        "value": pa.Column(None, pa.Check.ge(0, error="not negative"), nullable=True),
        "propensity": pa.Column(None, pa.Check.in_range(0, 1, error="in 0..1"), nullable=True),
    }
)
"""What holds of every event in the lake, whoever wrote the file."""

REPAIR = "find out who wrote the file, remove the day and ingest it again"


def by_itself(batch: str, events: pd.DataFrame, known: Known, seen_ids: set[str]) -> list[Finding]:
    """Nulls, ranges, unique ids, and items and users that the catalogue does not have."""
    found = broken(batch, EVENT_SCHEMA, events, REPAIR)
    repeats = events["event_id"].duplicated() | events["event_id"].isin(seen_ids)
    for check, column, rows, remedy in (
        ("uniqueness", "event_id", repeats, REPAIR),
        ("unknown items", "item_id", ~events["item_id"].isin(known.category), "run ingest again"),
        ("unknown users", "user_id", ~events["user_id"].isin(known.users), "run ingest again"),
    ):
        if count := int(rows.sum()):
            found.append(Finding("fail", check, batch, column, f"{count} rows", "none", remedy))
    return found


def broken(
    batch: str, schema: pa.DataFrameSchema, table: pd.DataFrame, remedy: str
) -> list[Finding]:
    """What pandera finds, one finding per column and check."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # of pandas, about pandera's own code
            schema.validate(table, lazy=True)
    except pa.errors.SchemaErrors as error:
        cases = error.failure_cases
        return [
            Finding(
                "fail",
                "nulls" if check == "not_nullable" else "range",
                batch,
                str(column),
                f"{len(group)} rows" + _example(group),
                "no missing value" if check == "not_nullable" else str(check),
                remedy,
            )
            for (column, check), group in cases.groupby(["column", "check"], sort=False)
        ]
    return []


def _example(group: pd.DataFrame) -> str:
    value = group["failure_case"].iloc[0]
    return "" if value is None or pd.isna(value) else f", such as {value}"


NULLS = {
    "position": ("impression",),
    "value": ("purchase", "rating"),
    "session_id": ACTS,
    "request_id": EVENT_TYPES,
    "context": EVENT_TYPES,
}
"""Columns that may be empty, and the types of events for which that is compared."""


def day_facts(events: pd.DataFrame, known: Known, seen_categories: set[str]) -> dict[str, float]:
    """A day in numbers: `rows`, and `share|level : check : column`; NaN where it has no rows."""
    facts = {"rows": float(len(events))}
    kinds = events["event_type"]
    for column, types in NULLS.items():
        cells = events.loc[kinds.isin(types), column]
        facts[f"share:nulls:{column}"] = float(cells.isna().mean()) if len(cells) else np.nan
    for kind in ("purchase", "rating"):
        values = events.loc[kinds == kind, "value"].dropna()
        enough = len(values) >= ROWS_NEEDED // 4
        facts[f"level:level of {kind}s:value"] = float(values.median()) if enough else np.nan
    if events.empty:
        return facts
    same = ["user_id", "item_id", "event_type", "event_at", "request_id", "position"]
    facts["share:repeats under new ids:event_id"] = float(events.duplicated(same).mean())
    facts["share:undescribed items:item_id"] = float(
        (~events["item_id"].isin(known.described)).mean()
    )
    categories = events["item_id"].map(known.category)
    if seen_categories:
        facts["share:new categories:category"] = float((~categories.isin(seen_categories)).mean())
    for kind in EVENT_TYPES:
        facts[f"share:mix of types:{kind}"] = float((kinds == kind).mean())
    return facts


REMEDIES = {
    "nulls": "ask who sends the column what changed; mend it at the source and ingest again",
    "level": "look for another unit (cents for euros); mend the source and ingest again",
    "repeats": "a client repeats events under new ids: keep one of each and ingest again",
    "undescribed": "load the catalogue that has these items, then ingest again",
    "new": "load the catalogue, or accept the day if the shop really has new shelves",
    "mix": "a producer is silent or noisy; find out which, or accept the day",
}
"""By the first word of a check."""


def beside_the_others(
    batch: str, fact: Mapping[str, float], before: Sequence[Mapping[str, float]], limits: Limits
) -> list[Finding]:
    """Volume, shares and levels against the days before."""
    rows = [day["rows"] for day in before]
    if len(rows) < DAYS_NEEDED or np.median(rows) < ROWS_NEEDED:
        return []
    found = volume(batch, fact["rows"], rows, limits)
    if fact["rows"] < ROWS_NEEDED:
        return found
    for name, value in fact.items():
        kind, _, rest = name.partition(":")
        usual = [day[name] for day in before if not np.isnan(day.get(name, np.nan))]
        if kind == "rows" or np.isnan(value) or len(usual) < DAYS_NEEDED:
            continue
        check, _, column = rest.partition(":")
        judge = _share if kind == "share" else _level
        severity = judge(value, usual, limits)
        if severity:
            remedy = REMEDIES[check.split()[0]]
            told = f"about {np.median(usual):.3g} ({min(usual):.3g} … {max(usual):.3g} before)"
            found.append(Finding(severity, check, batch, column, f"{value:.3g}", told, remedy))
    return found


def volume(batch: str, rows: float, before: Sequence[float], limits: Limits) -> list[Finding]:
    """Rows against the median of the batches before, and against the least and the most of them."""
    median, least, most = float(np.median(before)), min(before), max(before)
    times = max(rows / median, median / rows if rows else np.inf)
    is_out = rows > most * limits.beyond or rows < least / limits.beyond
    severity = _severity(times, limits.volume) if is_out else None
    if severity is None:
        return []
    told = f"about {median:.0f} ({least:.0f} … {most:.0f} before)"
    remedy = (
        "a partition or a producer is missing: look at lag and quarantine, then ingest the rest"
        if rows < median
        else "look for bots or a batch that was sent twice; remove it and ingest again"
    )
    return [Finding(severity, "volume", batch, "", f"{rows:.0f} rows", told, remedy)]


def _share(value: float, usual: Sequence[float], limits: Limits) -> Severity | None:
    """How far it lies from the median, and outside of all that was there before."""
    outside = max(min(usual) - value, value - max(usual), 0.0)
    moved = abs(value - float(np.median(usual)))
    return _severity(min(moved, 2 * outside), limits.share)


def _level(value: float, usual: Sequence[float], limits: Limits) -> Severity | None:
    median = float(np.median(usual))
    if median <= 0:
        return None
    return _severity(max(value / median, median / value if value else np.inf), limits.level)


def _severity(size: float, limits: tuple[float, float]) -> Severity | None:
    warn, fail = limits
    return "fail" if size >= fail else "warn" if size >= warn else None


def freshness(what: str, newest: datetime, now: datetime, limits: Limits = LIMITS) -> list[Finding]:
    """The age of the newest event."""
    age = now - newest
    warn, fail = limits.age
    if age < warn:
        return []
    return [
        Finding(
            "fail" if age >= fail else "warn",
            "freshness",
            what,
            "event_at",
            f"{age / timedelta(hours=1):.1f} h old",
            f"at most {fail / timedelta(hours=1):.0f} h",
            "see that events arrive (API, relay, log) and run ingest",
        )
    ]


RANGES = {
    "probability": (0.0, 1.0),
    "share": (0.0, 1.0),
    "quantile": (0.0, 1.0),
    "cosine": (-1.0, 1.0),
}
"""By a feature's unit; whatever else is stored is a count, a time or money, and not negative."""

AGAIN = "remove the view's files below offline/ and run `shortlist features`"


def view_schema(view: str) -> pa.DataFrameSchema:
    """What holds of every row of a view, from the table of definitions."""
    columns = {key: pa.Column(None) for key in VIEWS[view].entity}
    return pa.DataFrameSchema(columns | {f.column: _column(f) for f in stored_of(view)})


def _column(feature: Feature) -> pa.Column:
    low, high = RANGES.get(feature.unit, (0.0, np.inf))
    told = f"{low:g} … {high:g} ({feature.unit})"
    return pa.Column(None, pa.Check.in_range(low, high, include_max=True, error=told))


def view_findings(
    view: str,
    moment: datetime,
    rows: pd.DataFrame,
    before: Sequence[pd.DataFrame],
    known_until: datetime,
    limits: Limits = LIMITS,
) -> list[Finding]:
    """What is wrong with a view's newest rows.

    Args:
        view: of features/definitions.py.
        moment: when they hold.
        rows: of that moment.
        before: of moments before it, oldest first; empty where only the rows themselves are judged.
        known_until: the newest moment whose rows are known by now.
        limits: of the volume.
    """
    batch, keys = f"{view} {moment:%Y-%m-%d %H:%M}", list(VIEWS[view].entity)
    found = broken(batch, view_schema(view), rows, AGAIN)
    if repeats := int(rows.duplicated(keys).sum()):
        told = (f"{repeats} rows", "one row each")
        found.append(Finding("fail", "uniqueness", batch, "+".join(keys), *told, AGAIN))
    ttl = VIEWS[view].ttl
    if ttl is not None and known_until - moment > ttl:
        told = (f"{(known_until - moment) / timedelta(hours=1):.0f} h behind", f"within {ttl}")
        remedy = "run `shortlist features`: a join would find no row"
        found.append(Finding("fail", "freshness", batch, "as_of", *told, remedy))
    if len(before) < DAYS_NEEDED or np.median([len(table) for table in before]) < ROWS_NEEDED:
        return found
    found += volume(batch, float(len(rows)), [float(len(table)) for table in before], limits)
    for feature in stored_of(view):
        column = feature.column
        if rows[column].nunique() <= 1 and all(t[column].nunique() > 1 for t in before):
            told = (f"{rows[column].iloc[0]:g} in every row", "values that differ, as before")
            found.append(Finding("fail", "frozen", batch, column, *told, AGAIN))
    return found


def _as_warning(finding: Finding) -> Finding:
    told = {name: getattr(finding, name) for name in Finding.__slots__}
    return Finding(**{**told, "severity": "warn", "remedy": "accepted by name"})
