"""A stream worker in a thread of this process, for drills and tests that look at what it leaves."""

import threading
import time
from collections.abc import Collection, Iterable, Iterator
from contextlib import closing, contextmanager

from features.errors import Unavailable
from infra.event_log import EventLog
from infra.workspace import Workspace
from monitoring.stream_metrics import StreamMetrics
from pipelines.stream import run
from pipelines.stream_owner import Fixed
from pipelines.stream_state import PartitionState


@contextmanager
def working(
    workspace: Workspace,
    log: EventLog,
    positive_types: Collection[str],
    metrics: StreamMetrics | None = None,
    partitions: Iterable[int] | None = None,
) -> Iterator[list[BaseException]]:
    """A worker that owns `partitions`, all if None; what ended it, if anything did."""
    mine = Fixed(range(log.partitions) if partitions is None else partitions)
    stop, failed = threading.Event(), list[BaseException]()

    def work() -> None:
        try:
            run(
                workspace, log, owner=mine, positive_types=positive_types, stop=stop, poll_s=0.01,
                metrics=metrics,
            )  # fmt: skip
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield failed
    finally:
        stop.set()
        thread.join(30)


def worked_off(
    workspace: Workspace,
    log: EventLog,
    positive_types: Collection[str],
    metrics: StreamMetrics | None = None,
    within_s: float = 90.0,
) -> None:
    """Let a worker fold and push all that is in the log.

    Raises:
        Unavailable: it died, or did not come to the end in time.
    """
    until = time.monotonic() + within_s
    ends = [log.end_offset("events", partition) for partition in range(log.partitions)]
    with working(workspace, log, positive_types, metrics) as failed:
        while not failed and time.monotonic() < until:
            if all(_is_done(workspace, place, len(ends), end) for place, end in enumerate(ends)):
                return
            time.sleep(0.01)
    raise Unavailable(f"the worker has not come to {ends} within {within_s:g} s: {failed}")


def _is_done(workspace: Workspace, partition: int, partitions: int, end: int) -> bool:
    with closing(PartitionState(workspace.state, partition, partitions)) as state:
        return state.next_offset >= end and not state.unpushed(1) and not state.outbox(1)
