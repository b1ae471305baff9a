"""What was shown, on its way to the log: written behind the answer, in a bounded queue.

Two topics. `events` gets one impression per shown item, like any other event. `served` gets one
record per slate with the exact features and scores, so that monitoring compares what the model
really read, not what a later join says it should have read.
"""

import json
import queue
import threading
import time
from contextlib import suppress
from datetime import datetime
from typing import Any

import numpy as np
import structlog

from infra.event_log import Appender
from models.funnel import SOURCES
from monitoring.metrics import Metrics
from serving.recommend import Answer

SLATES_WAITING = 2_000
"""Four kilobytes each; at 200 slates a second, ten seconds of a log that does not answer."""

SLATES_TOGETHER = 100
FLUSH_TIMEOUT_S = 5.0

Records = list[tuple[str, dict[str, Any]]]


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
            shown = [record for answer in answers for record in impressions(answer)]
            served = [self._served(answer) for answer in answers]
            self._log.append("events", shown)
            self._log.append("served", served)
            self._metrics.written.inc(len(shown) + len(served))
        except Exception as error:  # a full spool, a locked file: this thread must outlive it
            self._metrics.dropped.inc(len(answers))
            structlog.get_logger().error("slates not logged", slates=len(answers), exc_info=error)

    def _served(self, answer: Answer) -> tuple[str, dict[str, Any]]:
        slate, ids = answer.slate, answer.bundle.catalogue.item_ids
        assert slate is not None
        # By the request's random id: an unbiased sample, and no generator to share.
        sampled = int(answer.request_id[:8], 16) / 16**8 < self._share
        features = slate.features if sampled and slate.features is not None else np.empty((0, 0))
        return answer.asked.user_id, {
            "request_id": answer.request_id,
            "served_at": _iso(answer.asked.now),
            "user_id": answer.asked.user_id,
            "bundle": answer.bundle.id,
            "arm": answer.arm,
            "rung": answer.rung,
            "item_ids": ids[slate.item_ix].tolist(),
            "scores": slate.scores.tolist(),
            "features": [[_number(value) for value in row] for row in features.tolist()],
        }


def impressions(answer: Answer) -> Records:
    """One event per shown item, in the columns of features/schema.py EVENTS."""
    slate, asked = answer.slate, answer.asked
    assert slate is not None
    at = _iso(asked.now)
    common = {
        "event_type": "impression",
        "user_id": asked.user_id,
        "session_id": None,
        "request_id": answer.request_id,
        "event_at": at,
        "seen_at": at,
        "value": None,
        "context": json.dumps(dict(asked.context)),
        "bundle": answer.bundle.id,
        "propensity": None,  # nothing is randomised yet
        "arms": json.dumps(answer.arms),
    }
    shown = zip(answer.bundle.catalogue.item_ids[slate.item_ix], slate.source, strict=True)
    return [
        (
            asked.user_id,
            {
                **common,
                "event_id": f"{answer.request_id}:{position}",
                "item_id": str(item_id),
                "position": position,
                "source": SOURCES[source],
            },
        )
        for position, (item_id, source) in enumerate(shown, start=1)
    ]


def _iso(moment: datetime) -> str:
    return moment.isoformat(timespec="microseconds")


def _number(value: float) -> float | None:
    """JSON has no NaN; a feature that is not a number is one that was missing."""
    return value if np.isfinite(value) else None
