"""The edge of the system: raw rows in, typed rows and a list of what did not fit out.

Two passes. *Parsing* (pipelines/parse.py) turns cells into ids, numbers and UTC moments; what
cannot be read is a fault. *Checking* is a pandera schema, lazily, so that one bad row never hides
the next. A row with several faults is reported once, at its first column. Nothing here raises for
a bad row.
"""

import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

import pandas as pd
import pandera.pandas as pa

from features.errors import ContractError
from features.schema import EVENT_TYPES, MAX_ID_LENGTH
from pipelines.parse import EVENT_PARSERS, ITEM_PARSERS, USER_PARSERS, Parser, text

FAULT_COLUMNS = ["row", "column", "value", "reason"]
"""Columns of every quarantine file; `row` is the line or record number in the source."""

EARLIEST = pd.Timestamp("1990-01-01", tz="UTC")
"""An older event is a missing time written as 0, or a count in another unit."""

FUTURE_SLACK = timedelta(minutes=5)
"""Clocks differ by minutes; an event from later than this has not happened."""

VALUE_LENGTH = 200
"""Characters of a bad value kept in the quarantine file."""

CONTROL = re.compile("[\x00-\x1f\x7f\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class Checked:
    """Rows that fit, typed and indexed like the source, and the faults of those that did not."""

    good: pd.DataFrame
    faults: pd.DataFrame  # FAULT_COLUMNS; one line per refused row or blanked cell


def events(raw: pd.DataFrame, latest: datetime | pd.Series) -> Checked:
    """Check events; a row with any fault is refused.

    Args:
        raw: any columns of `features.schema.EVENTS`, values still raw; `row` optional.
        latest: now, or per row the moment it arrived; later than that + FUTURE_SLACK is refused.

    Raises:
        ContractError: a column without which nothing is an event is missing altogether.

    Interview: What do you do with a bad row: fail the job, drop it, or keep it?
        None of the three: it goes to quarantine with its row number, column and reason, and the
        good rows go on. Failing lets one typo stop a day; dropping hides a broken producer until
        a metric moves. The counts add up (read = accepted + quarantined), so loss is visible.
        Trade-off: someone must look at the quarantine, and a row repaired later arrives late.
        Shown by: tests/pipelines/test_ingest.py::test_read_is_always_accepted_plus_quarantined
    """
    _require(raw, ("event_type", "user_id", "item_id", "event_at"), "events")
    typed, faults = _parse(raw, EVENT_PARSERS)
    faults += _failures(EVENT_SCHEMA, typed, raw)
    limit = latest if isinstance(latest, pd.Series) else pd.Timestamp(latest)
    future = typed["event_at"] > limit + FUTURE_SLACK
    faults.append(_faults(raw, future, "event_at", "in the future"))
    return _split(typed, raw, faults)


def items(raw: pd.DataFrame) -> Checked:
    """Check a catalogue; only a bad or repeated id refuses a row, other bad cells are blanked."""
    return _entities(raw, "item_id", ITEM_PARSERS, ITEM_SCHEMA)


def users(raw: pd.DataFrame) -> Checked:
    """Check a user table; only a bad or repeated id refuses a row, other bad cells are blanked."""
    return _entities(raw, "user_id", USER_PARSERS, USER_SCHEMA)


def _entities(
    raw: pd.DataFrame, key: str, parsers: Mapping[str, Parser], schema: pa.DataFrameSchema
) -> Checked:
    _require(raw, (key,), f"{key.removesuffix('_id')}s")
    typed, faults = _parse(raw, parsers)
    faults += _failures(schema, typed, raw)
    repeats = typed[key].notna() & typed[key].duplicated()
    faults.append(_faults(raw, repeats, key, "repeats an earlier row"))
    checked = _split(typed, raw, [fault for fault in faults if (fault["column"] == key).any()])
    cells = _together([fault for fault in faults if (fault["column"] != key).any()])
    cells = cells[cells.index.isin(checked.good.index)].copy()
    for column, blanked in cells.groupby("column"):
        # An item's title is worth keeping when its price is not.
        checked.good.loc[blanked.index, column] = None
    cells["reason"] += "; kept without it"
    return Checked(checked.good, _together([checked.faults, cells]).sort_index(kind="stable"))


def _id(required: bool = True) -> pa.Column:
    checks = [
        pa.Check(lambda s: s.str.len() <= MAX_ID_LENGTH, error=f"longer than {MAX_ID_LENGTH}"),
        pa.Check(lambda s: ~s.str.contains(CONTROL), error="contains a control character"),
    ]
    return pa.Column(object, checks, required=required, nullable=not required)


def _number(check: pa.Check) -> pa.Column:
    return pa.Column(float, check, required=False, nullable=True)


EVENT_SCHEMA = pa.DataFrameSchema(
    {
        "event_id": _id(required=False),
        "event_type": pa.Column(
            object, pa.Check.isin(EVENT_TYPES, error=f"not one of {', '.join(EVENT_TYPES)}")
        ),
        "user_id": _id(),
        "item_id": _id(),
        "session_id": _id(required=False),
        "request_id": _id(required=False),
        "position": _number(
            pa.Check(lambda s: (s >= 1) & (s % 1 == 0), error="not a place counted from 1")
        ),
        "event_at": pa.Column(
            None, pa.Check(lambda s: s >= EARLIEST, error=f"before {EARLIEST:%Y-%m-%d}")
        ),
        "value": _number(pa.Check.ge(0, error="negative")),
        "propensity": _number(pa.Check.in_range(0, 1, error="not a probability")),
    }
)
ITEM_SCHEMA = pa.DataFrameSchema(
    {"item_id": _id(), "price": _number(pa.Check.ge(0, error="negative"))}
)
USER_SCHEMA = pa.DataFrameSchema({"user_id": _id()})


def _require(raw: pd.DataFrame, columns: tuple[str, ...], what: str) -> None:
    missing = [column for column in columns if column not in raw]
    if missing:
        raise ContractError(
            f"{what} without a column {', '.join(missing)}; there are {', '.join(raw.columns)}: "
            "map the columns of the source to these names"
        )


def _parse(
    raw: pd.DataFrame, parsers: Mapping[str, Parser]
) -> tuple[pd.DataFrame, list[pd.DataFrame]]:
    """Typed columns, and faults where a cell that was not blank became null."""
    typed, faults = pd.DataFrame(index=raw.index), []
    for column in [name for name in parsers if name in raw]:
        typed[column] = parsers[column].read(raw[column])
        lost = typed[column].isna() & raw[column].notna()
        blank = text(raw.loc[lost, column]).isna()
        lost &= ~lost.index.isin(blank.index[blank])
        faults.append(_faults(raw, lost, column, parsers[column].fault))
    return typed, faults


def _failures(
    schema: pa.DataFrameSchema, typed: pd.DataFrame, raw: pd.DataFrame
) -> list[pd.DataFrame]:
    """What pandera found: one frame of faults per column and reason."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # of pandas, about pandera's own code
            schema.validate(typed, lazy=True)
    except pa.errors.SchemaErrors as found:
        cases = found.failure_cases.replace({"check": {"not_nullable": "missing"}})
        assert cases["index"].notna().all(), f"the schema itself does not fit: {cases}"
        return [
            _faults(raw, pd.Series(raw.index.isin(group["index"])), column, reason)
            for (column, reason), group in cases.groupby(["column", "check"])
        ]
    return []


def _faults(raw: pd.DataFrame, where: pd.Series, column: str, reason: str) -> pd.DataFrame:
    """Faults of the rows where `where` holds, indexed like `raw`."""
    rows = raw.loc[where.to_numpy(bool)]
    shown = rows[column].map(lambda value: "" if value is None else str(value)[:VALUE_LENGTH])
    numbers = rows["row"] if "row" in rows else pd.Series(rows.index + 1, rows.index)
    return pd.DataFrame(
        {"row": numbers, "column": column, "value": shown, "reason": reason}, columns=FAULT_COLUMNS
    )


def _split(typed: pd.DataFrame, raw: pd.DataFrame, faults: list[pd.DataFrame]) -> Checked:
    """Rows without a fault, and of every other row the fault in the leftmost column."""
    found = _together(faults)
    places = {column: place for place, column in enumerate(typed.columns)}
    found = found.iloc[found["column"].map(places).argsort(kind="stable")]
    found = found[~found.index.duplicated()].sort_index()
    good = typed[~typed.index.isin(found.index)].copy()
    good["row"] = raw.loc[good.index, "row"] if "row" in raw else good.index + 1
    return Checked(good, found)


def _together(faults: list[pd.DataFrame]) -> pd.DataFrame:
    filled = [fault for fault in faults if len(fault)]
    return pd.concat(filled) if filled else pd.DataFrame(columns=FAULT_COLUMNS)
