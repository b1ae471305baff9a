"""A served value that is not today's answer: was it the right one a moment, or a night, ago?

A slate that differs is computed again from other versions of the rows that it reads, one view at a
time, and the version that explains most of its values is taken:

    user_stream      as known before its newest event, the one before that, ...   -> behind
    a batch view     the row as it was written: from events seen by then          -> restated
                     the row of the day, or the hour, before                      -> behind

Whole versions are tried, never single values: among dozens of counts some other day's would always
fit by chance. A version that is older than its tier allows does not excuse a value; it names the
reason, a store that nobody fills.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

from features.batch import CREATED, Wanted, files_of, rows_duckdb
from features.definitions import (
    DAY,
    ITEM_VIEWS,
    PAIR_VIEWS,
    USER_VIEWS,
    VIEWS,
    stored_of,
)
from features.feature_set import FeatureSet
from features.point_in_time import item_rows, user_rows
from features.request import UserRow
from infra.duck import open_duckdb
from infra.workspace import Workspace
from models.bundle import Bundle
from monitoring.skew import BEHIND, BEHIND_MAX, RESTATED, SKEWED, Slate, equal
from pipelines.days import known_day
from pipelines.known_rows import newest
from pipelines.lake import read_info
from pipelines.position_curves import curves_seen
from pipelines.recompute import Known, again

VERSIONS = 4
"""Earlier versions of a row that are tried; a push that is further behind is no delay but a fault."""

DAYS_RESTATED = 14
"""Newest days whose batch rows are computed as they were: a second or so each."""


@dataclass(slots=True)
class Case:
    """A slate with values that differ; `verdict` and `behind_s` are filled in."""

    slate: Slate
    known: Known
    verdict: np.ndarray  # (K, F) codes of monitoring.skew.VERDICTS
    behind_s: np.ndarray  # (K, F)


@dataclass(frozen=True, slots=True)
class Version:
    """Another version of one view's rows, and how it is called when it explains values."""

    known: Known
    verdict: int
    behind_s: float


def explain(
    workspace: Workspace, store: Any, bundle: Bundle, categories: Sequence[str], cases: list[Case]
) -> None:
    """Find the versions that were read; changes `verdict` and `behind_s` of the cases.

    Args:
        workspace: its lake and offline store are read.
        store: the opened Feast store.
        bundle: that served them all.
        categories: the vocabulary to look for.
        cases: slates with values that are SKEWED so far.
    """
    for view in VIEWS.values():
        if view.source == "request" or not list(_files(workspace, view.name)):
            continue
        asked = [case for case in cases if _concerns(view.name, bundle.catalogue.features, case)]
        for case, versions in zip(
            asked, _versions(workspace, store, bundle, categories, view.name, asked), strict=True
        ):
            _settle(bundle, case, versions)


def _concerns(view: str, features: FeatureSet, case: Case) -> bool:
    """Whether a value differs that this view brings; a user's history is in the request's too."""
    brings = (view, "request") if view == "user_stream" else (view,)
    places = [place for place, f in enumerate(features.features) if f.view in brings]
    return bool((case.verdict[:, places] == SKEWED).any())


def _settle(bundle: Bundle, case: Case, versions: Sequence[Version]) -> None:
    """Take the version that explains most, if it explains more than the one known now."""
    features, served = bundle.catalogue.features, case.slate.features
    most = equal(features, served, again(bundle, case.slate, case.known)).sum()
    best: tuple[Version, np.ndarray] | None = None
    for version in versions:
        fits = equal(features, served, again(bundle, case.slate, version.known))
        if fits.sum() > most:
            best, most = (version, fits), fits.sum()
    if best is None:
        return
    version, fits = best
    explained = fits & (case.verdict == SKEWED)
    case.known = version.known
    case.verdict[explained] = version.verdict
    case.behind_s[explained] = version.behind_s


def _versions(
    workspace: Workspace, store: Any, bundle: Bundle, categories: Sequence[str],
    view: str, cases: Sequence[Case],
) -> list[list[Version]]:  # fmt: skip
    """Of each case, the versions of one view to try, the nearest first."""
    found: list[list[Version]] = [[] for _ in cases]
    if not cases:
        return found
    if VIEWS[view].every == DAY and VIEWS[view].source == "batch":
        for place, known in _restated(workspace, bundle.catalogue.features, view, cases):
            found[place].append(Version(known, RESTATED, 0.0))
    moments = _moments(workspace, view, [case.slate for case in cases])
    allowed = BEHIND_MAX[VIEWS[view].tier]
    for depth in range(VERSIONS):
        asked = [place for place, some in enumerate(moments) if depth < len(some)]
        at = [moments[place][depth] for place in asked]
        parts = _as_known(store, bundle, categories, view, [cases[place] for place in asked], at)
        for place, moment, known in zip(asked, at, parts, strict=True):
            age = cases[place].slate.at - moment
            verdict = BEHIND if age <= allowed else SKEWED
            found[place].append(Version(known, verdict, age.total_seconds()))
    return found


