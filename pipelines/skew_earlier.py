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

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
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
    View,
    stored_of,
)
from features.point_in_time import item_rows, user_rows
from features.request import UserRow
from infra.duck import open_duckdb
from infra.workspace import Workspace
from models.bundle import Bundle
from models.funnel import Candidates
from monitoring.skew import BEHIND, BEHIND_MAX, RESTATED, SKEWED, Slate, equal
from pipelines.known_rows import BatchRow, newest
from pipelines.lake import read_info
from pipelines.position_curves import curves_seen
from pipelines.recompute import ITEM_COLUMNS, Known, again, candidates

VERSIONS = 4
"""Earlier versions of a row that are tried; a push that is further behind is no delay but a fault."""

MOMENTS_RESTATED = 60
"""Newest days, and hours, whose batch rows are computed as they were: a fraction of a second each."""


@dataclass(slots=True)
class Case:
    """A slate computed again; what explains its values is filled in."""

    slate: Slate
    bundle: Bundle
    known: Known
    found: Candidates
    values: np.ndarray  # (K, F) computed from what is known
    verdict: np.ndarray  # (K, F) codes of monitoring.skew.VERDICTS
    behind_s: np.ndarray  # (K, F)


@dataclass(frozen=True, slots=True)
class Version:
    """Another version of one view's rows, and how it is called when it explains values."""

    known: Known
    verdict: int
    behind_s: float


def explain(
    workspace: Workspace,
    written: "Written",
    store: Any,
    categories: Sequence[str],
    cases: Sequence[Case],
) -> None:
    """Find the versions that were read; changes `verdict` and `behind_s` of the cases.

    Args:
        workspace: its offline store is read.
        written: of the same workspace.
        store: the opened Feast store.
        categories: the vocabulary to look for.
        cases: slates with values that are SKEWED so far.
    """
    for view in VIEWS.values():
        if view.source == "request" or not _files(workspace, view.name):
            continue
        asked = [case for case in cases if _concerns(view.name, case)]
        for case, version in zip(asked, _restated(written, view, asked), strict=True):
            _settle(case, version)
        asked = [case for case in asked if _concerns(view.name, case)]
        earlier = _earlier(workspace, store, categories, view, asked) if asked else []
        for case, versions in zip(asked, earlier, strict=True):
            _settle(case, versions)


def _concerns(view: str, case: Case) -> bool:
    """Whether a value differs that this view brings; a user's history is in the request's too."""
    brings = (view, "request") if view == "user_stream" else (view,)
    features = case.bundle.catalogue.features.features
    places = [place for place, feature in enumerate(features) if feature.view in brings]
    return bool((case.verdict[:, places] == SKEWED).any())


def _settle(case: Case, versions: Sequence[Version]) -> None:
    """Take the version that explains most, if it explains more than the one known now."""
    features, served = case.bundle.catalogue.features, case.slate.features
    best: tuple[Version, Candidates, np.ndarray, np.ndarray] | None = None
    most = int(equal(features, served, case.values).sum())
    for version in versions:
        same_history = version.known.user.history_items == case.known.user.history_items
        found = case.found if same_history else candidates(case.bundle, case.slate, version.known)
        values = again(case.bundle, case.slate, version.known, found)
        fits = equal(features, served, values)
        if fits.sum() <= most:
            continue
        most, best = int(fits.sum()), (version, found, values, fits)
    if best is None:
        return
    version, case.found, case.values, fits = best
    explained = fits & (case.verdict == SKEWED)
    case.known = version.known
    case.verdict[explained] = version.verdict
    case.behind_s[explained] = version.behind_s


def _restated(written: "Written", view: View, cases: Sequence[Case]) -> list[list[Version]]:
    """Of each case, a batch view's rows as they were written for the slate's day or hour."""
    if view.source != "batch":
        return [[] for _ in cases]
    moments = [_moment(case.slate.at, view) for case in cases]
    rows = {
        moment: written.known(view, moment) for moment in sorted(set(moments))[-MOMENTS_RESTATED:]
    }
    return [
        [Version(_from_rows(case, view.name, rows[moment]), RESTATED, 0.0)]
        if moment in rows
        else []
        for case, moment in zip(cases, moments, strict=True)
    ]


def _earlier(
    workspace: Workspace,
    store: Any,
    categories: Sequence[str],
    view: View,
    cases: Sequence[Case],
) -> list[list[Version]]:
    """Of each case, one view's rows as they were known before, newest first."""
    found: list[list[Version]] = [[] for _ in cases]
    moments = _moments(workspace, view, [case.slate for case in cases])
    for depth in range(VERSIONS):
        asked = [place for place, some in enumerate(moments) if depth < len(some)]
        if not asked:
            break
        at, own = [moments[place][depth] for place in asked], [cases[place] for place in asked]
        parts = _as_known(store, categories, view.name, own, at)
        for place, moment, known in zip(asked, at, parts, strict=True):
            age = cases[place].slate.at - moment
            verdict = BEHIND if age <= BEHIND_MAX[view.tier] else SKEWED
            found[place].append(Version(known, verdict, age.total_seconds()))
    return found


