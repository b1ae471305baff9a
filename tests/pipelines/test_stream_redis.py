"""The stream worker on a real Redis that is killed, started again and emptied; exact at the end."""

import os
import random
import signal
import time
from contextlib import closing

import pytest
import redis

import pipelines.stream as stream
from features.store import OnlineStore
from infra.clients import open_feast
from infra.event_log import SqliteEventLog
from infra.workspace import Workspace
from monitoring.stream_metrics import StreamMetrics
from pipelines import stream_push, stream_read
from pipelines.recount import recount
from tests.features.small_lake import POSITIVE
from tests.features.workspaces import NOW, built_workspace
from tests.pipelines.stream_kit import (
    PARTITIONS,
    click,
    counted,
    left_to_push,
    offsets,
    processes,
    running,
    until,
    work_in_small_batches,
)


@pytest.fixture
def workspace(own_redis, tmp_path):
    return Workspace(tmp_path, "small", own_redis.services)


@pytest.fixture
def log(workspace):
    with closing(SqliteEventLog(workspace.event_log, PARTITIONS)) as log:
        yield log


@pytest.fixture
def checks_often(monkeypatch):
    monkeypatch.setattr(stream_push, "CHECK_EVERY_S", 0.05)
    monkeypatch.setattr(stream_push, "REFILL_EVERY_S", 0.5)


def judged(workspace, log, settle_s=30.0) -> tuple[int, int, int]:
    found = recount(workspace, log, POSITIVE, wait_s=60, settle_s=settle_s)
    assert (found["items_wrong"], found["items_missing"]) == (0, 0)
    return found["users"], found["wrong"], found["missing"]


def test_a_redis_that_is_away_at_the_start_and_later_delays_rows_and_loses_none(
    workspace, log, own_redis
):
    own_redis.kill()
    metrics = StreamMetrics()
    log.append("events", [click(number, f"u{number}") for number in range(5)])
    with running(workspace, log, metrics=metrics) as failed:
        until(lambda: sum(offsets(workspace)) == 5)  # folding needs no Redis
        until(lambda: counted(metrics, "shortlist_stream_failures_total", server="store") > 1)
        assert len(left_to_push(workspace)) == 5
        own_redis.start()
        until(lambda: not left_to_push(workspace))
        own_redis.kill()
        log.append("events", [click(number, f"u{number % 5}") for number in range(5, 10)])
        until(lambda: sum(offsets(workspace)) == 10)
        own_redis.start()
        assert judged(workspace, log) == (5, 0, 0)
    assert not failed


def test_an_emptied_store_is_filled_again(workspace, log, own_redis, checks_often):
    """Users with events come back from the states, users known only from before from the seed."""
    built_workspace(workspace)
    metrics = StreamMetrics()
    online = OnlineStore(open_feast(workspace))
    with closing(stream.open_seeds(workspace)) as seeds:
        user_id = min(seeds.users())
    before = online.read_user(user_id, (), NOW).history_items
    assert before
    log.append("events", [click(number, f"new{number % 3}") for number in range(9)])
    with running(workspace, log, metrics=metrics) as failed:
        users, wrong, missing = judged(workspace, log)
        assert (users > 3, wrong, missing) == (True, 0, 0)
        redis.Redis.from_url(f"redis://{own_redis.services.redis}").flushall()
        assert judged(workspace, log) == (users, 0, 0)
        assert online.read_user(user_id, (), NOW).history_items == before
        assert counted(metrics, "shortlist_stream_refills_total") >= 1
        log.append("events", [click(9, "new0")])
        until(lambda: sum(offsets(workspace)) == 10 and not left_to_push(workspace))
        assert judged(workspace, log) == (users, 0, 0)
    assert not failed


def test_a_store_emptied_while_the_worker_was_away_is_filled_at_its_start(
    workspace, log, own_redis
):
    log.append("events", [click(number, f"u{number % 3}") for number in range(9)])
    with running(workspace, log):
        until(lambda: sum(offsets(workspace)) == 9 and not left_to_push(workspace))
    redis.Redis.from_url(f"redis://{own_redis.services.redis}").flushall()
    assert recount(workspace, log, POSITIVE, wait_s=0, settle_s=0)["missing"] == 3
    with running(workspace, log):
        assert judged(workspace, log) == (3, 0, 0)


def test_kill_9_of_the_worker_and_of_redis_leaves_every_row_exact(workspace, log, own_redis):
    rng = random.Random(1)
    log.append("events", [click(number, f"u{rng.randrange(9)}") for number in range(2000)])
    standing = []
    for turn in range(3):
        worker = processes.Process(target=work_in_small_batches, args=(workspace,), daemon=True)
        worker.start()
        before = sum(offsets(workspace))
        until(lambda before=before: sum(offsets(workspace)) > before)
        time.sleep(rng.uniform(0.0, 0.2))
        if turn == 1:
            own_redis.kill()
        assert worker.pid is not None
        os.kill(worker.pid, signal.SIGKILL)
        worker.join(10)
        if turn == 1:
            own_redis.start()
        standing.append(sum(offsets(workspace)))
    assert 0 < standing[0] < 2000, "the kills must fall into the work"
    with running(workspace, log) as failed:
        until(lambda: sum(offsets(workspace)) == 2000)
        assert judged(workspace, log) == (9, 0, 0)
    assert not failed
    assert stream_read.BATCH == 5_000  # the small batches were the other processes' only
