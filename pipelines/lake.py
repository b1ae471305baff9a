"""The lake: Parquet by event date, one file a day, written whole or not at all.

    <lake>/events/event_date=2026-02-28/part.parquet    sorted by (event_at, event_id)
    <lake>/items.parquet  users.parquet                 sorted by id
    <lake>/dataset.json                                 features.schema.DatasetInfo

One writer at a time, any number of readers. Because a day's file covers exactly the events of that
UTC day and is sorted, reading days in order gives events in order: nothing is sorted on the way out.
"""

import dataclasses
import json
import os
import uuid
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from features.errors import ContractError
from features.schema import EVENTS, ITEMS, USERS, DatasetInfo

OFFSETS = "log_offsets.json"
"""In the lake: up to which offset of each partition the log is in it."""

ORDER = [("event_at", "ascending"), ("event_id", "ascending")]


def append_events(lake: Path, table: pa.Table) -> int:
    """Add the events that the lake does not hold yet.

    Args:
        lake: the lake's folder; made when missing.
        table: events with the columns of `features.schema.EVENTS`.

    Returns:
        How many were new. A day without new events keeps its file untouched, byte for byte.

    Interview: How do you make ingestion safe to repeat after a crash half-way?
        Every event has an id, a day is one file, and a file is replaced by rename: a reader sees
        the old day or the new one. A crash leaves some days written and some not, and running the
        same input again adds exactly what is missing, because known ids are skipped.
        Trade-off: a late event rewrites its whole day; a table format (Iceberg, Delta) commits
        many files at once and rewrites less, for one more system to run.
        Shown by: tests/pipelines/test_lake.py::test_a_crash_between_days_is_healed_by_a_second_run
    """
    table = _without_repeats(table.select(EVENTS.names).cast(EVENTS))
    table = table.filter(pc.invert(_known(lake, table["event_id"])))
    for day, fresh in _by_day(table):
        path = lake / "events" / f"event_date={day}" / "part.parquet"
        parts = [pq.read_table(path, schema=EVENTS, partitioning=None)] if path.exists() else []
        _write(path, pa.concat_tables([*parts, fresh]).sort_by(ORDER))
    return table.num_rows


def read_events(
    lake: Path,
    start: datetime | None = None,
    end: datetime | None = None,
    columns: list[str] | None = None,
) -> pd.DataFrame:
    """Events of [start, end), sorted by (event_at, event_id).

    Args:
        lake: the lake's folder.
        start: first moment, included; None = from the beginning. UTC, aware.
        end: last moment, excluded; None = to the end. UTC, aware.
        columns: which columns, in this order; None = all of `EVENTS`.

    Returns:
        A frame; times are `datetime64[us, UTC]`, `position` is float with NaN where there is none.

    Raises:
        ContractError: nothing was ever ingested here.
    """
    names = columns or EVENTS.names
    where = None
    if start is not None:
        where = pc.field("event_at") >= pa.scalar(start, EVENTS.field("event_at").type)
    if end is not None:
        before = pc.field("event_at") < pa.scalar(end, EVENTS.field("event_at").type)
        where = before if where is None else where & before
    tables = [
        pq.read_table(path, schema=EVENTS, partitioning=None, filters=where, columns=names)
        for path in _files(lake, start, end)
    ]
    empty = EVENTS.empty_table().select(names)
    frame: pd.DataFrame = pa.concat_tables([empty, *tables]).to_pandas()
    return frame


def write_items(lake: Path, table: pa.Table) -> None:
    """Replace the catalogue."""
    _write(lake / "items.parquet", table.select(ITEMS.names).cast(ITEMS).sort_by("item_id"))


def read_items(lake: Path) -> pd.DataFrame:
    """The catalogue, sorted by item_id; columns of `features.schema.ITEMS`."""
    return _read(lake / "items.parquet", ITEMS)


def write_users(lake: Path, table: pa.Table) -> None:
    """Replace the user table."""
    _write(lake / "users.parquet", table.select(USERS.names).cast(USERS).sort_by("user_id"))


