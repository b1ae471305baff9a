"""The stream worker while its servers are away, and when it ends at any point: nothing lost or repeated."""

import os
import random
import signal
import threading
import time
from contextlib import closing

import pytest
from tenacity import RetryError

from features.store import OnlineStore
from infra.event_log import SqliteEventLog
from infra.workspace import Workspace
from monitoring.stream_metrics import StreamMetrics
from pipelines import stream
from pipelines.stream_state import Changes, Fenced, PartitionState
from tests.pipelines.stream_kit import (
    PARTITIONS,
    ListLog,
    assert_exact,
    click,
    counted,
    left_to_push,
    offsets,
    processes,
    running,
    until,
    work_in_small_batches,
)


class FlakyLog(ListLog):
    """A log whose server is away now and then."""

    def __init__(self) -> None:
        super().__init__()
        self.is_away = True

    def read_raw(self, topic, partition, offset, limit):
        self.answer()
        return super().read_raw(topic, partition, offset, limit)

    def append_at(self, topic, records):
        self.answer()
        super().append_at(topic, records)

    def end_offset(self, topic, partition):
        self.answer()
        return super().end_offset(topic, partition)

    def answer(self):
        if self.is_away:
            raise ConnectionError("no broker")


def test_a_log_that_is_away_at_the_start_and_later_delays_events_and_loses_none(tmp_path):
    workspace, log, metrics = Workspace(tmp_path, "small"), FlakyLog(), StreamMetrics()
    records = [click(number, f"u{number % 3}") for number in range(9)]
    log.append("events", records[:3])
    with running(workspace, log, metrics=metrics) as failed:
        for number in (3, 6, 9):
            count = counted(metrics, "shortlist_stream_failures_total", server="log")
            until(
                lambda count=count: (
                    counted(metrics, "shortlist_stream_failures_total", server="log") > count
                )
            )
            log.is_away = False
            until(lambda number=number: sum(offsets(workspace)) == number)
            log.is_away = True
            log.append("events", records[number : number + 3])
        log.is_away = False
        until(lambda: sum(offsets(workspace)) == 9 and not left_to_push(workspace))
    assert not failed
    assert_exact(workspace, records)


def test_a_log_that_cannot_be_opened_is_tried_until_told_to_stop():
    metrics, stop = StreamMetrics(), threading.Event()
    failures = iter(range(2))

    def away_at_first(*_):
        if next(failures, None) is not None:
            raise ConnectionError("no broker")
        return "the log"

    assert stream._patient(stop, metrics)(away_at_first) == "the log"
    assert counted(metrics, "shortlist_stream_failures_total", server="log") == 2
    failures = iter(range(10**9))
    threading.Timer(0.3, stop.set).start()
    with pytest.raises(RetryError):
        stream._patient(stop, metrics)(away_at_first)


def test_a_second_worker_on_the_same_partition_is_refused_and_changes_nothing(tmp_path):
    first, second = (PartitionState(tmp_path, 0, 1) for _ in range(2))
    with closing(first), closing(second):
        first.commit(0, 5, Changes({"u": {"a": 1}}))
        with pytest.raises(Fenced, match="stands at offset 5 in epoch 0, expected 0 in 0: another"):
            second.commit(0, 7, Changes({"u": {"a": 2}}))
        assert first.load(["u"]) == {"u": {"a": 1}}
        assert first.next_offset == 5


class Crash(BaseException):
    """Stands for the process's end at this point."""


@pytest.mark.parametrize("step", ["commit", "push", "mark_sent", "mark_pushed"])
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_crash_around_any_step_is_healed_by_the_next_start(tmp_path, monkeypatch, step, when):
    workspace, log = Workspace(tmp_path, "small"), ListLog()
    records = [click(number, f"u{number % 3}") for number in range(12)]
    log.append("events", records)
    owner = OnlineStore if step == "push" else PartitionState
    original = getattr(owner, step)

    def crashing(self, *args):
        if when == "after":
            original(self, *args)
        raise Crash

    with monkeypatch.context() as patched:
        patched.setattr(owner, step, crashing)
        with running(workspace, log) as failed:
            until(lambda: failed)
        assert isinstance(failed[0], Crash)
    with running(workspace, log) as failed:
        until(lambda: sum(offsets(workspace)) == 12 and not left_to_push(workspace))
    assert not failed
    assert_exact(workspace, records)


def test_kill_9_loses_and_repeats_nothing(tmp_path):
    workspace, rng = Workspace(tmp_path, "small"), random.Random(0)
    records = [click(number, f"u{rng.randrange(9)}") for number in range(2000)]
    log = SqliteEventLog(workspace.event_log, PARTITIONS)
    log.append("events", records)
    standing = []
    for _ in range(4):
        worker = processes.Process(target=work_in_small_batches, args=(workspace,), daemon=True)
        worker.start()
        before = sum(offsets(workspace))
        until(lambda before=before: sum(offsets(workspace)) > before)
        time.sleep(rng.uniform(0.0, 0.2))
        assert worker.pid is not None
        os.kill(worker.pid, signal.SIGKILL)
        worker.join(10)
        standing.append(sum(offsets(workspace)))
    assert 0 < standing[0] < 2000, "the kills must fall into the work"
    with running(workspace, log):
        until(lambda: sum(offsets(workspace)) == 2000 and not left_to_push(workspace))
    log.close()
    assert_exact(workspace, records)
