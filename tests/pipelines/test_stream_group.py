"""Several workers: a fair share each, takeover from the dead, and nothing from the undead."""

import os
import signal
import sys
import time
from contextlib import ExitStack, closing

import pytest

from infra.kafka_group import GroupMember
from infra.kafka_log import KafkaEventLog
from infra.local.process import child
from infra.workspace import Services, Workspace
from pipelines.recount import recount
from pipelines.stream_owner import ByLocks
from pipelines.stream_state import Changes, Fenced, PartitionState
from tests.features.small_lake import POSITIVE
from tests.pipelines.stream_kit import click, offsets, until

PARTITIONS = 4
SESSION_MS = 6_000


def test_a_worker_that_slept_writes_nothing(tmp_path):
    asleep, awake = (PartitionState(tmp_path, 0, 1) for _ in range(2))
    with closing(asleep), closing(awake):
        assert asleep.claim() == 1
        asleep.commit(0, 5, Changes({"u": {"n": 1}}, outbox=[("items", 0, "{}")]))
        assert awake.claim() == 2
        with pytest.raises(Fenced, match="in epoch 2, expected 5 in 1: another worker"):
            asleep.commit(5, 7, Changes({"u": {"n": 2}}))
        asleep.mark_pushed(["u"])  # what it pushed is known to the other, or will be pushed again
        asleep.mark_sent(99)
        assert (awake.load(["u"]), awake.unpushed(9)) == ({"u": {"n": 1}}, ["u"])
        assert len(awake.outbox(9)) == 1
        awake.commit(5, 6, Changes())
        assert awake.next_offset == 6


def shares(workers: list[ByLocks]) -> list[int]:
    return sorted(len(worker.owned()) for worker in workers)


def test_workers_share_by_locks_and_replace_the_dead(tmp_path):
    with ExitStack() as stack:
        first = stack.enter_context(closing(ByLocks(tmp_path, PARTITIONS)))
        assert shares([first]) == [4]
        second = stack.enter_context(closing(ByLocks(tmp_path, PARTITIONS)))
        until(lambda: shares([first, second]) == [2, 2])
        assert set(first.owned()) | set(second.owned()) == {0, 1, 2, 3}
        third = stack.enter_context(closing(ByLocks(tmp_path, PARTITIONS)))
        until(lambda: len(third.owned()) + len(second.owned()) + len(first.owned()) == 4)
        second.close()  # as the operating system does for a killed process
        third.close()
        until(lambda: shares([first]) == [4])


@pytest.fixture
def shop(kafka_address, redis_address, tmp_path):
    """A workspace on a real broker and a real Redis, its log, and how to start a worker of it."""
    name = f"g{os.getpid()}{int(time.time() * 1000) % 10**8}"
    workspace = Workspace(tmp_path, name, Services(kafka_address, redis_address, "absent:1"))
    settings = {
        "SHORTLIST_HOME": str(tmp_path), "SHORTLIST_DATASET": name, "SHORTLIST_MODE": "services",
        "SHORTLIST_KAFKA": kafka_address, "SHORTLIST_REDIS": redis_address,
        "SHORTLIST_PARTITIONS": str(PARTITIONS), "SHORTLIST_GROUP_SESSION_MS": str(SESSION_MS),
    }  # fmt: skip

    def worker(number: int):
        command = [sys.executable, "-m", "pipelines.stream"]
        return child(command, tmp_path / f"worker-{number}.log", settings)

    with closing(KafkaEventLog(kafka_address, name, PARTITIONS)) as log:
        yield workspace, log, worker


def test_members_share_a_topic_and_a_leavers_part_is_taken_over(shop):
    workspace, log, _ = shop
    address, topic = workspace.services.kafka, f"{workspace.name}.events"
    with closing(GroupMember(address, topic, "g", SESSION_MS)) as first:
        until(lambda: first.owned() == {0, 1, 2, 3}, seconds=60)
        second = GroupMember(address, topic, "g", SESSION_MS)
        until(lambda: len(first.owned()) == len(second.owned()) == 2, seconds=60)
        assert first.owned() | second.owned() == {0, 1, 2, 3}
        second.close()
        until(lambda: first.owned() == {0, 1, 2, 3}, seconds=60)
    assert log.partitions == PARTITIONS


def some(start: int, count: int = 400):
    return [click(n, f"u{n % 37}", item_id=f"i{n % 11}") for n in range(start, start + count)]


def test_a_worker_paused_past_its_session_and_woken_leaves_every_row_exact(shop):
    """The zombie of the textbook: it holds a batch, sleeps, is replaced, and wakes up."""
    workspace, log, worker = shop
    with worker(1) as first, worker(2):
        log.append("events", some(0))
        until(lambda: sum(offsets(workspace, PARTITIONS)) == 400, seconds=120)
        logs = [workspace.home / f"worker-{number}.log" for number in (1, 2)]
        until(lambda: all("stream worker starts" in path.read_text() for path in logs), seconds=120)
        first.send_signal(signal.SIGSTOP)
        log.append("events", some(400))
        # Also the sleeper's partitions are folded: somebody has taken them.
        until(lambda: sum(offsets(workspace, PARTITIONS)) == 800, seconds=120)
        first.send_signal(signal.SIGCONT)
        log.append("events", some(800))
        until(lambda: sum(offsets(workspace, PARTITIONS)) == 1200, seconds=120)
        found = recount(workspace, log, POSITIVE, wait_s=60, settle_s=30)
        assert first.poll() is None
    assert (found["events"], found["wrong"], found["missing"]) == (1200, 0, 0)
    assert (found["items"], found["items_wrong"], found["items_missing"]) == (11, 0, 0)
