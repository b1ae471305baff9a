"""Between ingest and training: are the newest days, and the newest feature rows, fit to learn from?

    lake, offline store -> monitoring/quality.py -> reports/quality.json
                                                    monitoring/quality.json, which the gate reads

A failed batch blocks training and promotion until it is mended, or somebody accepts the day by name.

python -m pipelines.check_quality [--now 2026-03-02T02:00:00+00:00]
"""

import argparse
import json
from collections.abc import Iterator
from dataclasses import asdict
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq

from features.batch import AS_OF
from features.definitions import BATCH_VIEWS, HOUR, VIEWS
from features.errors import ContractError
from infra.reports import report, write_json
from infra.settings import Settings
from infra.workspace import Workspace
from monitoring.quality import (
    BEFORE,
    Finding,
    Known,
    day_findings,
    freshness,
    view_findings,
)
from pipelines.days import known_day, known_hour, serve_from, split_of
from pipelines.lake import read_events, read_items, read_users
from pipelines.stamps import digest_of, lake_stamps

JUDGED = 7
"""Days judged each time: a fault is found in its first batch, and not forgotten by the weekend."""

TABLES_BEFORE = 7
"""Days of a view that its newest rows are compared with."""


class BadBatch(ContractError):
    """A batch failed its checks; nothing is learned from it."""


def check_quality(workspace: Workspace, now: datetime | None = None) -> dict[str, Any]:
    """Judge the newest days of the lake and the newest rows of each batch view.

    Args:
        workspace: with a lake; views that were never computed are not judged.
        now: of a running shop; None = the data lies still, and the first night after it is now.

    Returns:
        passed; batches: what was judged; failed and warned: findings as in monitoring/quality.py;
        because: the failures as a sentence. The same is in `reports/quality.json`.
    """
    split = split_of(workspace)
    moment = now or serve_from(split)
    with report(workspace.reports, "quality", []) as metrics:
        days = list(_days(workspace, now))
        known = _known(workspace)
        judged = min(JUDGED, len(days))
        accepted = frozenset(accepted_days(workspace))
        found = day_findings(days, judged, known, accepted, may_be_cut=now is None)
        newest = max(events["event_at"].max() for _, events in days if len(events))
        found += freshness("events", newest.to_pydatetime(), now) if now else []
        views = [view for view in BATCH_VIEWS if list((workspace.offline / view).glob("*.parquet"))]
        for view in views:
            found += _judged(workspace.offline, view, moment)
        failed = [finding for finding in found if finding.severity == "fail"]
        metrics.update({
            "dataset": workspace.name,
            "passed": not failed,
            "batches": [f"events {day}" for day, _ in days[-judged:]] + views,
            "failed": [asdict(finding) for finding in failed],
            "warned": [asdict(finding) for finding in found if finding.severity == "warn"],
            "because": told(failed),
        })  # fmt: skip
    write_json(_verdict(workspace), {**metrics, "lake": _lake(workspace)})
    return metrics


def require_quality(workspace: Workspace, now: datetime | None = None) -> str:
    """Check, and say so; a failed batch ends the step.

    Raises:
        BadBatch: names check, batch, column, what was found and expected, and the remedy.
    """
    checked = check_quality(workspace, now)
    if not checked["passed"]:
        raise BadBatch(f"training is blocked: {checked['because']}")
    return f"{len(checked['batches'])} batches, {len(checked['warned'])} warnings"


def failed_batch(workspace: Workspace) -> str | None:
    """What the last check said of this very lake, if it failed; None where nobody looked since."""
    try:
        verdict = json.loads(_verdict(workspace).read_text())
    except FileNotFoundError:
        return None
    if verdict["passed"] or verdict["lake"] != _lake(workspace):
        return None
    return str(verdict["because"])


def accept(workspace: Workspace, day: date) -> None:
    """Let a day pass from now on, whatever its checks say; its findings become warnings."""
    days = sorted({*accepted_days(workspace), day})
    write_json(_accepted(workspace), [each.isoformat() for each in days])


