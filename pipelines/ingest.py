"""Raw tables, or the event log, into the lake; what does not fit into quarantine.

The same source ingested twice changes no byte of the lake. Events are written first and the
catalogue after them: a crash in between leaves events without titles, and the next run heals it.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

import pandas as pd

from features.errors import ContractError
from features.schema import EVENTS
from infra.forgotten import ERASED, Forgotten
from infra.workspace import Workspace
from pipelines import catalogue, lake, quarantine, validate
from pipelines.event_ids import with_event_ids
from pipelines.loaders.tables import Tables
from pipelines.parse import moment
from pipelines.validate import FAULT_COLUMNS, Checked

LOG_BATCH = 50_000
"""Records of the event log copied at a time: memory stays bounded whatever the backlog."""


def ingest(workspace: Workspace, tables: Tables, *, now: datetime) -> dict[str, Any]:
    """Validate a source and add it to the lake.

    Args:
        workspace: where the lake and the quarantine are.
        tables: what a loader returned.
        now: events from later than this (and a slack of minutes) are refused.

    Returns:
        `rows` {read, accepted, quarantined, new} of the events, with read = accepted + quarantined;
        `reasons` {reason: count}; `items` and `users` known afterwards; `quarantine_file` or None.

    Raises:
        ContractError: not one event could be used; the quarantine file is written all the same.
    """
    forgotten = Forgotten(workspace.forgotten)
    checked = _checked_events(tables.events.reset_index(drop=True), now, forgotten)
    checked = _without_repeats(checked)
    faults = _together(tables.unreadable, checked.faults)
    file = quarantine.keep(workspace, "events", faults)
    if checked.good.empty:
        raise ContractError(_nothing_usable(faults, file))
    items = _checked_entities(workspace, "items", tables.items, tables.unreadable_items)
    users = _checked_entities(workspace, "users", tables.users, tables.unreadable_users)
    if len(users) and forgotten:
        users = users[~users["user_id"].map(forgotten.__contains__)]
    new = _add(workspace.lake, checked.good, items, users)
    lake.write_info(workspace.lake, tables.info)
    return _result(workspace.lake, len(checked.good), new, faults, file)


class Record(Protocol):
    """What is read of one entry of the log."""

    @property
    def offset(self) -> int:
        """Place in its partition."""

    @property
    def value(self) -> Mapping[str, Any]:
        """The event."""


class Log(Protocol):
    """What is read of the event log (infra.event_log has the real ones)."""

    @property
    def partitions(self) -> int:
        """How many there are."""

    def read(self, topic: str, partition: int, offset: int, limit: int) -> Sequence[Record]:
        """Records from `offset` on, in order."""


def ingest_log(workspace: Workspace, log: Log) -> dict[str, Any]:
    """Copy the log's topic "events" into the lake: what serving accepted becomes history.

    Returns:
        As `ingest`, for the records that this call read. A repeated id is a retry and no fault:
        it counts as accepted, not as new. Refused records stay in `<name>-log.csv` as
        partition:offset, until a call that reads others replaces it.

    Interview: The consumer crashes between writing a batch and committing its offset. What now?
        The batch is read again, and its event ids are known, so the second write adds nothing:
        reading at least once into an idempotent store is exactly once where it counts. The
        other order, offset first, would lose the batch.
        Trade-off: every write has to look ids up; a transactional sink could hold data and
        offset in one commit.
        Shown by: tests/pipelines/test_ingest.py::test_a_crash_before_the_offset_repeats_but_never_doubles
    """
    path = workspace.lake / lake.OFFSETS
    offsets: dict[str, int] = json.loads(path.read_text()) if path.exists() else {}
    accepted, new, faults = 0, 0, pd.DataFrame(columns=FAULT_COLUMNS)
    forgotten = Forgotten(workspace.forgotten)
    for partition in range(log.partitions):
        for records in _batches(log, partition, offsets.get(str(partition), 0)):
            checked = _checked_records(partition, records, forgotten)
            # Step 1. The events, and who occurs in them.
            new += _add(workspace.lake, checked.good, pd.DataFrame(), pd.DataFrame())
            # Step 2. The offset that covers them.
            offsets[str(partition)] = records[-1].offset + 1
            lake.write_text(path, json.dumps(offsets) + "\n")
            accepted += len(checked.good)
            faults = _together(faults, checked.faults)
    read_any = accepted + len(faults) > 0
    file = quarantine.keep(workspace, "log", faults) if read_any else None
    return _result(workspace.lake, accepted, new, faults, file)


def _checked_events(
    raw: pd.DataFrame, latest: datetime | pd.Series, forgotten: Forgotten
) -> Checked:
    """Typed events with ids and arrival times; of who was forgotten only the row's number is told."""
    if raw.empty:
        return Checked(raw, pd.DataFrame(columns=FAULT_COLUMNS))
    checked = _without_forgotten(validate.events(raw, latest), forgotten)
    good = with_event_ids(checked.good)
    seen_at = good["seen_at"].fillna(good["event_at"]) if "seen_at" in good else good["event_at"]
    return Checked(good.assign(seen_at=seen_at), checked.faults)


