import signal
import sqlite3
import subprocess
import sys
import threading

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from infra.event_log import SqliteEventLog
from infra.settings import Settings
from infra.spool import ROW_BYTES, Spool, SpoolFull, open_appender
from infra.workspace import Workspace

MIB = 1024 * 1024


@pytest.fixture
def spool(tmp_path):
    opened = Spool(tmp_path / "spool" / "api.sqlite", MIB)
    yield opened
    opened.close()


def waiting(spool: Spool) -> list[tuple[str, str, str]]:
    return [(record.topic, record.key, record.value) for record in spool.take(100_000)]


def test_records_wait_in_order_until_they_are_forgotten(spool):
    spool.append("events", [("ann", {"n": 1}), ("bob", {"n": 2})])
    spool.append("served", [("ann", {"n": 3})])
    taken = spool.take(2)
    assert [(r.topic, r.key, r.value) for r in taken] == [
        ("events", "ann", '{"n":1}'),
        ("events", "bob", '{"n":2}'),
    ]
    assert spool.take(2) == taken  # looking takes nothing away
    spool.forget(taken[-1].number)
    assert waiting(spool) == [("served", "ann", '{"n":3}')]


def test_a_number_is_never_used_twice(spool):
    # Else a relay that comes late with "forget up to 1" would forget a record it never saw.
    spool.append("events", [("ann", {"n": 1})])
    (first,) = spool.take(9)
    spool.forget(first.number)
    spool.append("events", [("ann", {"n": 2})])
    spool.forget(first.number)
    assert waiting(spool) == [("events", "ann", '{"n":2}')]


def test_the_backlog_says_how_much_waits_and_for_how_long(spool):
    assert (spool.backlog().records, spool.backlog().bytes, spool.backlog().oldest_s) == (0, 0, 0)
    spool.append("events", [("ann", {"n": 1}), ("käthe", {"n": 1})])
    backlog = spool.backlog()
    assert backlog.records == 2
    assert backlog.bytes == 2 * (len("events") + len('{"n":1}') + ROW_BYTES) + 3 + 6
    assert 0 <= backlog.oldest_s < 60
    spool.forget(spool.take(9)[-1].number)
    assert (spool.backlog().records, spool.backlog().bytes, spool.backlog().oldest_s) == (0, 0, 0)


def test_a_full_spool_refuses_and_takes_again_after_it_was_drained(tmp_path):
    spool = Spool(tmp_path / "api.sqlite", 10_000)
    accepted = fill(spool)
    assert spool.backlog().bytes <= 10_000
    with pytest.raises(SpoolFull, match=r"bytes wait, 10000 may: Kafka is away or slow"):
        spool.append("events", [("ann", {"text": "x" * 1000})])
    assert spool.backlog().records == accepted
    spool.forget(spool.take(2)[-1].number)
    spool.append("events", [("ann", {"text": "x" * 1000})])
    spool.close()


def fill(spool: Spool) -> int:
    for accepted in range(1000):
        try:
            spool.append("events", [("ann", {"text": "x" * 1000})])
        except SpoolFull:
            return accepted
    raise AssertionError("never full")


def test_records_that_are_no_promise_leave_room_for_those_that_are(tmp_path):
    spool = Spool(tmp_path / "api.sqlite", 10_000)
    slates = spool.up_to(0.5)
    for _ in range(4):
        slates.append("served", [("ann", {"text": "x" * 1000})])
    with pytest.raises(SpoolFull, match="5000 may"):
        slates.append("served", [("ann", {"text": "x" * 1000})])
    assert 3_000 < spool.backlog().bytes <= 5_000
    assert fill(spool) >= 4
    spool.close()


def test_the_limit_holds_across_processes_and_restarts(tmp_path):
    spool = Spool(tmp_path / "api.sqlite", 10_000)
    fill(spool)
    spool.close()
    again, beside = (Spool(tmp_path / "api.sqlite", 10_000) for _ in range(2))
    for opened in (again, beside):
        with pytest.raises(SpoolFull):
            opened.append("events", [("ann", {"text": "x" * 1000})])
    beside.forget(beside.take(99)[-1].number)
    again.append("events", [("ann", {"text": "x" * 1000})])
    again.close()
    beside.close()


def test_of_waiting_appends_those_that_fit_are_kept_and_the_others_hear_it(tmp_path):
    spool = Spool(tmp_path / "api.sqlite", 10_000)
    outcomes = []

    def append(text):
        try:
            spool.append("events", [("ann", {"text": text})])
            outcomes.append("kept")
        except SpoolFull:
            outcomes.append("full")

    texts = ["x" * 1000] * 5 + ["x" * 20_000] * 3
    threads = [threading.Thread(target=append, args=(text,)) for text in texts]
    with spool._group._write_lock:  # as if a transaction were syncing
        for thread in threads:
            thread.start()
        while len(spool._group._waiting) < len(threads):
            pass
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["full"] * 3 + ["kept"] * 5
    assert spool._group.writes == 1
    assert spool.backlog().records == 5
    spool.close()


