"""Every kind of bad cell, its reason, and that the good rows beside it go on."""

from datetime import UTC, datetime

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.errors import ContractError
from pipelines import validate
from pipelines.validate import FAULT_COLUMNS

NOW = datetime(2026, 3, 1, tzinfo=UTC)
GOOD = {"event_type": "click", "user_id": "u", "item_id": "i", "event_at": "2026-02-01T10:00:00Z"}


def check(**cells):
    """One good row, and one with these cells."""
    return validate.events(pd.DataFrame([GOOD, {**GOOD, **cells}]), NOW)


@pytest.mark.parametrize(
    ("column", "value", "reason"),
    [
        ("user_id", "", "missing"),
        ("user_id", "   ", "missing"),
        ("user_id", None, "missing"),
        ("item_id", "x" * 129, "longer than 128"),
        ("item_id", "a\tb", "contains a control character"),
        ("event_type", "stare", "not one of impression, view, click, cart, purchase, rating"),
        ("event_at", None, "missing"),
        ("event_at", "yesterday", "not a time: expected ISO 8601, or seconds, ms or µs since 1970"),
        ("event_at", "2026-03-01T00:06:00Z", "in the future"),
        ("event_at", "9" * 20, "not a time: expected ISO 8601, or seconds, ms or µs since 1970"),
        ("event_at", "0", "before 1990-01-01"),
        ("value", "-0.01", "negative"),
        ("value", "cheap", "not a number"),
        ("value", "inf", "not a number"),
        ("position", "0", "not a place counted from 1"),
        ("position", "1.5", "not a place counted from 1"),
        ("propensity", "1.01", "not a probability"),
        ("context", "[1]", "not a JSON object"),
        ("context", "{", "not a JSON object"),
        ("seen_at", "soon", "not a time: expected ISO 8601, or seconds, ms or µs since 1970"),
        ("session_id", "s" * 200, "longer than 128"),
    ],
)  # fmt: skip
def test_a_bad_cell_refuses_its_row_with_the_reason(column, value, reason):
    checked = check(**{column: value})
    assert checked.good.index.tolist() == [0]
    assert list(checked.faults.columns) == FAULT_COLUMNS
    (fault,) = checked.faults.to_dict("records")
    assert (fault["row"], fault["column"], fault["reason"]) == (2, column, reason)
    assert fault["value"] == ("" if value is None else str(value)[:200])


def test_a_row_with_three_faults_is_reported_once_at_its_first_column():
    checked = check(value="-1", user_id=None, event_at="never")
    assert checked.faults["column"].tolist() == ["user_id"]


def test_the_last_tolerated_moment_is_five_minutes_ahead():
    assert len(check(event_at="2026-03-01T00:05:00Z").good) == 2


def test_a_log_event_is_bounded_by_its_own_arrival():
    raw = pd.DataFrame([GOOD, GOOD])
    latest = pd.Series(pd.to_datetime(["2026-02-01T10:00:00Z", "2026-02-01T09:00:00Z"]))
    assert validate.events(raw, latest).faults["reason"].tolist() == ["in the future"]


def test_the_sources_own_row_numbers_are_kept():
    raw = pd.DataFrame([{**GOOD, "row": 17}, {**GOOD, "row": 23, "user_id": None}])
    checked = validate.events(raw, NOW)
    assert checked.good["row"].tolist() == [17]
    assert checked.faults["row"].tolist() == [23]


def test_events_without_a_needed_column_are_no_events():
    raw = pd.DataFrame([GOOD]).drop(columns=["user_id"])
    with pytest.raises(
        ContractError, match="events without a column user_id; there are event_type"
    ):
        validate.events(raw, NOW)


@pytest.mark.parametrize("values", [["1", "-3"], ["1", "free"]])
def test_an_item_keeps_its_title_when_its_price_is_bad(values):
    raw = pd.DataFrame({"item_id": ["a", "b"], "title": ["A", "B"], "price": values})
    checked = validate.items(raw)
    assert checked.good["title"].tolist() == ["A", "B"]
    assert checked.good["price"].isna().tolist() == [False, True]
    assert checked.faults["row"].tolist() == [2]
    assert checked.faults["reason"].str.endswith("; kept without it").all()


def test_a_repeated_or_missing_item_id_refuses_the_row():
    raw = pd.DataFrame({"item_id": ["a", None, "a"], "price": [1.0, 2.0, -3.0]})
    checked = validate.items(raw)
    assert checked.good["item_id"].tolist() == ["a"]
    assert checked.faults["reason"].tolist() == ["missing", "repeats an earlier row"]


def test_a_users_bad_date_is_blanked():
    raw = pd.DataFrame({"user_id": ["a", "b"], "created_at": ["2025-01-01", "once"]})
    checked = validate.users(raw)
    assert checked.good["created_at"].isna().tolist() == [False, True]
    assert len(checked.good) == 2


anything = st.one_of(st.none(), st.text(max_size=6), st.integers(), st.floats(), st.booleans())


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.fixed_dictionaries(
            {name: st.one_of(st.just(good), anything) for name, good in GOOD.items()},
            optional={"value": anything, "position": anything, "context": anything},
        ),
        min_size=1,
        max_size=8,
    )
)
def test_whatever_comes_in_every_row_is_either_good_or_refused(rows):
    raw = pd.DataFrame(rows)
    checked = validate.events(raw, NOW)
    assert sorted([*checked.good.index, *checked.faults.index]) == list(range(len(rows)))
    assert (checked.good["event_at"] >= validate.EARLIEST).all()
