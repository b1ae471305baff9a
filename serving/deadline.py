"""Deadlines: how long a request may take, and calls to the outside that keep to it.

A blocking client cannot be interrupted, so its call runs in a thread of a pool with a fixed number
of threads and of places to wait. The request stops waiting when its slice is over; the thread keeps
its place until the call returns. A dependency that hangs therefore fills the pool once, and from
then on requests are told so at once.
"""

import asyncio
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import ParamSpec, TypeVar

from features.errors import Unavailable

P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Deadline:
    """When a request must be answered, on the monotonic clock: the wall clock may jump."""

    budget_ms: float
    started: float = field(default_factory=time.monotonic)

    def elapsed_ms(self) -> float:
        """Time since the request began."""
        return (time.monotonic() - self.started) * 1000

    def left_ms(self) -> float:
        """Time that remains, at least 0."""
        return max(self.budget_ms - self.elapsed_ms(), 0.0)


class BoundedPool:
    """Runs blocking calls, each with a time limit, and never lets them pile up.

    Interview: The feature store hangs. What happens to the API?
        The first requests wait for their slice of the deadline and answer from a lower rung. Their
        threads stay stuck, because Python cannot stop a thread; once all places are taken, requests
        do not wait at all. So the damage is a fixed number of threads, not a growing queue.
        Trade-off: the places must be few enough to bound the damage and many enough for normal
        bursts; and a full pool says nothing about when the store is well again, the next free
        place does.
        Shown by: tests/serving/test_deadline.py::test_a_stuck_pool_refuses_at_once
    """

    def __init__(self, name: str, *, threads: int, waiting: int, error: type[Unavailable]) -> None:
        """Make a pool of `threads`, with `waiting` more places; failures are raised as `error`."""
        self.name, self.places, self.error = name, threads + waiting, error
        self._executor = ThreadPoolExecutor(threads, thread_name_prefix=name)
        self._taken = 0
        self._lock = threading.Lock()

    async def call(
        self, timeout_ms: float, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """The function's result.

        Raises:
            Unavailable: (as `error`) no place is free, or there was no answer in time.
        """
        with self._lock:
            if self._taken >= self.places:
                raise self.error(f"{self.name}: all {self.places} places wait for an answer")
            self._taken += 1
        future = self._executor.submit(function, *args, **kwargs)
        future.add_done_callback(self._leave)  # also when it is cancelled before it began
        try:
            return await asyncio.wait_for(asyncio.wrap_future(future), timeout_ms / 1000)
        except TimeoutError:
            raise self.error(f"{self.name}: no answer within {timeout_ms:.0f} ms") from None

    def close(self) -> None:
        """Take no more calls; what runs is not waited for here."""
        self._executor.shutdown(wait=False, cancel_futures=True)

    def _leave(self, _: Future[T]) -> None:
        with self._lock:
            self._taken -= 1
