"""What was shown, on its way to the log: written behind the answer, in a bounded queue."""

import queue
import threading
import time
from contextlib import suppress

import structlog

from infra.event_log import Appender
from monitoring.metrics import Metrics
from monitoring.shown import Shown, impressions, served
from serving.recommend import Answer

SLATES_WAITING = 2_000
"""Four kilobytes each; at 200 slates a second, ten seconds of a log that does not answer."""

SLATES_TOGETHER = 100
FLUSH_TIMEOUT_S = 5.0


class Outbox:
    """A queue and one thread that empties it.

    Interview: Why may an impression be lost when a click may not?
        A click is answered with 202, a promise; so it is on the disk first. An impression is made
        by every answer, and waiting for a disk would put an fsync into each recommendation. It
        goes through a queue of fixed length: if the log stalls, slates are dropped and counted,
        and the answers stay fast.
        Trade-off: after a crash the last impressions are missing, so a click may find no slate;
        click rates are a little too high then, and `dropped` says by how much.
        Shown by: tests/serving/test_outbox.py::test_a_stalled_log_drops_and_counts_but_never_waits
    """

    def __init__(
        self,
        log: Appender,
        metrics: Metrics,
        feature_share: float,
        waiting: int = SLATES_WAITING,
    ) -> None:
        self._log, self._metrics, self._share = log, metrics, feature_share
        self._queue: queue.Queue[Answer | None] = queue.Queue(waiting)
        metrics.watch_depth(self._queue.qsize)
        self._thread = threading.Thread(target=self._run, name="outbox", daemon=True)
        self._thread.start()

    def put(self, answer: Answer) -> None:
        """Take one answer, or count it as dropped; never waits. A look is not logged."""
        if answer.asked.look is not None:
            return
        try:
            self._queue.put_nowait(answer)
        except queue.Full:
            self._metrics.dropped.inc()

    def close(self, timeout_s: float = FLUSH_TIMEOUT_S) -> None:
        """Write what waits, for at most `timeout_s`; what is left then is counted as dropped."""
        until = time.monotonic() + timeout_s
        with suppress(queue.Full):  # the log stalls; the thread is a daemon and ends with us
            self._queue.put(None, timeout=timeout_s)
        self._thread.join(max(until - time.monotonic(), 0))
        if left := self._queue.qsize():
            self._metrics.dropped.inc(left)
            structlog.get_logger().error("slates lost at shutdown", slates=left)

    def _run(self) -> None:
        open_ = True
        while open_:
            answers = [self._queue.get()]
            while len(answers) < SLATES_TOGETHER and not self._queue.empty():
                answers.append(self._queue.get_nowait())
            slates = [answer for answer in answers if answer is not None]
            open_ = len(slates) == len(answers)
            self._write(slates)

    def _write(self, answers: list[Answer]) -> None:
        try:
            slates = [_shown(answer) for answer in answers]
            events = [record for slate in slates for record in impressions(slate)]
            whole = [served(slate, self._share) for slate in slates]
            self._log.append("events", events)
            self._log.append("served", whole)
            self._metrics.written.inc(len(events) + len(whole))
        except Exception as error:  # a full spool, a locked file: this thread must outlive it
            self._metrics.dropped.inc(len(answers))
            structlog.get_logger().error("slates not logged", slates=len(answers), exc_info=error)


def _shown(answer: Answer) -> Shown:
    slate, asked = answer.slate, answer.asked
    assert slate is not None
    return Shown(
        request_id=answer.request_id,
        at=asked.now,
        user_id=asked.user_id,
        context=asked.context,
        bundle=answer.bundle,
        slate=slate,
        arm=answer.arm,
        arms=answer.arms,
        rung=answer.rung,
    )