def _moments(workspace: Workspace, view: View, slates: Sequence[Slate]) -> list[list[datetime]]:
    """When the rows that were known at each slate had become known, newest first."""
    if view.source == "batch":
        return [
            [_moment(slate.at, view) + view.lag - n * view.every for n in range(VERSIONS)]
            for slate in slates
        ]
    users = sorted({slate.user_id for slate in slates})
    table = ds.dataset(_files(workspace, view.name)).to_table(
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


def _moment(at: datetime, view: View) -> datetime:
    """The day or hour whose rows were the newest known at `at`."""
    known = at - view.lag
    return known - (known - datetime(1970, 1, 1, tzinfo=UTC)) % view.every


def _as_known(
    store: Any,
    categories: Sequence[str],
    view: str,
    cases: Sequence[Case],
    at: Sequence[datetime],
) -> list[Known]:
    """Each case with one view's rows as they were known just before a moment."""
    if view in ITEM_VIEWS:
        values = items_known(store, [case.slate for case in cases], at)
        return [
            replace(case.known, items=_with_view(case.known.items, part, view))
            for case, part in zip(cases, values, strict=True)
        ]
    rows = users_known(store, [case.slate for case in cases], at, categories)
    return [
        replace(case.known, user=_of_view(case.known.user, row, view))
        for case, row in zip(cases, rows, strict=True)
    ]


def users_known(
    store: Any, slates: Sequence[Slate], at: Sequence[datetime], categories: Sequence[str]
) -> list[UserRow]:
    """What was known of each slate's user just before a moment."""
    moments = pd.DatetimeIndex(list(at), tz=UTC).as_unit("us")
    asked = pd.DataFrame({"user_id": [slate.user_id for slate in slates], "event_at": moments})
    return user_rows(store, asked, categories)


def items_known(store: Any, slates: Sequence[Slate], at: Sequence[datetime]) -> list[np.ndarray]:
    """What was known of each slate's items just before a moment; (K, ITEM_COLUMNS) each."""
    ids = [item_id for slate in slates for item_id in slate.item_ids]
    moments = [moment for slate, moment in zip(slates, at, strict=True) for _ in slate.item_ids]
    ends = np.cumsum([len(slate.item_ids) for slate in slates])[:-1]
    return np.split(item_rows(store, ids, moments, ITEM_COLUMNS), ends)


def _with_view(items: np.ndarray, other: np.ndarray, view: str) -> np.ndarray:
    """(K, ITEM_COLUMNS) with the columns of one view from `other`."""
    own = np.array([f.view == view for f in ITEM_COLUMNS])
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


def _from_rows(case: Case, view: str, rows: Mapping[tuple[str, ...], BatchRow]) -> Known:
    known, user_id = case.known, case.slate.user_id
    if view in ITEM_VIEWS:
        found = [rows[(i,)][1] if (i,) in rows else {} for i in case.slate.item_ids]
        items = [[row.get(f.column, f.default) for f in ITEM_COLUMNS] for row in found]
        return replace(known, items=_with_view(known.items, np.array(items, np.float64), view))
    if view in PAIR_VIEWS:
        per_category = {key[1]: dict(row) for key, (_, row) in rows.items() if key[0] == user_id}
        return replace(known, user=replace(known.user, category_rows=per_category))
    assert view in USER_VIEWS, view
    own = rows[(user_id,)][1] if (user_id,) in rows else {}
    values = {f.column: float(own.get(f.column, f.default)) for f in stored_of(view)}
    return replace(known, user=replace(known.user, values={**known.user.values, **values}))


class Written:
    """Batch rows as they were written, computed once a moment from what had arrived by then."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self._types = read_info(workspace.lake).positive_types
        self._made: dict[tuple[timedelta, datetime], Mapping[str, pa.Table]] = {}

    def known(self, view: View, moment: datetime) -> dict[tuple[str, ...], BatchRow]:
        """By entity, its newest row once those of `moment` were known; older ones within the TTL."""
        assert view.ttl is not None, f"{view.name} is a batch view and needs a TTL"
        moments = [
            moment - n * view.every for n in range((view.ttl - view.lag) // view.every, -1, -1)
        ]
        tables = [self._rows(view, one)[view.name] for one in moments]
        return newest({view.name: pa.concat_tables(tables)}, view.name, moment + view.lag)

    def _rows(self, view: View, moment: datetime) -> Mapping[str, pa.Table]:
        key = view.every, moment
        if key not in self._made:
            known_at = moment + view.lag
            asked = {"days": [moment.date()]} if view.every == DAY else {"hours": [moment]}
            wanted = Wanted(self._types, **asked, seen_before=known_at)  # type: ignore[arg-type]
            curves = curves_seen(self._workspace, wanted.weeks, known_at)
            with open_duckdb() as connection:
                self._made[key] = rows_duckdb(
                    connection, self._workspace.lake, replace(wanted, curves=curves)
                )
        return self._made[key]


def _files(workspace: Workspace, view: str) -> list[str]:
    pattern = files_of(workspace.offline, view)
    return sorted(str(path) for path in pattern.parent.glob(pattern.name))
