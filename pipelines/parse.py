"""Raw cells to typed columns: text, numbers, moments, JSON objects.

Each parser takes a column as a file or a log gave it and returns the typed one, with null where a
cell cannot be read. A null that was not null before is a fault; pipelines/validate.py says so.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC

import numpy as np
import pandas as pd

NOT_A_TIME = "not a time: expected ISO 8601, or seconds, ms or µs since 1970"
NOT_A_NUMBER = "not a number"
NOT_JSON = "not a JSON object"
NOT_TEXT = "not text"

SECONDS_BELOW, MILLIS_BELOW, MICROS_BELOW = 1e11, 1e14, 1e17
"""A count since 1970 says its unit by its size: in seconds it reaches 1e11 in the year 5138."""

LAST_MICROS = pd.Timestamp.max.value / 1e3
"""Pandas compares times in nanoseconds somewhere below; what does not fit (2262) is no time."""


@dataclass(frozen=True, slots=True)
class Parser:
    """How one column is read, and what is said of a cell that cannot be."""

    read: Callable[[pd.Series], pd.Series]
    fault: str


def text(raw: pd.Series) -> pd.Series:
    """Stripped strings; blank is None. Numbers are written as they are read."""
    values = raw.astype(object)
    present = values.notna()
    if pd.api.types.infer_dtype(values[present], skipna=False) not in ("string", "empty"):
        values = values.where(~present, values.map(str))
    values = values.where(present, None)
    if present.any():
        values = values.str.strip()
        values = values.where((values != "") & present, None)
    return values


def number(raw: pd.Series) -> pd.Series:
    """float64; NaN where it is no finite number."""
    values = pd.to_numeric(raw, errors="coerce").astype("float64")
    return values.where(np.isfinite(values))


def moment(raw: pd.Series) -> pd.Series:
    """`datetime64[us, UTC]` from moments, ISO 8601 text, or seconds, ms, µs or ns since 1970.

    A time without a zone is taken as UTC.

    Examples:
        >>> moment(pd.Series(["2024-03-01T12:00:00Z", "1709294400", "1709294400000"])).nunique()
        1
    """
    if isinstance(raw.dtype, pd.DatetimeTZDtype) or raw.dtype.kind == "M":
        return _utc(raw)
    counts = pd.to_numeric(raw, errors="coerce").astype("float64")
    moments = _since_1970(counts)
    words = counts.isna() & raw.notna()
    if words.any():
        dashed = text(raw[words]).str.replace(r"^(\d{4})/(\d\d)/(\d\d)", r"\1-\2-\3", regex=True)
        iso = _utc(pd.to_datetime(dashed, format="ISO8601", utc=True, errors="coerce"))
        moments = moments.where(~words, iso.reindex(raw.index))
    return moments


def json_object(raw: pd.Series) -> pd.Series:
    """Compact JSON text of an object given as a dict or as text."""
    values = text(raw.map(lambda v: json.dumps(v) if isinstance(v, dict) else v))
    parsed = {value: _object(value) for value in values.dropna().unique()}  # few distinct ones
    return values.map(parsed).astype(object).where(values.notna(), None)


def _since_1970(counts: pd.Series) -> pd.Series:
    size = counts.abs()
    units = [size < SECONDS_BELOW, size < MILLIS_BELOW, size < MICROS_BELOW]
    micros = (counts * np.select(units, [1e6, 1e3, 1.0], 1e-3)).round()
    known = micros.abs() < LAST_MICROS
    stamps = micros.where(known, 0).astype("int64").astype("datetime64[us]")
    return stamps.where(known).dt.tz_localize(UTC)


def _utc(values: pd.Series) -> pd.Series:
    aware = values if values.dt.tz is not None else values.dt.tz_localize(UTC)
    return aware.dt.tz_convert(UTC).astype("datetime64[us, UTC]")


def _object(value: str) -> str | None:
    try:
        content = json.loads(value)
    except (ValueError, RecursionError):
        return None
    return json.dumps(content, sort_keys=True) if isinstance(content, dict) else None


EVENT_PARSERS = {
    "event_id": Parser(text, NOT_TEXT),
    "event_type": Parser(text, NOT_TEXT),
    "user_id": Parser(text, NOT_TEXT),
    "item_id": Parser(text, NOT_TEXT),
    "session_id": Parser(text, NOT_TEXT),
    "request_id": Parser(text, NOT_TEXT),
    "position": Parser(number, NOT_A_NUMBER),
    "event_at": Parser(moment, NOT_A_TIME),
    "seen_at": Parser(moment, NOT_A_TIME),
    "value": Parser(number, NOT_A_NUMBER),
    "context": Parser(json_object, NOT_JSON),
    "bundle": Parser(text, NOT_TEXT),
    "source": Parser(text, NOT_TEXT),
    "propensity": Parser(number, NOT_A_NUMBER),
    "arms": Parser(json_object, NOT_JSON),
}
"""By column of `features.schema.EVENTS`."""

ITEM_PARSERS = {
    "item_id": Parser(text, NOT_TEXT),
    "title": Parser(text, NOT_TEXT),
    "category": Parser(text, NOT_TEXT),
    "subcategory": Parser(text, NOT_TEXT),
    "price": Parser(number, NOT_A_NUMBER),
    "created_at": Parser(moment, NOT_A_TIME),
}
"""By column of `features.schema.ITEMS`."""

USER_PARSERS = {
    "user_id": Parser(text, NOT_TEXT),
    "created_at": Parser(moment, NOT_A_TIME),
    "location": Parser(text, NOT_TEXT),
}
"""By column of `features.schema.USERS`."""
