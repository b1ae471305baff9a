"""One fsync for all who wait: whoever arrives while a write syncs shares the next one."""

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Generic, TypeVar

T = TypeVar("T")


class GroupCommit(Generic[T]):
    """Turns a write that is slow, but no slower for many items, into one that many threads share.

    Interview: What does 202 Accepted promise, and what does it cost?
        That the event is on the disk: fsync returns before the answer leaves, so killing the
        process a microsecond later loses nothing. The fsync is paid once per *group*: while one
        transaction syncs, the appends that arrive wait, and the next transaction takes them all.
        Trade-off: each caller waits up to two syncs; a buffer without fsync is faster and loses
        its tail. One machine's disk is still one copy: replication is Kafka's work.
        Shown by: tests/infra/test_group_commit.py::test_who_waits_shares_the_next_write
    """

    def __init__(self, write: Callable[[list[T]], Sequence[Exception | None]]) -> None:
        """Make one over `write`.

        Args:
            write: stores the items and returns for each None or why it was left out; an exception
                means that none is stored. Never called by two threads at once.
        """
        self.writes = 0
        self._write = write
        self._waiting: list[tuple[T, Future[None]]] = []
        self._waiting_lock, self._write_lock = threading.Lock(), threading.Lock()

    def submit(self, item: T) -> None:
        """Return when the item is stored.

        Raises:
            Exception: what `write` raised, or returned for this item.
        """
        stored: Future[None] = Future()
        with self._waiting_lock:
            self._waiting.append((item, stored))
        with self._write_lock:  # whoever enters first writes for all that wait behind it
            if not stored.done():
                self._write_waiting()
        stored.result()

    def alone(self, work: Callable[[], None]) -> None:
        """Run `work` between two writes."""
        with self._write_lock:
            work()

    def _write_waiting(self) -> None:
        with self._waiting_lock:
            waiting, self._waiting = self._waiting, []
        outcomes: Sequence[Exception | None]
        try:
            outcomes = self._write([item for item, _ in waiting])
        except Exception as error:  # every waiting caller gets it; none may hang
            outcomes = [error] * len(waiting)
        self.writes += 1
        for (_, stored), why in zip(waiting, outcomes, strict=True):
            if why is None:
                stored.set_result(None)
            else:
                stored.set_exception(why)
