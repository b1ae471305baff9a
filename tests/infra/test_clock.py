from datetime import UTC, datetime, timedelta, timezone

import pytest

from infra.clock import BELIEVED_AFTER_S, STEP_MAX, SimulatedClock, SteadyClock, real_clock

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


class Machine:
    """A machine whose clock can be set; `pass_s` is what no one can set."""

    def __init__(self) -> None:
        self.now, self.passed_s = START, 100.0

    def pass_s(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)
        self.passed_s += seconds

    def clock(self) -> SteadyClock:
        return SteadyClock(lambda: self.now, lambda: self.passed_s)


@pytest.mark.parametrize("jump", [timedelta(days=1), timedelta(days=-1)])
def test_a_jump_is_not_believed_until_it_lasts(jump):
    machine = Machine()
    clock = machine.clock()
    machine.pass_s(60)
    assert clock() == START + timedelta(seconds=60)
    machine.now += jump
    machine.pass_s(60)
    assert clock() == START + timedelta(seconds=120)
    machine.now -= jump  # set right again
    machine.pass_s(60)
    assert clock() == START + timedelta(seconds=180)
    machine.now += jump  # and now for good
    clock()
    machine.pass_s(BELIEVED_AFTER_S)
    assert clock() == machine.now


def test_small_steps_are_followed_however_many_there_are():
    machine = Machine()
    clock = machine.clock()
    for _ in range(10):
        machine.now -= STEP_MAX / 2
        assert clock() == machine.now


def test_the_machines_own_clock_is_steady():
    assert abs(SteadyClock(real_clock)() - real_clock()) < SLACK
