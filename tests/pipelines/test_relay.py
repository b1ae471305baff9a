"""The relay as a process, between real spools and a real broker."""

import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from uuid import uuid4

import pytest

from infra.event_log import LogUnavailable
from infra.kafka_log import MAX_RECORD_BYTES, KafkaEventLog
from infra.local.process import free_port
from infra.spool import Spool
from pipelines import relay as module
from pipelines.relay import DEAD_LETTERS, Relay, RelayMetrics, alone

PARTITIONS = 3
LIMIT = 1 << 30


class FakeLog:
    """A log in memory, which fails when told to."""

    def __init__(self) -> None:
        self.stored: list[tuple[str, str, str]] = []
        self.away = 0
        self.refuse: Callable[[str], bool] = lambda value: False

    def append_json(self, topic, records):
        if self.away:
            self.away -= 1
            raise LogUnavailable("no broker")
        if any(self.refuse(value) for _, value in records):
            raise ValueError("too large for the broker")
        self.stored += [(topic, key, value) for key, value in records]

    def close(self):
        """Nothing to close."""


@pytest.fixture
def stop():
    return threading.Event()


@pytest.fixture
def log():
    return FakeLog()


@pytest.fixture
def metrics():
    return RelayMetrics()


@contextmanager
def spools(folder: Path, *names: str):
    with ExitStack() as stack:
        yield [
            stack.enter_context(closing(Spool(folder / f"{name}.sqlite", LIMIT))) for name in names
        ]


@contextmanager
def at_work(folder, log, metrics, stop):
    """The relay in a thread; it has ended when this ends."""
    relay = Relay(folder, lambda: log, metrics, stop)
    thread = threading.Thread(target=relay.run)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(30)
        assert not thread.is_alive()
        relay.close()


