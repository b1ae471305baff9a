"""What every event log promises, on each backend that is present."""

import json
import subprocess
import sys
import threading
from collections import Counter
from itertools import count

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from infra.event_log import EventLog, partition_of

KAFKA_VECTORS = {  # from Kafka's own UtilsTest.testMurmur2, as signed 32-bit numbers
    "21": -973932308,
    "foobar": -790332482,
    "a-little-bit-long-string": -985981536,
    "a-little-bit-longer-string": -1486304829,
    "abc": 479470107,
}
ANN = partition_of("ann", 3)


@pytest.fixture
def log(open_log):
    return open_log(partitions=3)


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
    records = log.read("events", ANN, 0, 10)
    assert [(record.offset, record.value["n"]) for record in records] == [(0, 1), (1, 2), (2, 3)]
    assert log.end_offset("events", ANN) == 3
    assert log.end_offset("events", (ANN + 1) % 3) == 0


def test_reading_starts_at_the_offset_and_stops_at_the_limit(log):
    for n in range(5):
        log.append("events", [("ann", {"n": n})])

    def numbers(offset, limit):
        return [record.value["n"] for record in log.read("events", ANN, offset, limit)]

    assert numbers(2, 2) == [2, 3]
    assert numbers(4, 2) == [4]
    assert numbers(5, 2) == []
    assert numbers(0, 3) == [0, 1, 2]  # back again
    assert numbers(1, 9) == [1, 2, 3, 4]
    assert numbers(9, 2) == []  # beyond the end


def test_a_reader_at_the_end_gets_what_is_appended_next(log):
    assert log.read("events", ANN, 0, 9) == []
    for n in range(3):
        log.append("events", [("ann", {"n": n})])
        assert [record.value["n"] for record in log.read("events", ANN, n, 9)] == [n]
        assert log.read("events", ANN, n + 1, 9) == []


def test_readers_of_several_partitions_do_not_disturb_each_other(log):
    keys = [f"user-{n}" for n in range(40)]
    log.append("events", [(key, {"n": n}) for n in range(50) for key in keys])
    offsets, seen = dict.fromkeys(range(3), 0), Counter()
    while any(offsets[place] < log.end_offset("events", place) for place in range(3)):
        for place in range(3):
            records = log.read("events", place, offsets[place], 7)
            seen.update((record.key, record.value["n"]) for record in records)
            assert [record.offset for record in records] == [
                offsets[place] + n for n in range(len(records))
            ]
            offsets[place] += len(records)
    assert seen == Counter((key, n) for n in range(50) for key in keys)


def test_topics_do_not_mix(log):
    log.append("events", [("ann", {"n": 1})])
    log.append("served", [("ann", {"n": 2})])
    assert [record.value for record in log.read("served", ANN, 0, 9)] == [{"n": 2}]
    assert [record.value for record in log.read("events", ANN, 0, 9)] == [{"n": 1}]


def test_an_instance_of_its_own_reads_what_was_appended(open_log, log):
    log.append("events", [("ann", {"title": "Käse \u2028 \ud83d\ude00"}), ("käthe", {"n": 1})])
    other = open_log(partitions=3)
    assert everything(other, "events") == everything(log, "events")
    assert {key for _, _, key, _ in everything(other, "events")} == {"ann", "käthe"}


READER = """
import json, sys
from pathlib import Path
from infra.event_log import SqliteEventLog
from infra.kafka_log import KafkaEventLog
make, place, name = json.loads(sys.argv[1])
log = KafkaEventLog(place, name, 3) if make == "kafka" else SqliteEventLog(Path(place), 3)
print(json.dumps([r.value["n"] for p in range(3) for r in log.read("events", p, 0, 99)]))
log.close()
"""


def test_another_process_reads_what_was_appended(log, tmp_path):
    log.append("events", [(f"user-{n}", {"n": n}) for n in range(9)])
    address = getattr(log, "_bootstrap", None)
    where = (
        ["kafka", address, log._prefix] if address else ["sqlite", str(tmp_path / "log.sqlite"), ""]
    )
    ran = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", READER, json.dumps(where)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert sorted(json.loads(ran.stdout)) == list(range(9))


def test_a_changed_number_of_partitions_is_refused(open_log, log):
    with pytest.raises(
        ValueError, match=r"has 3 partitions, the settings say 4.*SHORTLIST_PARTITIONS=3"
    ):
        open_log(partitions=4)


def test_of_two_that_make_the_log_at_once_both_get_it(open_log):
    opened: list[EventLog] = []
    threads = [
        threading.Thread(target=lambda: opened.append(open_log(partitions=3, name="new")))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [log.partitions for log in opened] == [3] * 4
    opened[0].append("events", [("ann", {"n": 1})])
    assert everything(opened[3], "events") == [(ANN, 0, "ann", {"n": 1})]


def test_a_batch_with_one_bad_value_stores_nothing(log):
    with pytest.raises(ValueError, match="JSON compliant"):
        log.append("events", [("ann", {"n": 1}), ("bob", {"n": float("nan")})])
    assert everything(log, "events") == []


def test_an_empty_batch_is_no_work_and_no_error(log):
    log.append("events", [])
    assert everything(log, "events") == []


def test_threads_append_and_read_side_by_side(log):
    def work(name):
        for n in range(20):
            log.append("events", [(name, {"n": n})])
            log.read("events", n % 3, 0, 5)

    threads = [threading.Thread(target=work, args=(f"user-{n}",)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    stored = everything(log, "events")
    for name in (f"user-{n}" for n in range(4)):
        assert [value["n"] for _, _, key, value in stored if key == name] == list(range(20))


def test_values_stay_json_objects(log):
    log.append("events", [("ann", {"context": {"device": "tv"}, "value": 1.5, "position": None})])
    ((*_, value),) = everything(log, "events")
    assert value == json.loads('{"context": {"device": "tv"}, "value": 1.5, "position": null}')


@settings(
    max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(batches=st.lists(st.lists(st.tuples(st.text(max_size=5), st.integers()), max_size=6)))
def test_offsets_have_no_holes_and_nothing_is_lost(open_log, batches):
    # Surrogates cannot come from JSON that was decoded as UTF-8; the API refuses them.
    batches = [[(k.encode("utf-8", "replace").decode(), v) for k, v in b] for b in batches]
    log = open_log(partitions=3, name=f"log-{next(EXAMPLES)}")
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


EXAMPLES = count()
