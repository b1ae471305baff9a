import json
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from infra.event_log import EventLog, SqliteEventLog, partition_of

KAFKA_VECTORS = {  # from Kafka's own UtilsTest.testMurmur2, as signed 32-bit numbers
    "21": -973932308,
    "foobar": -790332482,
    "a-little-bit-long-string": -985981536,
    "a-little-bit-longer-string": -1486304829,
    "abc": 479470107,
}


@pytest.fixture
def log(tmp_path):
    opened = SqliteEventLog(tmp_path / "events.sqlite", partitions=3)
    yield opened
    opened.close()


def everything(log: EventLog, topic: str) -> list[tuple[int, int, str, dict]]:
    return [
        (partition, record.offset, record.key, record.value)
        for partition in range(log.partitions)
        for record in log.read(topic, partition, 0, 10_000)
    ]


@pytest.mark.parametrize(("key", "expected"), KAFKA_VECTORS.items())
def test_keys_land_where_kafka_would_put_them(key, expected):
    assert partition_of(key, 7) == (expected & 0x7FFFFFFF) % 7


def test_a_partition_keeps_the_order_and_counts_from_zero(log):
    log.append("events", [("ann", {"n": 1}), ("ann", {"n": 2})])
    log.append("events", [("ann", {"n": 3})])
    place = partition_of("ann", 3)
    records = log.read("events", place, 0, 10)
    assert [(record.offset, record.value["n"]) for record in records] == [(0, 1), (1, 2), (2, 3)]
    assert log.end_offset("events", place) == 3
    assert log.end_offset("events", (place + 1) % 3) == 0


def test_reading_starts_at_the_offset_and_stops_at_the_limit(log):
    log.append("events", [("ann", {"n": n}) for n in range(5)])
    place = partition_of("ann", 3)
    assert [record.value["n"] for record in log.read("events", place, 2, 2)] == [2, 3]
    assert log.read("events", place, 5, 2) == []


def test_topics_do_not_mix(log):
    log.append("events", [("ann", {"n": 1})])
    log.append("served", [("ann", {"n": 2})])
    place = partition_of("ann", 3)
    assert [record.value for record in log.read("served", place, 0, 9)] == [{"n": 2}]


def test_another_process_reads_what_was_appended(tmp_path, log):
    log.append("events", [("ann", {"title": "Käse \u2028 \ud83d\ude00"})])
    other = SqliteEventLog(tmp_path / "events.sqlite", partitions=3)
    assert everything(other, "events") == everything(log, "events")
    other.close()


def test_a_changed_number_of_partitions_is_refused(tmp_path, log):
    with pytest.raises(
        ValueError, match=r"has 3 partitions, the settings say 4.*SHORTLIST_PARTITIONS=3"
    ):
        SqliteEventLog(tmp_path / "events.sqlite", partitions=4)


def test_a_batch_with_one_bad_value_stores_nothing(log):
    with pytest.raises(ValueError, match="JSON compliant"):
        log.append("events", [("ann", {"n": 1}), ("bob", {"n": float("nan")})])
    assert everything(log, "events") == []


def test_a_failed_transaction_is_reported_and_leaves_no_hole(tmp_path, log):
    log.append("events", [("ann", {"n": 1})])
    with sqlite3.connect(tmp_path / "events.sqlite") as other:
        other.execute(
            "CREATE TRIGGER full BEFORE INSERT ON records BEGIN SELECT RAISE(ABORT, 'disk'); END"
        )
    with pytest.raises(sqlite3.IntegrityError, match="disk"):
        log.append("events", [("ann", {"n": 2})])
    with sqlite3.connect(tmp_path / "events.sqlite") as other:
        other.execute("DROP TRIGGER full")
    log.append("events", [("ann", {"n": 3})])
    records = log.read("events", partition_of("ann", 3), 0, 9)
    assert [(record.offset, record.value["n"]) for record in records] == [(0, 1), (1, 3)]


def test_waiting_appends_share_one_transaction(log):
    threads = [
        threading.Thread(target=log.append, args=("events", [(f"user-{n}", {"n": n})]))
        for n in range(20)
    ]
    with log._write_lock:  # as if a transaction were syncing
        for thread in threads:
            thread.start()
        while len(log._waiting) < 20:
            time.sleep(0.001)
    for thread in threads:
        thread.join()
    assert sorted(value["n"] for *_, value in everything(log, "events")) == list(range(20))
    assert log.transactions == 1


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(batches=st.lists(st.lists(st.tuples(st.text(max_size=5), st.integers()), max_size=6)))
def test_offsets_have_no_holes_and_nothing_is_lost(tmp_path_factory, batches):
    # Surrogates cannot come from JSON that was decoded as UTF-8; the API refuses them.
    batches = [[(k.encode("utf-8", "replace").decode(), v) for k, v in b] for b in batches]
    log = SqliteEventLog(tmp_path_factory.mktemp("log") / "events.sqlite", partitions=3)
    for batch in batches:
        log.append("events", [(key, {"v": value}) for key, value in batch])
    stored = everything(log, "events")
    expected = Counter((key, value) for batch in batches for key, value in batch)
    assert Counter((key, value["v"]) for _, _, key, value in stored) == expected
    for partition in range(3):
        offsets = [offset for place, offset, *_ in stored if place == partition]
        assert offsets == list(range(len(offsets)))
        assert log.end_offset("events", partition) == len(offsets)
    log.close()


WRITER = """
import sys
from pathlib import Path
from infra.event_log import SqliteEventLog
log = SqliteEventLog(Path(sys.argv[1]), partitions=3)
for n in range(int(sys.argv[3])):
    log.append("events", [(f"user-{n % 7}", {"id": f"{sys.argv[2]}-{n}"}), ("all", {"n": n})])
    print(f"{sys.argv[2]}-{n}", flush=True)
"""


def start_writer(path: Path, name: str, count: int) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", WRITER, str(path), name, str(count)],
        stdout=subprocess.PIPE,
        text=True,
    )


def test_processes_append_side_by_side_without_loss(tmp_path):
    path = tmp_path / "events.sqlite"
    writers = [start_writer(path, name, 40) for name in ("a", "b", "c")]
    acknowledged = [line for writer in writers for line in writer.communicate()[0].split()]
    log = SqliteEventLog(path, partitions=3)
    stored = [value["id"] for *_, value in everything(log, "events") if "id" in value]
    assert len(acknowledged) == 120
    assert sorted(stored) == sorted(acknowledged)
    assert log.end_offset("events", partition_of("all", 3)) >= 120
    log.close()


def test_what_was_acknowledged_survives_kill_9(tmp_path):
    path = tmp_path / "events.sqlite"
    for attempt in range(3):
        writer = start_writer(path, str(attempt), 1_000_000)
        assert writer.stdout is not None
        acknowledged = [writer.stdout.readline().strip() for _ in range(20)]
        writer.send_signal(signal.SIGKILL)
        acknowledged += writer.stdout.read().split("\n")[:-1]
        writer.wait()
        log = SqliteEventLog(path, partitions=3)
        stored = [value.get("id") for *_, value in everything(log, "events")]
        assert set(acknowledged) <= set(stored)
        # A batch is stored whole or not at all.
        assert stored.count(None) == len(stored) / 2
        log.close()


def test_values_stay_json_objects(log):
    log.append("events", [("ann", {"context": {"device": "tv"}, "value": 1.5, "position": None})])
    ((*_, value),) = everything(log, "events")
    assert value == json.loads('{"context": {"device": "tv"}, "value": 1.5, "position": null}')