def read_users(lake: Path) -> pd.DataFrame:
    """The users, sorted by user_id; columns of `features.schema.USERS`."""
    return _read(lake / "users.parquet", USERS)


def write_info(lake: Path, info: DatasetInfo) -> None:
    """Store what the line must know about the data set."""
    write_text(lake / "dataset.json", json.dumps(dataclasses.asdict(info), indent=1) + "\n")


def read_info(lake: Path) -> DatasetInfo:
    """What `write_info` stored."""
    path = _existing(lake / "dataset.json")
    try:
        content: dict[str, Any] = json.loads(path.read_text())
        return DatasetInfo(
            **{**content, "positive_types": tuple(content.get("positive_types", ()))}
        )
    except (ValueError, TypeError, AttributeError) as error:
        raise ContractError(
            f"{path} is not a data set's description ({error}); ingest the data again"
        ) from error


def write_text(path: Path, text: str) -> None:
    """Replace a small file; a reader sees the old text or the new, and unchanged text is not rewritten."""
    if path.exists() and path.read_text() == text:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    part.write_text(text)
    _publish(part, path)


def log_is_in(folder: Path) -> bool:
    """Whether a lake holds events of the log, beside those of files."""
    path = folder / OFFSETS
    return path.exists() and any(json.loads(path.read_text()).values())


def _write(path: Path, table: pa.Table) -> None:
    """Replace a Parquet file, unless it already holds exactly this table."""
    if path.exists() and pq.read_table(path, partitioning=None).equals(table):
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    pq.write_table(table, part, compression="zstd", coerce_timestamps="us")
    _publish(part, path)


def _publish(part: Path, path: Path) -> None:
    with part.open("rb+") as file:
        os.fsync(file.fileno())  # the rename must not become durable before the content
    os.replace(part, path)


def _read(path: Path, schema: pa.Schema) -> pd.DataFrame:
    frame: pd.DataFrame = pq.read_table(_existing(path), schema=schema).to_pandas()
    return frame


def _existing(path: Path) -> Path:
    if not path.exists():
        raise ContractError(f"no {path.name} in {path.parent}; run `shortlist ingest` first")
    return path


def _files(lake: Path, start: datetime | None, end: datetime | None) -> list[Path]:
    """The day files that can hold events of [start, end), oldest first."""
    paths = sorted((lake / "events").glob("event_date=*/part.parquet"))
    if not paths:
        raise ContractError(f"no events in {lake}; run `shortlist ingest` first")
    first = start.astimezone(UTC).date() if start else date.min
    last = (end.astimezone(UTC) - timedelta(microseconds=1)).date() if end else date.max
    return [path for path in paths if first <= _day_of(path) <= last]


def _day_of(path: Path) -> date:
    return date.fromisoformat(path.parent.name.removeprefix("event_date="))


def _known(lake: Path, event_ids: pa.ChunkedArray) -> pa.Array:
    """Which ids the lake holds, on whatever day: a retry may arrive after midnight."""
    if not (lake / "events").exists() or len(event_ids) == 0:
        return pa.array([False] * len(event_ids), pa.bool_())
    wanted = pc.field("event_id").isin(event_ids.combine_chunks())
    held = ds.dataset(lake / "events", schema=EVENTS, format="parquet").to_table(
        columns=["event_id"], filter=wanted
    )
    return pc.is_in(event_ids, value_set=held["event_id"].combine_chunks())


def _without_repeats(table: pa.Table) -> pa.Table:
    """The first event of each id."""
    keep = ~table["event_id"].to_pandas().duplicated().to_numpy()
    return table.filter(pa.array(keep, pa.bool_()))


def _by_day(table: pa.Table) -> list[tuple[date, pa.Table]]:
    days = pc.cast(table["event_at"], pa.date32())
    return [
        (day, table.filter(pc.equal(days, pa.scalar(day))))
        for day in sorted(pc.unique(days).to_pylist())
    ]
