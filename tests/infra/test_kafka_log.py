"""What Kafka adds to the contract: a broker that is away, retention, foreign records, limits."""

import signal
import socket
import threading
import time
from contextlib import closing, contextmanager
from uuid import uuid4

import pytest
from kafka import TopicPartition
from kafka.admin import ConfigResource, KafkaAdminClient

from infra.event_log import LogUnavailable, RecordsGone, open_log
from infra.kafka_log import ANSWER_S, CONNECT_MS, MAX_RECORD_BYTES, KafkaEventLog, open_client
from infra.workspace import Services, Workspace

CALL_MAX_S = 3 * ANSWER_S + CONNECT_MS / 1000
"""A failing call connects, asks and closes; on a busy machine each a little late."""


@pytest.fixture
def log(kafka_address):
    with closing(KafkaEventLog(kafka_address, uuid4().hex, 3)) as opened:
        yield opened


@pytest.fixture
def admin(kafka_address):
    with closing(open_client(KafkaAdminClient, kafka_address)) as opened:
        yield opened


def client_threads() -> set[threading.Thread]:
    return {thread for thread in threading.enumerate() if "kafka" in thread.name}


@contextmanager
def fails_in_time():
    started = time.monotonic()
    with pytest.raises(LogUnavailable):
        yield
    assert time.monotonic() - started < CALL_MAX_S


def test_no_broker_is_an_error_within_seconds_and_leaves_no_thread():
    before = client_threads()
    with fails_in_time():
        KafkaEventLog("127.0.0.1:1", "shop", 3)
    assert client_threads() == before


def test_something_else_that_listens_is_an_error_within_seconds():
    with socket.create_server(("127.0.0.1", 0)) as silent, fails_in_time():
        KafkaEventLog(f"127.0.0.1:{silent.getsockname()[1]}", "shop", 3)


def test_the_workspace_in_mode_services_has_its_log_on_kafka(kafka_address, tmp_path):
    name = uuid4().hex
    workspace = Workspace(tmp_path, name, Services(kafka_address, "", ""))
    with closing(open_log(workspace, 2)) as log:
        log.append("events", [("ann", {"n": 1})])
        assert isinstance(log, KafkaEventLog)
    assert not workspace.event_log.exists()


def test_records_that_retention_took_are_counted_and_never_skipped_in_silence(log, admin):
    log.append("events", [("ann", {"n": n}) for n in range(10)])
    (place,) = (p for p in range(3) if log.end_offset("events", p))
    assert len(log.read("events", place, 0, 99)) == 10
    admin.delete_records({TopicPartition(f"{log._prefix}.events", place): 7})
    with pytest.raises(RecordsGone, match=r"5 records of .* are gone.*offset 2.*begins at 7"):
        log.read("events", place, 2, 99)
    assert [record.offset for record in log.read("events", place, 7, 99)] == [7, 8, 9]


def test_a_record_that_is_too_large_is_refused_before_anything_is_sent(log):
    with pytest.raises(ValueError, match=f"the log takes {MAX_RECORD_BYTES}"):
        log.append("events", [("ann", {"n": 1}), ("ann", {"n": "x" * MAX_RECORD_BYTES})])
    assert sum(log.end_offset("events", place) for place in range(3)) == 0
    log.append("events", [("ann", {"n": "x" * (MAX_RECORD_BYTES - 100)})])
    assert sum(len(log.read("events", place, 0, 9)) for place in range(3)) == 1


def test_a_broker_that_takes_less_refuses_the_record_and_not_the_next(log, admin):
    topic = ConfigResource("TOPIC", f"{log._prefix}.events", {"max.message.bytes": "20000"})
    admin.alter_configs([topic])
    with pytest.raises(ValueError, match="refused a record"):
        log.append("events", [("ann", {"n": "x" * 30_000})])
    log.append("events", [("ann", {"n": 1})])
    assert [r.value for p in range(3) for r in log.read("events", p, 0, 9)] == [{"n": 1}]


def test_a_foreign_record_is_handed_on_and_stops_nothing(log):
    producer = log._open_producer()
    for value in (b"\xff[", b"[1]", None):
        producer.send(f"{log._prefix}.events", key=b"\xff", value=value, partition=1).get(10)
    producer.send(f"{log._prefix}.events", value=b'{"n": 1}', partition=1).get(10)
    values = [record.value for record in log.read("events", 1, 0, 9)]
    assert values == [
        {"unreadable": "\ufffd["}, {"unreadable": "[1]"}, {"unreadable": ""}, {"n": 1},
    ]  # fmt: skip


def test_another_topic_is_a_mistake(log):
    with pytest.raises(
        ValueError, match="has the topics events, served, items, dead, not 'clicks'"
    ):
        log.append("clicks", [("ann", {"n": 1})])


def test_a_broker_that_dies_or_hangs_is_an_error_in_time_and_found_again(later_broker):
    before = client_threads()
    with later_broker.running() as process:
        log = KafkaEventLog(later_broker.address, "shop", 1)
        log.append("events", [("ann", {"n": 0})])
        assert len(log.read("events", 0, 0, 9)) == 1
        process.send_signal(signal.SIGSTOP)  # it neither answers nor hangs up
        with fails_in_time():
            log.append("events", [("ann", {"n": 1})])
        with fails_in_time():
            log.read("events", 0, 1, 9)
        process.send_signal(signal.SIGCONT)
        process.kill()
    with fails_in_time():
        log.append("events", [("ann", {"n": 2})])
    with fails_in_time():
        log.end_offset("events", 0)
    with later_broker.running():
        again(lambda: log.append("events", [("ann", {"n": 3})]))
        numbers = [record.value["n"] for record in again(lambda: log.read("events", 0, 0, 9))]
        # What was not confirmed may be there all the same; what was confirmed is.
        assert {0, 3} <= set(numbers) <= {0, 1, 2, 3}
        log.close()
    assert client_threads() == before  # clients that failed have ended


def again(call):
    """A caller's patience: right after its start a broker is still busy with itself."""
    until = time.monotonic() + 60
    while True:
        try:
            return call()
        except LogUnavailable:
            assert time.monotonic() < until
            time.sleep(0.2)