def test_a_batch_with_one_bad_value_keeps_nothing(spool):
    with pytest.raises(ValueError, match="JSON compliant"):
        spool.append("events", [("ann", {"n": 1}), ("bob", {"n": float("nan")})])
    assert waiting(spool) == []
    assert spool.backlog().bytes == 0


def test_a_full_disk_is_a_full_spool(spool):
    pages = spool._writer.execute("PRAGMA page_count").fetchone()[0]
    spool._writer.execute(f"PRAGMA max_page_count={pages + 3}")
    for n in range(2):
        spool.append("events", [("ann", {"n": n, "text": "x" * 1000})])
    with pytest.raises(SpoolFull, match="the disk is full"):
        spool.append("events", [("ann", {"text": "x" * 20_000})])
    assert spool.backlog().records == len(waiting(spool)) == 2
    spool.forget(spool.take(99)[-1].number)
    spool.append("events", [("ann", {"n": 1})])  # heals without a restart


def test_the_file_does_not_grow_when_what_was_forgotten_makes_room(tmp_path):
    spool = Spool(tmp_path / "api.sqlite", 10 * MIB)

    def one_round():
        for _ in range(20):
            spool.append("events", [(f"user-{n}", {"text": "x" * 1000}) for n in range(50)])
        spool.forget(spool.take(10_000)[-1].number)

    def size():
        return sum(path.stat().st_size for path in tmp_path.iterdir())

    for _ in range(3):
        one_round()
    after_three = size()
    for _ in range(12):
        one_round()
    assert size() <= after_three * 1.2
    spool.close()


WRITER = """
import sys
from pathlib import Path
from infra.spool import Spool
spool = Spool(Path(sys.argv[1]), 1 << 30)
for n in range(1_000_000):
    spool.append("events", [("ann", {"id": f"{sys.argv[2]}-{n}"})])
    print(f"{sys.argv[2]}-{n}", flush=True)
"""


def test_what_was_kept_survives_kill_9_beside_a_reader(tmp_path):
    path = tmp_path / "api.sqlite"
    reader = Spool(path, 0)
    for attempt in range(3):
        writer = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(path), str(attempt)],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert writer.stdout is not None
        acknowledged = [writer.stdout.readline().strip() for _ in range(20)]
        writer.send_signal(signal.SIGKILL)
        acknowledged += writer.stdout.read().split("\n")[:-1]
        writer.wait()
        kept = [record.value for record in reader.take(100_000)]
        assert {f'{{"id":"{name}"}}' for name in acknowledged} <= set(kept)
        assert reader.backlog().records == len(kept)
    reader.close()


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    steps=st.lists(
        st.one_of(
            st.lists(st.integers(0, 400), min_size=1, max_size=4),  # append texts of these lengths
            st.integers(0, 5),  # deliver this many
        ),
        max_size=25,
    )
)
def test_whatever_happens_order_and_sums_are_right(tmp_path_factory, steps):
    spool = Spool(tmp_path_factory.mktemp("spool") / "api.sqlite", 3_000)
    expected: list[str] = []
    for count, step in enumerate(steps):
        if isinstance(step, int):
            taken = spool.take(step)
            assert [record.key for record in taken] == expected[:step]
            if taken:
                spool.forget(taken[-1].number)
            expected = expected[step:]
        else:
            keys = [f"{count}-{n}" for n in range(len(step))]
            try:
                spool.append(
                    "events", [(k, {"t": "x" * n}) for k, n in zip(keys, step, strict=True)]
                )
                expected += keys
            except SpoolFull:
                assert spool.backlog().bytes + sum(step) + len(step) * (ROW_BYTES + 30) > 3_000
    left = spool._reader.execute("SELECT count(*), coalesce(sum(bytes), 0) FROM waiting").fetchone()
    backlog = spool.backlog()
    assert [record.key for record in spool.take(999)] == expected
    assert (backlog.records, backlog.bytes) == left
    assert backlog.bytes <= 3_000
    spool.close()


def test_the_mode_chooses_where_events_are_kept(tmp_path, monkeypatch):
    monkeypatch.setattr("socket.gethostname", lambda: "../api 1")
    embedded = Settings(home=tmp_path / "a", dataset="shop")
    services = Settings(
        home=tmp_path / "b", dataset="shop", mode="services", spool=tmp_path / "spool", spool_mb=7
    )
    log = open_appender(Workspace.of(embedded), embedded)
    spool = open_appender(Workspace.of(services), services)
    assert isinstance(log, SqliteEventLog)
    assert isinstance(spool, Spool)
    assert spool.max_bytes == 7 * MIB
    assert spool.path == tmp_path / "spool" / "_.._api_1.sqlite"
    log.close()
    spool.close()


def test_another_process_that_holds_the_file_too_long_is_an_error(spool, monkeypatch):
    spool._writer.execute("PRAGMA busy_timeout=50")
    with sqlite3.connect(spool.path, isolation_level=None) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(sqlite3.OperationalError, match="locked"):
            spool.append("events", [("ann", {"n": 1})])
        other.execute("ROLLBACK")
    spool.append("events", [("ann", {"n": 2})])
    assert waiting(spool) == [("events", "ann", '{"n":2}')]
