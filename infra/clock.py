"""The clock is an argument: a simulated day must not wait for a real one."""

import logging
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

Clock = Callable[[], datetime]
"""Returns now, in UTC."""


log = logging.getLogger(__name__)


def real_clock() -> datetime:
    """The machine's time."""
    return datetime.now(UTC)


def since_boot() -> float:
    """Seconds that no one can set; those of a machine's sleep count, where the system tells them."""
    try:
        return time.clock_gettime(time.CLOCK_BOOTTIME)
    except (AttributeError, OSError):  # Linux alone has it
        return time.monotonic()


STEP_MAX = timedelta(minutes=5)
"""The machine's clock may be set by so much at once and is believed: time servers do so at a start."""

BELIEVED_AFTER_S = 900.0
"""A larger step that lasts so long is no slip: somebody has put right a clock that was wrong."""


class SteadyClock:
    """The machine's time, but a jump of it is not believed at once.

    Interview: Somebody sets a server's clock a day ahead, and back a minute later. What breaks?
        Everything that keeps the newest time it has seen. Rows outlive their TTL at once, and an
        event stamped tomorrow moves the user's watermark, so that a whole day of true events is
        late. So the API measures how far wall time moved against the monotonic clock, which no
        one can set, goes on by the latter after a jump, and follows only when the jump lasts.
        Trade-off: a clock that was wrong and is set right is followed after a quarter of an hour.
        Shown by: tests/infra/test_clock.py::test_a_jump_is_not_believed_until_it_lasts
    """

    def __init__(self, wall: Clock, monotonic: Callable[[], float] = since_boot) -> None:
        """Begin with what the machine says now."""
        self._wall, self._monotonic, self._lock = wall, monotonic, threading.Lock()
        self._base, self._since = wall(), monotonic()
        self._jumped_at: float | None = None

    def __call__(self) -> datetime:
        """Now, in UTC."""
        with self._lock:
            told, passed_s = self._wall(), self._monotonic()
            steady = self._base + timedelta(seconds=passed_s - self._since)
            if abs(told - steady) <= STEP_MAX:
                self._base, self._since, self._jumped_at = told, passed_s, None
                return told
            if self._jumped_at is None:
                self._jumped_at = passed_s
                log.error("the machine's clock jumped from %s to %s: not believed", steady, told)
            if passed_s - self._jumped_at < BELIEVED_AFTER_S:
                return steady
            log.error("the machine's clock has jumped for good: it is %s from now on", told)
            self._base, self._since, self._jumped_at = told, passed_s, None
            return told


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
