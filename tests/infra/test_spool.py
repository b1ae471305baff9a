import json
import signal
import sqlite3
import subprocess
import sys
import threading
from collections import Counter
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from infra.event_log import SqliteEventLog
from infra.settings import Settings
from infra.spool import ROW_BYTES, Spool, SpoolFull, SpoolReader, open_appender
from infra.workspace import Workspace

MIB = 1024 * 1024


@pytest.fixture
def spool(tmp_path):
    opened = Spool(tmp_path / "spool" / "api.sqlite", MIB)
    yield opened
    opened.close()


@pytest.fixture
def reader(spool):
    opened = SpoolReader(spool.path)
    yield opened
    opened.close()


def waiting(reader: SpoolReader) -> list[tuple[str, str, str]]:
    return [(record.topic, record.key, record.value) for record in reader.take(100_000)]


def drain(path: Path) -> None:
    """What the relay does, without a log."""
    with closing(SpoolReader(path)) as reader:
        while records := reader.take(1000):
            reader.forget(records[-1].number)


def test_records_wait_in_order_until_they_are_forgotten(spool, reader):
    spool.append("events", [("ann", {"n": 1}), ("bob", {"n": 2})])
    spool.append("served", [("ann", {"n": 3})])
    taken = reader.take(2)
    assert [(r.topic, r.key, r.value) for r in taken] == [
        ("events", "ann", '{"n":1}'),
        ("events", "bob", '{"n":2}'),
    ]
    assert reader.take(2) == taken  # looking takes nothing away
    reader.forget(taken[-1].number)
    assert waiting(reader) == [("served", "ann", '{"n":3}')]


def test_a_number_is_never_used_twice(spool, reader):
    # Else a mark that stands at 3 would swallow a record that it never saw.
    for n in range(5):
        spool.append("events", [("ann", {"n": n})])
        (record,) = reader.take(9)
        assert (record.number, record.value) == (n + 1, f'{{"n":{n}}}')
        reader.forget(record.number)


def test_the_mark_of_another_file_of_that_name_means_nothing(spool, reader, tmp_path):
    spool.append("events", [("ann", {"n": n}) for n in range(5)])
    reader.forget(5)
    spool.close()
    for path in spool.path.parent.glob("api.sqlite*"):
        if path.suffix != ".delivered":
            path.unlink()
    with closing(Spool(spool.path, MIB)) as new, closing(SpoolReader(spool.path)) as its_reader:
        new.append("events", [("ann", {"n": 9})])
        assert waiting(its_reader) == [("events", "ann", '{"n":9}')]
        assert new.backlog().records == 1


def test_a_mark_that_is_lost_or_torn_means_that_records_are_sent_again(spool, reader):
    spool.append("events", [("ann", {"n": 1}), ("ann", {"n": 2})])
    reader.forget(1)
    for torn in ("", "x", f"{reader._id} ", f"{reader._id} 1x"):
        reader._mark.write_text(torn)
        assert len(waiting(reader)) == 2
    reader._mark.unlink()
    assert len(waiting(reader)) == 2


def test_a_file_that_is_no_spool_or_not_yet_is_refused_and_not_made(tmp_path):
    with pytest.raises(sqlite3.OperationalError):
        SpoolReader(tmp_path / "none.sqlite")
    assert not (tmp_path / "none.sqlite").exists()
    (tmp_path / "empty.sqlite").touch()
    with pytest.raises(sqlite3.OperationalError):
        SpoolReader(tmp_path / "empty.sqlite")


def test_a_busy_appender_does_not_hold_up_the_reader(spool, reader):
    appended, stop = Counter(), threading.Event()

    def append():
        while not stop.is_set():
            spool.append("events", [("ann", {"n": appended["n"]})])
            appended["n"] += 1

    busy = threading.Thread(target=append)
    busy.start()
    seen = []
    while len(seen) < 200:
        records = reader.take(100)
        seen += [json.loads(record.value)["n"] for record in records]
        if records:
            reader.forget(records[-1].number)
    stop.set()
    busy.join()
    assert seen == list(range(len(seen)))
    # What is delivered is removed as appends come: the file holds little more than what waits.
    spool.append("events", [("ann", {"n": -1})])
    kept = spool._writer.execute("SELECT count(*) FROM records").fetchone()[0]
    assert kept <= spool.backlog().records + 1


def test_the_backlog_says_how_much_waits_and_for_how_long(spool, reader):
    assert (spool.backlog().records, spool.backlog().bytes, spool.backlog().oldest_s) == (0, 0, 0)
    spool.append("events", [("ann", {"n": 1}), ("käthe", {"n": 1})])
    backlog = spool.backlog()
    assert backlog.records == 2
    assert backlog.bytes == 2 * (len("events") + len('{"n":1}') + ROW_BYTES) + 3 + 6
    assert 0 <= backlog.oldest_s < 60
    assert reader.backlog().bytes == backlog.bytes
    reader.forget(reader.take(9)[0].number)
    assert spool.backlog().records == 1
    assert spool.backlog().bytes == len("events") + len('{"n":1}') + ROW_BYTES + 6
    drain(spool.path)
    assert (spool.backlog().records, spool.backlog().bytes, spool.backlog().oldest_s) == (0, 0, 0)


def test_a_full_spool_refuses_and_takes_again_after_it_was_drained(tmp_path):
    spool = Spool(tmp_path / "api.sqlite", 10_000)
    accepted = fill(spool)
    assert spool.backlog().bytes <= 10_000
    with pytest.raises(SpoolFull, match=r"bytes wait, 10000 may: Kafka is away or slow"):
        spool.append("events", [("ann", {"text": "x" * 1000})])
    assert spool.backlog().records == accepted
    with closing(SpoolReader(spool.path)) as reader:
        reader.forget(reader.take(2)[-1].number)
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
    drain(again.path)
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
    assert spool.backlog().records == spool.backlog().bytes == 0


def test_a_full_disk_is_a_full_spool(spool):
    pages = spool._writer.execute("PRAGMA page_count").fetchone()[0]
    spool._writer.execute(f"PRAGMA max_page_count={pages + 3}")
    for n in range(2):
        spool.append("events", [("ann", {"n": n, "text": "x" * 1000})])
    with pytest.raises(SpoolFull, match="the disk is full"):
        spool.append("events", [("ann", {"text": "x" * 20_000})])
    assert spool.backlog().records == 2
    drain(spool.path)
    spool.append("events", [("ann", {"n": 1})])  # heals without a restart


def test_the_file_does_not_grow_when_what_was_forgotten_makes_room(tmp_path):
    spool = Spool(tmp_path / "api.sqlite", 10 * MIB)

    def one_round():
        for _ in range(20):
            spool.append("events", [(f"user-{n}", {"text": "x" * 1000}) for n in range(50)])
        drain(spool.path)

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
    Spool(path, 0).close()
    reader = SpoolReader(path)
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
    reader = SpoolReader(spool.path)
    expected: list[str] = []
    for count, step in enumerate(steps):
        if isinstance(step, int):
            taken = reader.take(step)
            assert [record.key for record in taken] == expected[:step]
            if taken:
                reader.forget(taken[-1].number)
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
    backlog = spool.backlog()
    left = reader._read(
        "SELECT count(*), coalesce(sum(bytes), 0) FROM records WHERE number > ?", reader.delivered()
    )
    assert [record.key for record in reader.take(999)] == expected
    assert [(backlog.records, backlog.bytes)] == left
    assert backlog.bytes <= 3_000
    reader.close()
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
    assert spool.backlog().records == 1
