"""Does the model still see what it was trained to see? Served rows against the bundle's reference.

Evidently measures and draws; this file chooses the columns, the methods and the thresholds, and
returns numbers for policy.py. Both sides are rows of the model's input plus `score`.

Why distances and not p-values: a test's verdict depends on the number of rows, and ten rows of one
slate share a user, so rows are not independent. With thousands of rows every harmless difference is
"significant". A distance has a size; its noise with a few hundred users lies below the thresholds.
"""

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from evidently import DataDefinition, Dataset, Report
from evidently.presets import DataDriftPreset

from features.definitions import BY_COLUMN, FEATURE_NAMES
from infra.event_log import Reader
from infra.reports import write_json
from monitoring.policy import MOMENTARY

SCORE = "score"
METHODS = {"number": ("wasserstein", 0.25), "category": ("jensenshannon", 0.2)}
"""Distance and threshold. wasserstein: mean shift in standard deviations of the reference.
jensenshannon: 0 = same shares, 0.83 = nothing in common. Two groups of 300 users differ by up to
0.2 in a skewed column; half of all visitors being of a new kind moves theirs by 0.4 and more."""

ROWS_MAX = 20_000
"""Rows of a side that are compared, drawn with a fixed seed: more take longer and change nothing."""

READ_AT_ONCE = 500

REPORTS_KEPT = 20
"""Newest reports; each page is five megabytes, and a monitor that runs for weeks makes many."""


def served_frame(
    log: Reader,
    since: datetime | None = None,
    until: datetime | None = None,
    bundle: str | None = None,
    newest: int | None = None,
    columns: Sequence[str] = FEATURE_NAMES,
) -> pd.DataFrame:
    """What the model read and said for every served item, from the log's topic `served`.

    Args:
        log: the event log.
        since: served at or after this moment; None = from the beginning.
        until: served before this moment; None = to the end.
        bundle: only what this bundle served; scores of two bundles do not compare.
        newest: read no more than so many of the newest slates of each partition; None = all. A log
            that grows for weeks is not to be read whole to judge the last hour.
        columns: features of the bundle, in its order.

    Returns:
        `columns` and `score`, one row per item. Slates without features (the popular
        arm, the lower rungs) are left out. Missing values are NaN.
    """
    blocks = [np.empty((0, len(columns) + 1))]
    for partition in range(log.partitions):
        end = log.end_offset("served", partition)
        offset = 0 if newest is None else max(end - newest, 0)
        while offset < end and (records := log.read("served", partition, offset, READ_AT_ONCE)):
            offset = records[-1].offset + 1
            blocks += [
                np.column_stack(
                    [
                        np.array(slate["features"], dtype=np.float64),
                        np.array(slate["scores"], dtype=np.float64),
                    ]
                )
                for slate in (record.value for record in records)
                if slate.get("features")  # nothing is there of who was forgotten
                and bundle in (None, slate["bundle"])
                and _within(slate["served_at"], since, until)
            ]
    return pd.DataFrame(np.concatenate(blocks), columns=[*columns, SCORE])


def _within(served_at: str, since: datetime | None, until: datetime | None) -> bool:
    at = datetime.fromisoformat(served_at)
    return (since is None or at >= since) and (until is None or at < until)


