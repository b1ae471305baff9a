"""The stream worker between a real broker and a real Redis, both killed under it."""

import subprocess
from contextlib import closing, contextmanager, suppress

import pytest

from infra.event_log import LogUnavailable
from infra.kafka_log import KafkaEventLog
from infra.local import kafka
from infra.local.kafka import Absent
from infra.local.process import free_port, wait_for_port
from infra.workspace import Workspace
from monitoring.stream_metrics import StreamMetrics
from pipelines.recount import recount
from tests.features.small_lake import POSITIVE
from tests.pipelines.stream_kit import PARTITIONS, click, counted, offsets, running, until


class OwnBroker:
    """A broker that a test may kill and start again on the same port, with what it had."""

    def __init__(self, folder) -> None:
        self._port, self._log = free_port(), folder / "kafka.log"
        self._command = kafka.prepare(folder, self._port, free_port(), PARTITIONS)
        self.address = f"127.0.0.1:{self._port}"

    def start(self) -> None:
        with self._log.open("ab") as out:
            self._process = subprocess.Popen(self._command, stdout=out, stderr=out)
        wait_for_port("127.0.0.1", self._port, self._process, self._log, 2 * kafka.START_SECONDS)

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()


@pytest.fixture
def own_broker(tmp_path):
    try:
        broker = OwnBroker(tmp_path / "kafka")
    except Absent as why:
        pytest.skip(f"absent backend: {why}")
    broker.start()
    yield broker
    broker.kill()


@contextmanager
def opened(broker):
    def answering():
        with suppress(LogUnavailable):  # it listens before it answers
            return KafkaEventLog(broker.address, "shop", PARTITIONS)

    with closing(until(answering, seconds=90)) as log:
        yield log


def append(broker, numbers) -> None:
    with opened(broker) as log:
        log.append("events", [click(number, f"u{number % 3}") for number in numbers])


def test_a_broker_and_a_redis_killed_under_the_worker_leave_every_row_exact(
    own_broker, own_redis, tmp_path
):
    workspace, metrics = Workspace(tmp_path, "small", own_redis.services), StreamMetrics()
    append(own_broker, range(20))
    with opened(own_broker) as log, running(workspace, log, metrics=metrics) as failed:
        until(lambda: sum(offsets(workspace)) == 20, seconds=60)
        own_broker.kill()
        own_redis.kill()
        until(lambda: counted(metrics, "shortlist_stream_failures_total", server="log"), seconds=60)
        own_broker.start()
        append(own_broker, range(20, 40))
        until(lambda: sum(offsets(workspace)) == 40, seconds=90)  # folding needs no Redis
        own_redis.start()
        found = recount(workspace, log, POSITIVE, wait_s=60, settle_s=30)
    assert not failed
    assert (found["users"], found["events"], found["repeated"]) == (3, 40, 0)
    assert (found["wrong"], found["missing"], found["lag"]) == (0, 0, 0)
