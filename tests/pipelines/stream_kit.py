"""Events, a log in memory, and what a stream worker left: what every test of the stream stands on."""

import json
import multiprocessing
import threading
import time
from contextlib import closing
from datetime import UTC, datetime, timedelta
from functools import partial

import pipelines.stream_thread
from features.store import OnlineStore
from features.streaming import fold, parsed, row_of
from infra.clients import open_feast
from infra.event_log import Raw, SqliteEventLog, partition_of
from infra.workspace import Workspace
from pipelines import stream, stream_read
from pipelines.stream_owner import Fixed
from pipelines.stream_state import PartitionState
from pipelines.stream_thread import working
from tests.features.small_lake import POSITIVE

PARTITIONS = 2
START = datetime(2026, 3, 1, tzinfo=UTC)

processes = multiprocessing.get_context("forkserver")
processes.set_forkserver_preload(["pipelines.materialize", "pipelines.stream"])


class ListLog:
    """The event log's interface over lists."""

    partitions = PARTITIONS

    def __init__(self) -> None:
        self.lists: dict[tuple[str, int], list[Raw]] = {}
        self.limits: list[int] = []

    def append(self, topic, records):
        for key, value in records:
            mine = self.lists.setdefault((topic, partition_of(key, PARTITIONS)), [])
            mine.append((len(mine), key, json.dumps(value).encode()))

    def append_at(self, topic, records):
        for partition, text in records:
            mine = self.lists.setdefault((topic, partition), [])
            mine.append((len(mine), "", text.encode()))

    def read_raw(self, topic, partition, offset, limit):
        if topic == "events":
            self.limits.append(limit)
        return self.lists.get((topic, partition), [])[offset : offset + limit]

    def end_offset(self, topic, partition):
        return len(self.lists.get((topic, partition), []))


def click(number: int, user_id: str = "u", **more) -> tuple[str, dict]:
    value = {
        "event_id": f"e{number}", "event_type": "click", "user_id": user_id,
        "item_id": f"i{number}", "session_id": "s",
        "event_at": (START + timedelta(seconds=number)).isoformat(),
    }  # fmt: skip
    return user_id, value | more


running = partial(working, positive_types=POSITIVE)
worked_off = partial(pipelines.stream_thread.worked_off, positive_types=POSITIVE)


def until(condition, seconds=20.0):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if value := condition():
            return value
        time.sleep(0.01)
    raise AssertionError(f"not within {seconds} s")


def online_of(workspace) -> OnlineStore:
    def opened():
        try:
            return OnlineStore(open_feast(workspace))
        except Exception:  # the worker has not applied the views yet
            return None

    return until(opened)


def offsets(workspace, partitions=PARTITIONS) -> list[int]:
    found = []
    for partition in range(partitions):
        with closing(PartitionState(workspace.state, partition, partitions)) as state:
            found.append(state.next_offset)
    return found


def counted(metrics, name, **labels):
    return metrics.registry.get_sample_value(name, labels)


def left_to_push(workspace) -> list[str]:
    users: list[str] = []
    for partition in range(PARTITIONS):
        with closing(PartitionState(workspace.state, partition, PARTITIONS)) as state:
            users += state.unpushed(100)
    return users


def assert_exact(workspace, records) -> None:
    """States and online rows are those of one fold over everything, in order."""
    expected: dict = {}
    for key, value in records:
        expected[key], _ = fold(expected.get(key), parsed(value, key), POSITIVE)
    online = OnlineStore(open_feast(workspace))
    for user_id, state in expected.items():
        partition = partition_of(user_id, PARTITIONS)
        with closing(PartitionState(workspace.state, partition, PARTITIONS)) as stored:
            assert stored.load([user_id])[user_id] == state
        got, row = online.read_user(user_id, (), START), row_of(state)
        assert got.history_items == row["history_items"]
        assert got.history_at == row["history_at"]
        assert got.last_event_at == row["last_event_at"]
        assert got.values["session_events"] == row["session_events"]


def work_in_small_batches(workspace: Workspace) -> None:
    stream_read.BATCH = 3
    with closing(SqliteEventLog(workspace.event_log, PARTITIONS)) as log:
        stream.run(
            workspace, log, owner=Fixed(range(PARTITIONS)), positive_types=POSITIVE,
            stop=threading.Event(), poll_s=0.01,
        )  # fmt: skip
