"""C5: retention takes records that the stream worker has not read.

A topic of a real broker keeps a megabyte per partition. The worker is away while more than that
comes in, and starts again: it must say how many records are missing before it reads on, stay where
it stands in that partition, and go on in the other.
"""

import time
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path

from kafka import KafkaConsumer, TopicPartition
from kafka.admin import KafkaAdminClient, NewTopic

from features.store import OnlineStore
from infra.clients import open_feast
from infra.event_log import Raw, partition_of
from infra.kafka_log import KafkaEventLog, open_client
from infra.workspace import Workspace
from monitoring.stream_metrics import StreamMetrics
from pipelines.stream_read import GONE
from pipelines.stream_state import PartitionState
from tests.pipelines.stream_kit import (
    PARTITIONS,
    click,
    counted,
    left_to_push,
    offsets,
    running,
    until,
)
from tests.pipelines.test_stream_kafka import OwnBroker, opened

EXPECTED = {
    "alarm_polls": ("<=", 1),
    "gap_wrong": ("==", 0),
    "gone": (">=", 1),
    "moved_in_the_gap": ("==", 0),
    "rows_changed_in_the_gap": ("==", 0),
    "others_waiting": ("==", 0),
    "alarm_lost_by_restart": ("==", 0),
}

TOPIC = "shop.events"
KEPT_BYTES = 1 << 20  # the smallest segment that this broker takes
CHECK_EVERY_MS = 500
PADDING = "x" * 2_000
RECORDS, RECORDS_SHORT = 20_000, 3_000
KNOWN = 50
GONE_WITHIN_S = 60.0
SENT_TOGETHER = 500


def run(folder: Path, seed: int, share: float = 1.0) -> dict:
    """See EXPECTED; gone = records that the alarm tells of."""
    broker = OwnBroker(folder / "kafka")
    with (folder / "kafka" / "server.properties").open("a") as settings:
        settings.write(f"log.retention.check.interval.ms={CHECK_EVERY_MS}\n")
    broker.start()
    try:
        _make_topic(broker.address)
        with opened(broker) as log:
            records = RECORDS if share == 1 else RECORDS_SHORT
            return _overtaken(Workspace(folder, "small"), log, broker.address, records)
    finally:
        broker.kill()


class Watched:
    """The log, counting who asks for a partition's events until the alarm is raised."""

    def __init__(self, log: KafkaEventLog, partition: int, is_raised: Callable[[], bool]) -> None:
        self._log, self._partition, self._is_raised = log, partition, is_raised
        self.polls = 0

    def __getattr__(self, name: str):
        return getattr(self._log, name)

    def read_raw(self, topic: str, partition: int, offset: int, limit: int) -> Sequence[Raw]:
        if (topic, partition) == ("events", self._partition) and not self._is_raised():
            self.polls += 1
        return self._log.read_raw(topic, partition, offset, limit)


def _overtaken(workspace: Workspace, log: KafkaEventLog, address: str, records: int) -> dict:
    gap = partition_of("u", PARTITIONS)
    fine = next(f"v{n}" for n in range(99) if partition_of(f"v{n}", PARTITIONS) != gap)
    log.append("events", [click(n, user) for n in range(KNOWN) for user in ("u", fine)])
    with running(workspace, log) as failed:
        until(lambda: sum(offsets(workspace)) == 2 * KNOWN and not left_to_push(workspace), 60)
    assert not failed, failed
    stood, row = offsets(workspace)[gap], _row(workspace, "u")

    for start in range(KNOWN, KNOWN + records, SENT_TOGETHER):
        numbers = range(start, min(start + SENT_TOGETHER, KNOWN + records))
        log.append("events", [click(n, "u", context=PADDING) for n in numbers])
    log.append("events", [click(KNOWN, fine)])
    begins = _settled(address, gap, stood)

    metrics = StreamMetrics()

    def told() -> float:
        name = "shortlist_stream_records_gone"
        return counted(metrics, name, partition=str(gap)) or 0.0

    watched = Watched(log, gap, lambda: bool(told()))
    with running(workspace, watched, metrics=metrics) as failed:
        until(told, 60)
        until(lambda: offsets(workspace)[1 - gap] == KNOWN + 1 and not left_to_push(workspace), 60)
        time.sleep(0.5)  # a silent reset would show by now
    assert not failed, failed
    with closing(PartitionState(workspace.state, gap, PARTITIONS)) as state:
        kept = state.number(GONE)
    return {
        "sent": records,
        "gone": int(told()),
        "alarm_polls": watched.polls,
        "gap_wrong": abs(int(told()) - (begins - stood)),
        "moved_in_the_gap": offsets(workspace)[gap] - stood,
        "rows_changed_in_the_gap": int(_row(workspace, "u") != row),
        "others_waiting": KNOWN + 1 - offsets(workspace)[1 - gap],
        "alarm_lost_by_restart": int(told()) - kept,
    }


def _make_topic(address: str) -> None:
    configs = {"retention.bytes": str(KEPT_BYTES), "segment.bytes": str(KEPT_BYTES)}
    topic = NewTopic(TOPIC, PARTITIONS, 1, topic_configs=configs)

    def made() -> bool:
        with closing(open_client(KafkaAdminClient, address)) as admin:
            admin.create_topics([topic])
        return True

    until(made, 60)


def _settled(address: str, partition: int, stood: int) -> int:
    """Where the partition begins, once retention has gone past `stood` and come to rest."""
    place = TopicPartition(TOPIC, partition)
    with closing(open_client(KafkaConsumer, address)) as consumer:

        def begins() -> int:
            return int(consumer.beginning_offsets([place])[place])

        until(lambda: begins() > stood, GONE_WITHIN_S)
        while (before := begins()) != (time.sleep(3 * CHECK_EVERY_MS / 1000), begins())[1]:
            assert before > stood
        return before


def _row(workspace: Workspace, user_id: str) -> dict:
    return OnlineStore(open_feast(workspace)).read_stream([user_id])[user_id]
