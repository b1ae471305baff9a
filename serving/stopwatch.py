"""Where the time of one request went."""

import time
from collections.abc import Iterator
from contextlib import contextmanager


class Stopwatch:
    """Milliseconds by stage; the funnel gets `stage` and knows nothing of clocks."""

    def __init__(self) -> None:
        self.ms: dict[str, float] = {}
        self.running: str | None = None
        """The stage that is under way; after an exception, the one that failed."""

        self._started = time.perf_counter()

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time what runs inside; a stage entered twice adds up."""
        self.running, since = name, time.perf_counter()
        try:
            yield
        finally:
            self.ms[name] = self.ms.get(name, 0.0) + (time.perf_counter() - since) * 1000
        self.running = None  # not after an exception

    def stop(self) -> dict[str, float]:
        """All stages and `total`, rounded to microseconds."""
        self.ms["total"] = (time.perf_counter() - self._started) * 1000
        return {name: round(ms, 3) for name, ms in self.ms.items()}


def server_timing(timings_ms: dict[str, float]) -> str:
    """The header that browsers show in their network panel.

    >>> server_timing({"rank": 1.25, "total": 3.0})
    'rank;dur=1.25, total;dur=3.0'
    """
    return ", ".join(f"{name};dur={ms}" for name, ms in timings_ms.items())
