"""The position curves of a lake, one a week, kept beside the features that are computed with them.

    offline/position_curve.parquet    week, first_day, position, rate, version, made_from

A week's curve is fitted on the BATCH_WINDOW_DAYS before its Monday. It is fitted once; only when one
of those days changed in the lake is it fitted again, and then its version says so.
"""

from collections.abc import Iterable, Mapping
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from features.definitions import BATCH_WINDOW_DAYS
from features.position_curve import (
    ESTIMATOR,
    FLAT,
    MAX_POSITION,
    MONDAY,
    UNKNOWN_POSITION,
    Curve,
    fit,
    version_of,
)
from infra.duck import open_duckdb
from infra.workspace import Workspace
from pipelines.lake import read_info
from pipelines.offline_file import replaced
from pipelines.stamps import digest_of, lake_stamps

FILE = "position_curve.parquet"

SCHEMA = pa.schema(
    [
        ("week", pa.int64()),
        ("first_day", pa.date32()),
        ("position", pa.int64()),
        ("rate", pa.float64()),
        ("version", pa.string()),
        ("made_from", pa.string()),
    ]
)


def curves_of(workspace: Workspace, weeks: Iterable[int]) -> dict[int, Curve]:
    """The curve of each week; fits those that are missing or whose past changed, and keeps all.

    Args:
        workspace: its lake is read; FILE in its offline folder is read and replaced.
        weeks: numbers, see `features.position_curve.week_of`.

    Returns:
        Week -> curve. Weeks before the first click, and shops without slates, have FLAT.
    """
    if not read_info(workspace.lake).has_impressions:
        return dict.fromkeys(weeks, FLAT)
    path, stamps = workspace.offline / FILE, lake_stamps(workspace.lake)
    known = _read(path)
    curves, made_from = {}, {}
    for week in weeks:
        window = _window(stamps, week)
        made_from[week] = digest_of(ESTIMATOR, window)
        if week in known and known[week][1] == made_from[week]:
            curves[week] = known[week][0]
        else:
            curves[week] = _fitted(workspace.lake, window)
    if {**known, **{week: (curves[week], made_from[week]) for week in curves}} != known:
        _write(path, known, curves, made_from)
    return curves


def curves_seen(workspace: Workspace, weeks: Iterable[int], until: datetime) -> dict[int, Curve]:
    """As `curves_of`, from what had arrived before `until`; nothing is kept."""
    if not read_info(workspace.lake).has_impressions:
        return dict.fromkeys(weeks, FLAT)
    stamps = lake_stamps(workspace.lake)
    return {week: _fitted(workspace.lake, _window(stamps, week), until) for week in weeks}


def _window(stamps: Mapping[date, str], week: int) -> dict[date, str]:
    """The days of the lake that a week's curve is fitted on, with their stamps."""
    monday = _monday(week)
    first = monday - timedelta(days=BATCH_WINDOW_DAYS)
    return {day: stamp for day, stamp in stamps.items() if first <= day < monday}


def _fitted(lake: Path, days: Mapping[date, str], until: datetime | None = None) -> Curve:
    """The curve that these days of the lake tell, or what of them had arrived before `until`."""
    if not days:
        return FLAT
    with open_duckdb() as connection:
        counts = connection.execute(
            f"""
            WITH events AS (SELECT * FROM read_parquet(?)
                            WHERE event_type IN ('impression', 'click') AND seen_at < ?),
            chosen AS (SELECT DISTINCT request_id, item_id FROM events
                       WHERE event_type = 'click' AND request_id IS NOT NULL)
            SELECT i.item_id AS item,
                   coalesce(least(i.position, {MAX_POSITION}), {UNKNOWN_POSITION}) AS position,
                   count(*) AS shown, count(c.item_id) AS clicks
            FROM events i LEFT JOIN chosen c
                 ON c.request_id = i.request_id AND c.item_id = i.item_id
            WHERE i.event_type = 'impression' GROUP BY 1, 2 ORDER BY 1, 2""",
            [
                [
                    str(lake / "events" / f"event_date={day}" / "part.parquet")
                    for day in sorted(days)
                ],
                until or datetime.max.replace(tzinfo=UTC),
            ],
        ).fetchnumpy()
    if not len(counts["item"]):
        return FLAT
    return fit(counts["item"].astype(str), *(counts[n] for n in ("position", "shown", "clicks")))


def _read(path: Path) -> dict[int, tuple[Curve, str]]:
    """Week -> its curve and what it was made from."""
    if not path.exists():
        return {}
    found: dict[int, tuple[dict[int, float], str]] = {}
    for row in pq.read_table(path).to_pylist():
        found.setdefault(row["week"], ({}, row["made_from"]))[0][row["position"]] = row["rate"]
    return {week: (curve, made_from) for week, (curve, made_from) in found.items()}


def _write(
    path: Path,
    known: Mapping[int, tuple[Curve, str]],
    curves: Mapping[int, Curve],
    made_from: Mapping[int, str],
) -> None:
    merged = {**known, **{week: (curve, made_from[week]) for week, curve in curves.items()}}
    rows = [
        {
            "week": week, "first_day": _monday(week), "position": position, "rate": rate,
            "version": version_of(curve), "made_from": origin,
        }
        for week, (curve, origin) in sorted(merged.items())
        for position, rate in sorted(curve.items())
    ]  # fmt: skip
    with replaced(path, SCHEMA) as write:
        write(pa.Table.from_pylist(rows, SCHEMA))


def _monday(week: int) -> date:
    return date(1970, 1, 1) + timedelta(days=7 * week - MONDAY)
