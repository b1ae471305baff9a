from datetime import UTC, datetime, timedelta, timezone

from infra.clock import SimulatedClock, real_clock

START = datetime(2026, 3, 1, 12, tzinfo=UTC)
SLACK = timedelta(seconds=5)


def test_simulated_time_moves_on_and_never_back():
    clock = SimulatedClock(START)
    clock.advance_to(START + timedelta(days=3))
    assert timedelta(0) <= clock() - (START + timedelta(days=3)) < SLACK
    clock.advance_to(START + timedelta(days=1))
    assert clock() >= START + timedelta(days=3)


def test_simulated_time_runs_by_itself():
    clock = SimulatedClock(START)
    first = clock()
    assert START <= first <= clock() < START + SLACK


def test_a_simulated_clock_can_stand_until_it_is_moved():
    clock = SimulatedClock(START, runs=False)
    assert clock() == clock() == START
    clock.advance_to(START + timedelta(microseconds=1))
    assert clock() == START + timedelta(microseconds=1)
    clock.advance_to(START)
    assert clock() == START + timedelta(microseconds=1)


def test_simulated_time_is_utc_whatever_zone_it_is_told_in():
    clock = SimulatedClock(START.astimezone(timezone(timedelta(hours=9))))
    assert clock().tzinfo is UTC
    assert clock() - START < SLACK


def test_the_real_clock_is_utc():
    assert real_clock().tzinfo is UTC