def until(holds: Callable[[], bool], timeout_s: float = 60.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not holds():
        assert time.monotonic() < deadline, f"not within {timeout_s} s"
        time.sleep(0.02)


def value_of(metrics: RelayMetrics, name: str, **labels: str) -> float:
    return metrics.registry.get_sample_value(f"shortlist_relay_{name}", labels) or 0.0


def empty(spool: Spool) -> bool:
    return spool.backlog().records == 0


def test_every_spool_is_delivered_in_its_order_and_forgotten(tmp_path, log, metrics, stop):
    with spools(tmp_path, "a", "b") as (a, b), at_work(tmp_path, log, metrics, stop):
        for n in range(50):
            a.append("events", [("ann", {"a": n})])
            b.append("events", [("bob", {"b": n})])
            a.append("served", [("ann", {"s": n})])
        until(lambda: empty(a) and empty(b))
    for letter, topic in (("a", "events"), ("b", "events"), ("s", "served")):
        numbers = [
            json.loads(value)[letter]
            for where, _, value in log.stored
            if where == topic and letter in json.loads(value)
        ]
        assert numbers == list(range(50))
    assert value_of(metrics, "delivered_total", topic="events") == 100
    assert value_of(metrics, "delivered_total", topic="served") == 50


def test_a_log_that_is_away_costs_time_and_no_record(tmp_path, log, metrics, stop):
    log.away = 4
    with spools(tmp_path, "a") as (spool,):
        spool.append("events", [("ann", {"n": 1})])
        with at_work(tmp_path, log, metrics, stop):
            until(lambda: empty(spool))
    assert log.stored == [("events", "ann", '{"n":1}')]
    assert value_of(metrics, "failures_total") == 4


def test_while_the_log_is_away_the_backlog_can_be_seen_and_stopping_is_quick(
    tmp_path, log, metrics, stop, monkeypatch
):
    monkeypatch.setattr(module, "BACKOFF_MAX_S", 60.0)
    log.away = 1_000_000
    with spools(tmp_path, "a") as (spool,):
        spool.append("events", [(f"user-{n}", {"n": n}) for n in range(7)])
        with at_work(tmp_path, log, metrics, stop):
            until(lambda: value_of(metrics, "failures_total") >= 2)
            assert value_of(metrics, "waiting_records") == 7
            assert value_of(metrics, "waiting_bytes") == spool.backlog().bytes
            assert value_of(metrics, "oldest_seconds") > 0
        assert spool.backlog().records == 7


def test_a_record_that_the_log_refuses_is_set_aside_with_its_reason(tmp_path, log, metrics, stop):
    log.refuse = lambda value: "poison" in value
    with spools(tmp_path, "a") as (spool,):
        for n in range(5):
            spool.append("events", [("ann", {"n": n}), ("bob", {"poison": n})])
        with at_work(tmp_path, log, metrics, stop):
            until(lambda: empty(spool))
    assert [json.loads(value)["n"] for _, _, value in log.stored] == list(range(5))
    letters = [json.loads(line) for line in (tmp_path / DEAD_LETTERS).read_text().splitlines()]
    assert [json.loads(letter["value"])["poison"] for letter in letters] == list(range(5))
    assert {letter["reason"] for letter in letters} == {"too large for the broker"}
    assert {(letter["topic"], letter["key"]) for letter in letters} == {("events", "bob")}
    assert value_of(metrics, "dead_letters_total") == 5


def test_spools_come_and_go(tmp_path, log, metrics, stop):
    with at_work(tmp_path, log, metrics, stop):
        with spools(tmp_path, "late") as (late,):
            late.append("events", [("ann", {"n": 1})])
            until(lambda: empty(late))
        for path in tmp_path.glob("late.sqlite*"):
            if path.suffix != ".delivered":
                path.unlink()
        until(lambda: value_of(metrics, "spools") == 0)
        # Another replica of the same name: its file is another one.
        with spools(tmp_path, "late") as (again,):
            again.append("events", [("ann", {"n": 2})])
            until(lambda: empty(again))
    assert [value for *_, value in log.stored] == ['{"n":1}', '{"n":2}']


def test_a_broken_spool_holds_up_nobody(tmp_path, log, metrics, stop):
    (tmp_path / "broken.sqlite").write_bytes(b"not a database" * 100)
    with spools(tmp_path, "whole") as (spool,), at_work(tmp_path, log, metrics, stop):
        spool.append("events", [("ann", {"n": 1})])
        until(lambda: empty(spool))
    assert len(log.stored) == 1


def test_a_log_with_other_partitions_ends_the_relay_and_buries_nothing(tmp_path, metrics, stop):
    def refused():
        raise ValueError("has 4 partitions")

    with spools(tmp_path, "a") as (spool,):
        spool.append("events", [("ann", {"n": 1})])
        relay = Relay(tmp_path, refused, metrics, stop)
        with pytest.raises(ValueError, match="has 4 partitions"):
            relay.run()
        relay.close()
        assert spool.backlog().records == 1
    assert not (tmp_path / DEAD_LETTERS).exists()


def test_a_second_relay_waits_for_the_first(tmp_path, stop):
    order = []
    with alone(tmp_path, stop):
        second = threading.Thread(target=lambda: enter(tmp_path, order))
        second.start()
        time.sleep(0.2)
        order.append("first ends")
    second.join(30)
    assert order == ["first ends", "second begins"]


def enter(folder, order):
    with alone(folder, threading.Event()):
        order.append("second begins")


# The process and the broker.


@contextmanager
def relaying(folder: Path, kafka: str, name: str, **more: str):
    child = subprocess.Popen(
        [sys.executable, "-m", "pipelines.relay"],
        env={
            **os.environ,
            "SHORTLIST_HOME": str(folder),
            "SHORTLIST_DATASET": name,
            "SHORTLIST_MODE": "services",
            "SHORTLIST_KAFKA": kafka,
            "SHORTLIST_SPOOL": str(folder / "spool"),
            "SHORTLIST_PARTITIONS": str(PARTITIONS),
            **more,
        },
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield child
    finally:
        child.kill()
        child.wait()


def test_killed_in_the_middle_it_loses_nothing(tmp_path, kafka_address):
    """kill -9 at random moments, while the API goes on accepting."""
    name, rng, written = uuid4().hex, random.Random(5), 0
    with spools(tmp_path / "spool", "a", "b") as both:
        for _ in range(4):
            with relaying(tmp_path, kafka_address, name) as child:
                assert child.stderr is not None
                child.stderr.readline()  # it has started
                for _ in range(40):
                    for spool in both:
                        rows = [
                            (f"{spool.path.stem}-{n % 7}", {"event_id": str(written + n)})
                            for n in range(50)
                        ]
                        spool.append("events", rows)
                        written += len(rows)
                time.sleep(rng.uniform(0, 0.6))
                child.send_signal(signal.SIGKILL)
        with relaying(tmp_path, kafka_address, name):
            until(lambda: all(empty(spool) for spool in both))
    with closing(KafkaEventLog(kafka_address, name, PARTITIONS)) as log:
        stored = [
            (record.key, int(record.value["event_id"]))
            for partition in range(PARTITIONS)
            for record in log.read("events", partition, 0, 1_000_000)
        ]
    assert {number for _, number in stored} == set(range(written))
    for key in {key for key, _ in stored}:
        # A repeat is allowed, and goes back; what was new came in order.
        first_seen = list(dict.fromkeys(number for found, number in stored if found == key))
        assert first_seen == sorted(first_seen)


def test_without_a_broker_it_waits_shows_it_and_ends_cleanly(tmp_path):
    port = free_port()
    with spools(tmp_path / "spool", "a") as (spool,):
        spool.append("events", [("ann", {"n": n}) for n in range(3)])
        with relaying(tmp_path, "127.0.0.1:1", "shop", SHORTLIST_METRICS_PORT=str(port)) as child:
            until(lambda: "shortlist_relay_failures_total 1.0" in scraped(port))
            assert "shortlist_relay_waiting_records 3.0" in scraped(port)
            child.send_signal(signal.SIGTERM)
            assert child.wait(timeout=30) == 0
            _, told = child.communicate()
        assert spool.backlog().records == 3
    lines = [json.loads(line) for line in told.splitlines()]  # one JSON object a line, no traceback
    assert "no Kafka broker answers at 127.0.0.1:1" in str(lines)


def scraped(port: int) -> str:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=2) as answer:
            return answer.read().decode()
    except OSError:
        return ""


def test_a_record_too_large_for_kafka_does_not_block_the_others(tmp_path, kafka_address):
    name = uuid4().hex
    with spools(tmp_path / "spool", "a") as (spool,):
        spool.append("events", [("ann", {"n": 1})])
        spool.append("events", [("ann", {"n": "x" * MAX_RECORD_BYTES})])
        spool.append("clicks", [("ann", {"n": 2})])  # a topic that the log has not
        spool.append("events", [("ann", {"n": 3})])
        with relaying(tmp_path, kafka_address, name):
            until(lambda: empty(spool))
    with closing(KafkaEventLog(kafka_address, name, PARTITIONS)) as log:
        stored = [r.value["n"] for p in range(PARTITIONS) for r in log.read("events", p, 0, 99)]
    assert stored == [1, 3]
    letters = (tmp_path / "spool" / DEAD_LETTERS).read_text().splitlines()
    reasons = [json.loads(letter)["reason"] for letter in letters]
    assert ["the log takes" in reasons[0], "not 'clicks'" in reasons[1]] == [True, True]


def test_it_belongs_to_the_mode_services(tmp_path):
    with relaying(tmp_path, "127.0.0.1:1", "shop", SHORTLIST_MODE="embedded") as child:
        assert child.wait(timeout=60) == 1
        assert "set SHORTLIST_MODE=services" in child.communicate()[1]


def test_another_relays_files_in_the_folder_are_no_spools(tmp_path, log, metrics, stop):
    with spools(tmp_path, "a") as (spool,), at_work(tmp_path, log, metrics, stop):
        spool.append("events", [("ann", {"n": 1})])
        until(lambda: empty(spool))
        assert value_of(metrics, "spools") == 1  # neither the lock nor the -wal and -shm files
    with sqlite3.connect(tmp_path / "a.sqlite") as file:
        assert file.execute("PRAGMA integrity_check").fetchone() == ("ok",)
