"""The clock is an argument: a simulated day must not wait for a real one."""

import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

Clock = Callable[[], datetime]
"""Returns now, in UTC."""


def real_clock() -> datetime:
    """The machine's time."""
    return datetime.now(UTC)


class SimulatedClock:
    """Time that starts where it is told and can be moved on but never back.

    In between it runs at real speed, so that a page that somebody looks at is alive; or it stands
    still, so that what is answered and logged does not depend on how fast the machine was.

    Interview: Why is the clock an argument and not `datetime.now()`?
        Because every window, age and label depends on it, and a test or a simulation has to
        choose the moment. With the clock passed in, a simulated week takes a minute and the same
        code serves real time.
        Trade-off: one more argument everywhere; a forgotten `now()` deep below is a silent bug.
        Shown by: tests/infra/test_clock.py::test_simulated_time_moves_on_and_never_back
    """

    def __init__(self, start: datetime, *, runs: bool = True) -> None:
        self._lock = threading.Lock()
        self._runs = runs
        self._base = start.astimezone(UTC)
        self._since = time.monotonic()

    def __call__(self) -> datetime:
        """Where it was last set, plus what passed since then if it runs."""
        with self._lock:
            return self._now()

    def advance_to(self, moment: datetime) -> None:
        """Move on to `moment`; an earlier moment changes nothing."""
        with self._lock:
            if moment > self._now():
                self._base, self._since = moment.astimezone(UTC), time.monotonic()

    def _now(self) -> datetime:
        passed_s = time.monotonic() - self._since if self._runs else 0.0
        return self._base + timedelta(seconds=passed_s)
