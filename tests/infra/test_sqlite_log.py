"""What the embedded log promises beyond every log: one file, several processes, kill -9."""

import signal
import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from infra.event_log import SqliteEventLog, partition_of
from tests.infra.test_event_log import everything


@pytest.fixture
def log(tmp_path):
    opened = SqliteEventLog(tmp_path / "events.sqlite", partitions=3)
    yield opened
    opened.close()


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
    with log._group._write_lock:  # as if a transaction were syncing
        for thread in threads:
            thread.start()
        while len(log._group._waiting) < 20:
            time.sleep(0.001)
    for thread in threads:
        thread.join()
    assert sorted(value["n"] for *_, value in everything(log, "events")) == list(range(20))
    assert log._group.writes == 1


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
