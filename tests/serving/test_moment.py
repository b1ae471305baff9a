from datetime import UTC, datetime, timedelta

import pytest

from features.errors import ContractError
from infra.clock import SimulatedClock, SteadyClock, real_clock
from infra.settings import Settings
from serving.moment import clock_of, moment
from serving.refusals import Refusal

START = datetime(2026, 3, 1, tzinfo=UTC)


def test_a_caller_moves_a_simulated_clock_on_but_never_back():
    clock = SimulatedClock(START)
    assert moment(clock, "2026-03-02T08:00:00+00:00") - datetime(
        2026, 3, 2, 8, tzinfo=UTC
    ) < timedelta(seconds=5)
    assert moment(clock, "2026-03-01T08:00:00Z") >= datetime(2026, 3, 2, 8, tzinfo=UTC)
    assert moment(clock, None) >= datetime(2026, 3, 2, 8, tzinfo=UTC)


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ("tomorrow", "ISO 8601"),
        ("2026-03-02T08:00:00", "with its zone"),
        ("0001-01-01T00:00:00+14:00", "1971 to 9998"),
        ("2028-03-02T08:00:00Z", "more than 366 days"),
    ],
)
def test_a_time_that_is_none_is_refused(said, why):
    with pytest.raises(Refusal, match=why) as refused:
        moment(SimulatedClock(START), said)
    assert (refused.value.status, refused.value.field) == (400, "X-Simulated-Now")


def test_real_time_cannot_be_moved():
    with pytest.raises(Refusal, match="runs on real time"):
        moment(real_clock, "2026-03-02T08:00:00Z")
    assert moment(real_clock, None).tzinfo is UTC


def test_a_simulated_clock_needs_a_start():
    with pytest.raises(
        ContractError, match="SHORTLIST_CLOCK_START is not set; expected a time such as"
    ):
        clock_of(Settings(clock="simulated"))


def test_a_clock_that_stands_is_where_the_last_caller_said():
    clock = clock_of(Settings(clock="simulated", clock_start=START, clock_runs=False))
    assert moment(clock, None) == START
    assert moment(clock, "2026-03-02T08:00:00.001Z") == datetime(2026, 3, 2, 8, 0, 0, 1000, UTC)


def test_a_start_without_a_zone_is_utc():
    clock = clock_of(Settings(clock="simulated", clock_start=datetime(2026, 3, 1, 9)))
    assert clock() - START.replace(hour=9) < timedelta(seconds=5)
    assert isinstance(clock_of(Settings()), SteadyClock)