def accepted_days(workspace: Workspace) -> list[date]:
    """Days that somebody looked at and let pass."""
    path = _accepted(workspace)
    return (
        [date.fromisoformat(day) for day in json.loads(path.read_text())] if path.exists() else []
    )


def told(findings: list[Finding], most: int = 3) -> str:
    """Findings as a sentence."""
    named = [
        f"{f.batch}: {f.check}{f' of {f.column}' if f.column else ''} is {f.found}, expected "
        f"{f.expected}; {f.remedy}"
        for f in findings[:most]
    ]
    more = [f"and {len(findings) - most} more"] if len(findings) > most else []
    return " | ".join(named + more)


def _days(workspace: Workspace, now: datetime | None) -> Iterator[tuple[date, pd.DataFrame]]:
    """The newest full days before `now`, without gaps, and as many before them as are compared."""
    last = _end(workspace)
    if now is not None:
        last = min(datetime.combine(now.astimezone(UTC).date(), datetime.min.time(), UTC), last)
    first = last - timedelta(days=JUDGED + BEFORE)
    events = read_events(workspace.lake, first, last)
    if events.empty:
        raise ContractError(
            f"no event between {first:%Y-%m-%d} and {last:%Y-%m-%d} in the lake of "
            f"'{workspace.name}', expected a batch to judge; ingest first"
        )
    by_day = dict(tuple(events.groupby(events["event_at"].dt.date)))
    day: date = min(by_day)
    while day < last.date():
        yield day, by_day.get(day, events.iloc[:0])
        day += timedelta(days=1)


def _end(workspace: Workspace) -> datetime:
    """The midnight after the newest day of the lake."""
    folder = max((workspace.lake / "events").glob("event_date=*"))
    newest = date.fromisoformat(folder.name.removeprefix("event_date="))
    return datetime.combine(newest, datetime.min.time(), UTC) + timedelta(days=1)


def _known(workspace: Workspace) -> Known:
    items, users = read_items(workspace.lake), read_users(workspace.lake)
    is_described = (
        items["price"].notna() | items["created_at"].notna() | (items["title"] != items["item_id"])
    )
    return Known(
        category=dict(zip(items["item_id"], items["category"], strict=True)),
        described=frozenset(items.loc[is_described, "item_id"]),
        users=frozenset(users["user_id"]),
    )


def _judged(offline: Path, view: str, now: datetime) -> list[Finding]:
    """The newest rows of a view; of a daily one beside those of the days before."""
    files = sorted((offline / view).glob("*.parquet"))[-(TABLES_BEFORE + 1) :]
    tables = [pq.read_table(path, partitioning=None).to_pandas() for path in files]
    newest = tables[-1]
    if newest.empty:
        return []
    moment = newest[AS_OF].max()
    rows = newest[newest[AS_OF] == moment]
    if VIEWS[view].every == HOUR:
        return view_findings(view, moment.to_pydatetime(), rows, [], known_hour(now))
    midnight = datetime.combine(known_day(now), datetime.min.time(), UTC)
    return view_findings(view, moment.to_pydatetime(), rows, tables[:-1], midnight)


def _lake(workspace: Workspace) -> str:
    return digest_of("quality", lake_stamps(workspace.lake))


def _verdict(workspace: Workspace) -> Path:
    return workspace.monitoring / "quality.json"


def _accepted(workspace: Workspace) -> Path:
    return workspace.monitoring / "quality-accepted.json"


def main() -> None:
    """Command line of this step; prints the verdict as one line of JSON."""
    parser = argparse.ArgumentParser(prog="python -m pipelines.check_quality", description=__doc__)
    parser.add_argument("--now", type=datetime.fromisoformat, default=None)
    asked = parser.parse_args()
    checked = check_quality(Workspace.of(Settings()), asked.now)
    print(json.dumps({name: checked[name] for name in ("passed", "because", "batches")}))


if __name__ == "__main__":
    main()