def _without_forgotten(checked: Checked, forgotten: Forgotten) -> Checked:
    if not forgotten or checked.good.empty:
        return checked
    gone = checked.good[checked.good["user_id"].map(forgotten.__contains__)]
    faults = gone[["row"]].assign(column="user_id", value="", reason="asked to be forgotten")
    return Checked(checked.good.drop(gone.index), _together(checked.faults, faults).sort_index())


def _without_repeats(checked: Checked) -> Checked:
    """In a file a repeated id is a fault of the later row."""
    if checked.good.empty:
        return checked
    repeats = checked.good[checked.good["event_id"].duplicated()]
    faults = repeats[["row"]].assign(
        column="event_id", value=repeats["event_id"], reason="repeats an earlier row"
    )
    return Checked(checked.good.drop(repeats.index), _together(checked.faults, faults).sort_index())


def _checked_records(partition: int, records: Sequence[Record], forgotten: Forgotten) -> Checked:
    """A log event is bounded by its own arrival, so that an old log can be read at any time."""
    there = [record for record in records if record.value != json.loads(ERASED)]
    raw = pd.DataFrame([dict(record.value) for record in there])
    raw = raw.reindex(columns=EVENTS.names)
    rows = [f"{partition}:{record.offset}" for record in there]
    return _checked_events(raw.assign(row=rows), moment(raw["seen_at"]), forgotten)


def _batches(log: Log, partition: int, offset: int) -> Iterator[Sequence[Record]]:
    while records := log.read("events", partition, offset, LOG_BATCH):
        yield records
        offset = records[-1].offset + 1


def _checked_entities(
    workspace: Workspace,
    what: str,
    raw: pd.DataFrame | None,
    unreadable: pd.DataFrame | None,
) -> pd.DataFrame:
    """The good rows of the item or user table."""
    if raw is None:
        return pd.DataFrame()
    check = {"items": validate.items, "users": validate.users}[what]
    checked = check(raw.reset_index(drop=True))
    quarantine.keep(workspace, what, _together(unreadable, checked.faults))
    return checked.good


def _add(folder: Path, events: pd.DataFrame, items: pd.DataFrame, users: pd.DataFrame) -> int:
    """Events first: an event without a title is healed by the next run, a lost one is not."""
    if events.empty:
        return 0
    new = lake.append_events(folder, catalogue.table_of(events, EVENTS))
    catalogue.update(folder, events, items, users)
    return new


def _together(first: pd.DataFrame | None, second: pd.DataFrame) -> pd.DataFrame:
    filled = [faults for faults in (first, second) if faults is not None and len(faults)]
    return pd.concat(filled)[FAULT_COLUMNS] if filled else second


def _nothing_usable(faults: pd.DataFrame, file: Path | None) -> str:
    if faults.empty:
        return "the source has no rows; expected at least one event"
    found = "; ".join(f"{count} x {why}" for why, count in quarantine.reasons(faults).items())
    return f"not one of {len(faults)} rows could be used: {found}; every row is listed in {file}"


def _result(
    folder: Path, accepted: int, new: int, faults: pd.DataFrame, file: Path | None
) -> dict[str, Any]:
    counts = {"accepted": accepted, "quarantined": len(faults), "new": new}
    known = (folder / "items.parquet").exists()
    return {
        "rows": {"read": accepted + len(faults), **counts},
        "reasons": quarantine.reasons(faults),
        "items": len(lake.read_items(folder)) if known else 0,
        "users": len(lake.read_users(folder)) if known else 0,
        "quarantine_file": str(file) if file else None,
    }