def _moments(workspace: Workspace, view: str, slates: Sequence[Slate]) -> list[list[datetime]]:
    """When the rows that were known at each slate had become known, newest first."""
    about = VIEWS[view]
    if about.source == "batch":
        return [
            [_known_at(slate.at, about.every, about.lag) - n * about.every for n in range(VERSIONS)]
            for slate in slates
        ]
    users = sorted({slate.user_id for slate in slates})
    table = ds.dataset(_files(workspace, view)).to_table(
        columns=["user_id", CREATED], filter=pc.field("user_id").isin(users)
    )
    arrived = {
        user_id: group[CREATED].sort_values(ascending=False).to_list()
        for user_id, group in table.to_pandas().groupby("user_id")
    }
    return [
        [at.to_pydatetime() for at in arrived.get(slate.user_id, ()) if at < slate.at][:VERSIONS]
        for slate in slates
    ]


def _known_at(at: datetime, every: timedelta, lag: timedelta) -> datetime:
    """When the newest batch rows known at `at` became known."""
    return at - (at - lag - datetime(1970, 1, 1, tzinfo=UTC)) % every


def _as_known(
    store: Any, bundle: Bundle, categories: Sequence[str], view: str,
    cases: Sequence[Case], at: Sequence[datetime],
) -> list[Known]:  # fmt: skip
    """Each case with one view's rows as they were known just before a moment."""
    if view in ITEM_VIEWS:
        columns = bundle.catalogue.features.item
        ids = [item_id for case in cases for item_id in case.slate.item_ids]
        moments = [
            moment for case, moment in zip(cases, at, strict=True) for _ in case.slate.item_ids
        ]
        values = item_rows(store, ids, moments, columns)
        ends = np.cumsum([len(case.slate.item_ids) for case in cases])[:-1]
        return [
            replace(case.known, items=_with_view(case.known.items, part, view, columns))
            for case, part in zip(cases, np.split(values, ends), strict=True)
        ]
    queries = pd.DataFrame(
        {
            "user_id": [case.slate.user_id for case in cases],
            "event_at": pd.DatetimeIndex(list(at), tz=UTC).as_unit("us"),
        }
    )
    rows = user_rows(store, queries, categories)
    return [
        replace(case.known, user=_of_view(case.known.user, row, view))
        for case, row in zip(cases, rows, strict=True)
    ]


def _with_view(items: np.ndarray, other: np.ndarray, view: str, columns: Any) -> np.ndarray:
    """(K, Fi) with the columns of one view from `other`."""
    own = np.array([f.view == view for f in columns])
    return np.where(own[None, :], other, items)


def _of_view(row: UserRow, other: UserRow, view: str) -> UserRow:
    """A row with what one view brings taken from another one."""
    if view in PAIR_VIEWS:
        return replace(row, category_rows=other.category_rows)
    columns = {f.column for f in stored_of(view)}
    values = {name: (other if name in columns else row).values[name] for name in row.values}
    row = replace(row, values=values)
    if view != "user_stream":
        return row
    return replace(
        row,
        history_items=other.history_items,
        history_at=other.history_at,
        last_event_at=other.last_event_at,
    )


def _restated(
    workspace: Workspace, features: FeatureSet, view: str, cases: Sequence[Case]
) -> Iterator[tuple[int, Known]]:
    """Cases with the rows of one daily view as they were written on the slate's day."""
    days = sorted({known_day(case.slate.at) for case in cases})[-DAYS_RESTATED:]
    for day in days:
        rows = _written(workspace, view, day)
        for place, case in enumerate(cases):
            if known_day(case.slate.at) == day:
                yield place, _from_rows(case, features, view, rows)


def _from_rows(
    case: Case, features: FeatureSet, view: str, rows: Mapping[tuple[str, ...], Any]
) -> Known:
    known, user_id = case.known, case.slate.user_id
    if view in ITEM_VIEWS:
        defaults = {f.column: f.default for f in features.item}
        found = [rows.get((item_id,), (None, {}))[1] for item_id in case.slate.item_ids]
        items = [[row.get(f.column, defaults[f.column]) for f in features.item] for row in found]
        other = np.array(items, dtype=np.float64)
        return replace(known, items=_with_view(known.items, other, view, features.item))
    if view in PAIR_VIEWS:
        own = {key[1]: dict(row) for key, (_, row) in rows.items() if key[0] == user_id}
        return replace(known, user=replace(known.user, category_rows=own))
    assert view in USER_VIEWS, view
    own = rows.get((user_id,), (None, {}))[1]
    values = {f.column: float(own.get(f.column, f.default)) for f in stored_of(view)}
    return replace(known, user=replace(known.user, values={**known.user.values, **values}))


def _written(workspace: Workspace, view: str, day: date) -> dict[tuple[str, ...], Any]:
    """By entity, the newest row known once the day's rows were, from what had arrived by then."""
    tables = []
    for one in (day - timedelta(days=1), day):
        lag = VIEWS[view].lag
        known_at = datetime(one.year, one.month, one.day, tzinfo=UTC) + lag
        wanted = Wanted(read_info(workspace.lake).positive_types, [one], seen_before=known_at)
        wanted = replace(wanted, curves=curves_seen(workspace, wanted.weeks, known_at))
        with open_duckdb() as connection:
            tables.append(rows_duckdb(connection, workspace.lake, wanted)[view])
    return newest({view: pa.concat_tables(tables)}, view, known_at)


def _files(workspace: Workspace, view: str) -> list[str]:
    pattern = files_of(workspace.offline, view)
    return sorted(str(path) for path in pattern.parent.glob(pattern.name))
