"""Which rows of a batch view are missing or stale, and the files that hold them.

    offline/<view>/2026-03-01.parquet    the rows of that day, or of its hours
    offline/<view>/_done.json            the definition they were made by; moment -> what from

A row of day D depends on the definition of its view, on the catalogue, and on every day of the lake
before D: an account's age begins at its first event. A row of hour H depends on the days that its
window touches, and on those that their position curves were fitted on. Whatever differs from what
`_done.json` names is computed again if it is asked for, and dropped if it is not: no stale row stays
where a join finds it.
"""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from features.batch import AS_OF, fingerprint, schema_of
from features.batch_sql import HOURS_BACK
from features.definitions import BATCH_WINDOW_DAYS, HOUR, VIEWS
from features.schema import TIMESTAMP
from infra.reports import write_json
from pipelines.offline_file import replaced
from pipelines.stamps import digest_of, stamp_of

DONE = "_done.json"
MISSING, DEFINITION, LAKE = "missing", "definition changed", "lake changed"


@dataclass(frozen=True, slots=True)
class Increment:
    """What is to be done for one view."""

    view: str
    definition: str
    compute: Mapping[datetime, str]  # moment -> why
    keep: Mapping[datetime, str]  # moment -> what its rows were made from
    made_from: Mapping[datetime, str]  # of what is to be computed
    dropped: int  # moments that are stale and not asked for

    @property
    def because(self) -> dict[str, int]:
        """Moments to compute, by reason."""
        return dict(Counter(self.compute.values()))


@dataclass(frozen=True, slots=True)
class Sources:
    """What rows are made from."""

    lake: Path
    days: Mapping[date, str]  # stamps of the lake's days

    def of(self, view: str, moment: datetime) -> str:
        """A name for everything that a row of the view at that moment depends on."""
        if VIEWS[view].every == HOUR:
            first, last = moment - HOURS_BACK * HOUR, moment - timedelta(microseconds=1)
            curve_from = first.date() - timedelta(days=BATCH_WINDOW_DAYS + 6)  # its Monday, at most
            return digest_of(
                "", {d: stamp for d, stamp in self.days.items() if curve_from <= d <= last.date()}
            )
        before = {day: stamp for day, stamp in self.days.items() if day < moment.date()}
        entities = [stamp_of(self.lake / f"{name}.parquet") for name in ("items", "users")]
        return digest_of(" ".join(entities), before)


def increment(
    offline: Path,
    view: str,
    moments: Sequence[datetime],
    positive_types: Sequence[str],
    sources: Sources,
) -> Increment:
    """Compare what is asked for with what is there.

    Interview: Your daily feature job runs for hours. How do you make it incremental, and safe?
        A row is named by what it depends on: the definition and the partitions in its window. The
        job computes the rows whose name is not the one on record, so a second run does nothing, a
        late event recomputes the days after it, and a changed definition all of them.
        Trade-off: the name is of whole partitions; one late event of a year ago costs every day
        since, although it moved a handful of rows.
        Shown by: tests/pipelines/test_increments.py::test_only_what_depends_on_a_change_is_computed
    """
    definition = fingerprint(view, positive_types)
    there_by, there = _done(offline / view)
    made_from = {moment: sources.of(view, moment) for moment in {*moments, *there}}
    fresh = {
        moment: name
        for moment, name in there.items()
        if there_by == definition and name == made_from[moment]
    }

    def why(moment: datetime) -> str:
        if moment not in there:
            return MISSING
        return DEFINITION if there_by != definition else LAKE

    compute = {moment: why(moment) for moment in sorted(set(moments) - fresh.keys())}
    dropped = len(there.keys() - fresh.keys() - compute.keys())
    origins = {moment: made_from[moment] for moment in compute}
    return Increment(view, definition, compute, fresh, origins, dropped)


def store(offline: Path, todo: Increment, rows: pa.Table) -> None:
    """Put computed rows where joins find them, and take stale ones away; then say what is there.

    A crash before the last step leaves rows that `_done.json` does not name: the next run computes
    and replaces them.
    """
    folder = offline / todo.view
    dates = {moment.date() for moment in todo.compute}
    if folder.exists():
        dates |= {date.fromisoformat(p.stem) for p in folder.glob("*.parquet")} - {
            moment.date() for moment in todo.keep
        }
    for day in sorted(dates):
        _store_day(folder / f"{day}.parquet", day, todo, rows)
    told = {moment.isoformat(): name for moment, name in {**todo.keep, **todo.made_from}.items()}
    write_json(
        folder / DONE, {"definition": todo.definition, "moments": dict(sorted(told.items()))}
    )


def newest(offline: Path, view: str) -> datetime | None:
    """The newest moment of a view on record; None = nobody runs it here."""
    return max(_done(offline / view)[1], default=None)


def _store_day(path: Path, day: date, todo: Increment, rows: pa.Table) -> None:
    inside = [moment for moment in {*todo.keep, *todo.compute} if moment.date() == day]
    if not inside:
        path.unlink(missing_ok=True)
        return
    parts = [_at(rows, [moment for moment in todo.compute if moment.date() == day])]
    if path.exists() and (kept := [moment for moment in todo.keep if moment.date() == day]):
        parts.append(_at(pq.read_table(path, schema=schema_of(todo.view)), kept))
    order = [(key, "ascending") for key in (*VIEWS[todo.view].entity, AS_OF)]
    with replaced(path, schema_of(todo.view)) as write:
        write(pa.concat_tables(parts).sort_by(order))


def _at(rows: pa.Table, moments: Sequence[datetime]) -> pa.Table:
    return rows.filter(pc.is_in(rows[AS_OF], value_set=pa.array(moments, TIMESTAMP)))


def _done(folder: Path) -> tuple[str, dict[datetime, str]]:
    """The definition and the moments on record."""
    if not (folder / DONE).exists():
        return "", {}
    told = json.loads((folder / DONE).read_text())
    moments = {
        datetime.fromisoformat(text).astimezone(UTC): name for text, name in told["moments"].items()
    }
    return told["definition"], moments