def drift_report(reference: pd.DataFrame, current: pd.DataFrame, out_dir: Path) -> dict[str, Any]:
    """Compare two frames column by column and keep the report as HTML and JSON in `out_dir`.

    Args:
        reference: rows the bundle was evaluated on; its features and `score`.
        current: rows served, from `served_frame`.
        out_dir: gets drift-NNNN.html and drift-NNNN.json.

    Returns:
        columns: name -> {drifted, method, score}, every compared column and `score`.
        share: of the compared features that drifted.
        quality: name -> {null_share, outside_share} of the current values.
        rows: {reference, current}.
        report: name of the HTML file; None where there was nothing to draw.

    Interview: Which drift test do you use, and why did it not alarm all day?
        A distance with a threshold in units one can read (standard deviations, share of overlap),
        not a p-value: with enough rows every p-value alarms. Columns that follow the clock are not
        compared at all. The alarm is then on the share of drifted columns.
        Trade-off: small shifts of one important column stay below it; and no input test sees a
        change of taste at unchanged inputs, for which clicks at a fixed score are watched.
        Shown by: tests/monitoring/test_drift.py::test_two_halves_of_one_population_are_quiet
    """
    names = [name for name in reference.columns if name not in MOMENTARY]
    columns = {name: _trivial(reference[name], current[name]) for name in names}
    measured = [name for name in names if columns[name] is None]
    html = None
    if measured:
        snapshot = _run(_sample(reference[measured]), _sample(current[measured]))
        columns |= _read(snapshot.dict()["metrics"])
        out_dir.mkdir(parents=True, exist_ok=True)
        html = out_dir / f"drift-{_last_number(out_dir) + 1:04d}.html"
        snapshot.save_html(str(html))
    features = [columns[name] for name in names if name != SCORE]
    found = {
        "columns": columns,
        "share": sum(column["drifted"] for column in features) / len(features),
        "quality": {name: _quality(name, reference[name], current[name]) for name in names},
        "rows": {"reference": len(reference), "current": len(current)},
        "report": html.name if html else None,
    }
    if html:
        write_json(html.with_suffix(".json"), found)
        for stale in sorted(out_dir.glob("drift-*.html"))[:-REPORTS_KEPT]:
            stale.unlink()
            stale.with_suffix(".json").unlink(missing_ok=True)
    return found


def _last_number(out_dir: Path) -> int:
    numbers = [path.stem.removeprefix("drift-") for path in out_dir.glob("drift-*.html")]
    return max((int(number) for number in numbers if number.isdigit()), default=0)


def _kind(name: str) -> str:
    feature = BY_COLUMN.get(name)
    return "category" if feature is not None and feature.dtype == "category" else "number"


def _trivial(reference: pd.Series, current: pd.Series) -> Any:
    """The verdict on a column that has no distance, which Evidently refuses; None = measure it."""
    empty = reference.notna().sum() == 0, current.notna().sum() == 0
    if any(empty):
        return {
            "drifted": empty[0] != empty[1],
            "method": "no values",
            "score": float(empty[0] != empty[1]),
        }
    if reference.nunique() == 1 and current.nunique() == 1:
        same = bool(reference.dropna().iloc[0] == current.dropna().iloc[0])
        return {"drifted": not same, "method": "constant", "score": 0.0 if same else 1.0}
    return None


def _run(reference: pd.DataFrame, current: pd.DataFrame) -> Any:
    names = [str(name) for name in reference.columns]
    categories = [name for name in names if _kind(name) == "category"]
    numbers = [name for name in names if _kind(name) == "number"]
    definition = DataDefinition(numerical_columns=numbers, categorical_columns=categories)
    (number, number_max), (category, category_max) = METHODS["number"], METHODS["category"]
    preset = DataDriftPreset(
        num_method=number,
        num_threshold=number_max,
        cat_method=category,
        cat_threshold=category_max,
    )
    sides = [
        Dataset.from_pandas(side.astype(dict.fromkeys(categories, str)), definition)
        for side in (current, reference)
    ]
    return Report([preset]).run(*sides)


def _read(metrics: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Our columns from Evidently's list of metrics."""
    found = {}
    for metric in metrics:
        about = metric["config"]
        if about["type"].endswith(":ValueDrift"):
            score = float(metric["value"])
            found[about["column"]] = {
                "drifted": score >= about["threshold"],
                "method": about["method"],
                "score": round(score, 4),
            }
    return found


def _quality(name: str, reference: pd.Series, current: pd.Series) -> dict[str, float]:
    """Shares of values that are missing, and that lie a whole range beyond the reference's range.

    A feature's default is never out of range: it is what a new user or item has.
    """
    null_share = float(current.isna().mean()) if len(current) else 0.0
    known = reference.dropna()
    if name == SCORE or _kind(name) == "category" or known.empty or current.empty:
        return {"null_share": null_share, "outside_share": 0.0}
    low, high = known.min(), known.max()
    slack = max(high - low, abs(high), abs(low), 1.0)
    outside = (current < low - slack) | (current > high + slack)
    outside &= current != BY_COLUMN[name].default
    return {"null_share": null_share, "outside_share": float(outside.mean())}


def _sample(rows: pd.DataFrame) -> pd.DataFrame:
    return rows if len(rows) <= ROWS_MAX else rows.sample(ROWS_MAX, random_state=0)
