"""Cells as files have them, and what they mean."""

from datetime import UTC, datetime

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.parse import json_object, moment, number, text

NOON = pd.Timestamp("2024-03-01T12:00:00Z")
SECONDS = 1_709_294_400


@pytest.mark.parametrize(
    "written",
    [
        SECONDS,
        float(SECONDS),
        str(SECONDS),
        f"{SECONDS}.0",
        SECONDS * 1_000,
        SECONDS * 1_000_000,
        SECONDS * 1_000_000_000,
        "2024-03-01T12:00:00Z",
        "2024-03-01 12:00:00",
        "2024-03-01T13:00:00+01:00",
        "2024-03-01 12:00:00.000000+00",
        "2024/03/01 12:00:00",
        datetime(2024, 3, 1, 12, tzinfo=UTC),
    ],
)
def test_one_moment_in_all_its_spellings(written):
    parsed = moment(pd.Series([written], dtype=object))
    assert parsed.dtype == "datetime64[us, UTC]"
    assert parsed[0] == NOON


def test_spellings_may_be_mixed_in_one_column():
    column = pd.Series(["2024-03-01", str(SECONDS), None, "no", "2024-03-01T12:00:00.123456Z"])
    parsed = moment(column)
    assert parsed.isna().tolist() == [False, False, True, True, False]
    assert parsed[4].microsecond == 123456


def test_moments_without_a_zone_are_utc():
    assert moment(pd.Series(pd.to_datetime(["2024-03-01T12:00:00"])))[0] == NOON


@given(st.integers(631_152_000_000_000, 4_102_444_800_000_000))  # µs, 1990 to 2100
def test_microseconds_survive_exactly(micros):
    assert moment(pd.Series([str(micros)])).astype("int64")[0] == micros


def test_text_is_stripped_and_blank_is_none():
    assert text(pd.Series([" a ", "", "  ", None, 7, 1.5], dtype=object)).tolist() == [
        "a", None, None, None, "7", "1.5",
    ]  # fmt: skip
    assert text(pd.Series([3, 4])).tolist() == ["3", "4"]


def test_numbers_are_finite_or_nothing():
    parsed = number(pd.Series(["1.5", "inf", "x", None, 2], dtype=object))
    assert parsed.isna().tolist() == [False, True, True, True, False]


def test_an_object_is_taken_as_dict_or_text_and_written_one_way():
    column = pd.Series([{"b": 1, "a": 2}, '{"b":1,"a":2}', "3", None, "{"], dtype=object)
    assert json_object(column).tolist() == ['{"a": 2, "b": 1}'] * 2 + [None, None, None]
