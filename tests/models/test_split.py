from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.errors import ContractError
from models.split import DAY_US, time_split

START_US = 1_772_323_200_000_000  # 2026-03-01T00:00Z


def test_cuts_at_the_midnights_nearest_to_the_quantiles() -> None:
    # One positive an hour for 100 days: 80 % of them after 80 days, 80 % of those after 64.
    event_at = START_US + np.arange(2400) * DAY_US // 24
    split = time_split(event_at)
    start = datetime(2026, 3, 1, tzinfo=UTC)
    assert split.test_from == start + timedelta(days=80)
    assert split.ranker_from == start + timedelta(days=64)
    assert split.end == start + timedelta(hours=2399, microseconds=1)


def test_where_one_day_holds_most_of_the_data_the_cut_lies_inside_of_it() -> None:
    # Twenty quiet days, then a morning with nine tenths of all positives: midnight would leave
    # them all to the test, or, in the afternoon, a test that begins after the data ends.
    quiet = START_US + np.arange(100) * DAY_US // 5
    for hour in (6, 15):
        busy = START_US + 20 * DAY_US + hour * DAY_US // 24 + np.arange(900) * 1_000_000
        event_at = np.concatenate([quiet, busy])
        split = time_split(event_at)
        test_from_us = split.test_from.timestamp() * 1e6
        assert (event_at >= test_from_us).mean() == pytest.approx(0.2, abs=0.01)
        assert split.ranker_from < split.test_from < split.end


def test_short_data_is_cut_inside_a_day() -> None:
    split = time_split(START_US + np.arange(100) * 60_000_000)
    assert split.test_from == datetime(2026, 3, 1, 1, 20, tzinfo=UTC)
    assert split.ranker_from == datetime(2026, 3, 1, 1, 4, tzinfo=UTC)


@given(st.lists(st.integers(START_US, START_US + 40 * DAY_US), min_size=1, max_size=50))
def test_nothing_trained_on_is_later_than_what_is_tested(event_at: list[int]) -> None:
    split = time_split(np.array(event_at))
    assert split.ranker_from <= split.test_from
    assert datetime(2026, 2, 28, tzinfo=UTC) <= split.ranker_from
    if max(event_at) - min(event_at) < 5 * DAY_US:
        assert split.test_from < split.end


def test_without_positives_it_says_what_to_do() -> None:
    with pytest.raises(ContractError, match=r"no positive event.*ingest events"):
        time_split(np.empty(0, dtype=np.int64))
