"""The stream worker: fresh within a second, exact under kill -9, not stopped by bad records."""

import base64
import json
import logging
import sqlite3
import sys
import threading
import time
from contextlib import closing
from datetime import UTC, datetime, timedelta

import httpx
import pytest

from features.errors import ContractError
from features.store import OnlineStore
from infra.clients import SqliteBacked, open_feast
from infra.event_log import SqliteEventLog, partition_of
from infra.local.process import child, free_port
from infra.workspace import Workspace
from monitoring.stream_metrics import StreamMetrics
from pipelines import stream, stream_read
from pipelines.stream_owner import Fixed
from pipelines.stream_state import LATE_ROWS, Changes, PartitionState
from tests.features.small_lake import POSITIVE
from tests.features.workspaces import NOW, built_workspace
from tests.pipelines.stream_kit import (
    PARTITIONS,
    START,
    ListLog,
    click,
    counted,
    left_to_push,
    offsets,
    online_of,
    running,
    until,
)


def test_an_event_is_visible_online_within_a_second(tmp_path):
    workspace = Workspace(tmp_path, "small")
    with closing(SqliteEventLog(workspace.event_log, PARTITIONS)) as log, running(workspace, log):
        online = online_of(workspace)
        seconds = []
        for number in range(5):
            log.append("events", [click(number)])
            since = time.monotonic()
            wanted = [f"i{number}"]
            until(
                lambda wanted=wanted: online.read_user("u", (), START).history_items[:1] == wanted
            )
            seconds.append(time.monotonic() - since)
    assert sorted(seconds)[2] < 1.0


def test_the_worker_starts_where_nothing_was_ever_built(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    workspace, log = Workspace(tmp_path, "empty"), ListLog()
    log.append("events", [click(1), click(2)])
    with running(workspace, log) as failed:
        online = online_of(workspace)
        until(lambda: online.read_user("u", (), START).history_items == ["i2", "i1"])
    assert not failed
    starts = [r.getMessage() for r in caplog.records if "stream worker starts" in r.getMessage()]
    at = partition_of("u", PARTITIONS)
    assert len(starts) == 1
    assert f"{at}@0/2" in starts[0]
    assert f"{1 - at}@0/0" in starts[0]


BAD = [
    ("u", [1, 2]),
    click(7, event_type="hover"),
    click(8, event_at="yesterday"),
    ("u", click(9, user_id="someone")[1]),
]


def test_bad_records_are_set_aside_counted_and_stop_nothing(tmp_path):
    workspace, log = Workspace(tmp_path, "small"), ListLog()
    log.append("events", [click(1), *BAD, click(2)])
    with running(workspace, log):
        online = online_of(workspace)
        until(lambda: online.read_user("u", (), START).history_items == ["i2", "i1"])
    partition = partition_of("u", PARTITIONS)
    with closing(PartitionState(workspace.state, partition, PARTITIONS)) as state:
        assert state.number("refused") == len(BAD)
    letters = [json.loads(raw) for _, _, raw in log.read_raw("dead", partition, 0, 99)]
    assert [letter["offset"] for letter in letters] == [1, 2, 3, 4]
    assert "record is list" in letters[0]["reason"]
    assert "event_type is 'hover'" in letters[1]["reason"]
    assert json.loads(base64.b64decode(letters[2]["bytes"]))["event_at"] == "yesterday"
    assert "another partition" in letters[3]["reason"]


def test_late_events_are_counted_and_the_newest_kept(tmp_path):
    with closing(PartitionState(tmp_path, 0, 1)) as state:
        late = [(offset, "u", "e", 1) for offset in range(LATE_ROWS + 5)]
        state.commit(0, len(late), Changes(late=late))
        assert state.number("late") == LATE_ROWS + 5
        kept = state._db.execute("SELECT min(offset), count(*) FROM late").fetchone()
    assert kept == (5, LATE_ROWS)


def test_a_late_event_is_set_aside_and_the_others_count(tmp_path):
    workspace, log, metrics = Workspace(tmp_path, "small"), ListLog(), StreamMetrics()
    late = click(3, event_at=(START - timedelta(hours=2)).isoformat())
    log.append("events", [click(1), click(2), late, click(2)])
    with running(workspace, log, metrics=metrics):
        until(lambda: sum(offsets(workspace)) == 4 and not left_to_push(workspace))
    row = online_of(workspace).read_user("u", (), START)
    assert row.history_items == ["i2", "i1"]
    with closing(
        PartitionState(workspace.state, partition_of("u", PARTITIONS), PARTITIONS)
    ) as mine:
        assert mine.number("late") == 1
        assert mine._db.execute("SELECT offset, event_id FROM late").fetchall() == [(2, "e3")]
    assert counted(metrics, "shortlist_stream_events_late_total") == 1
    assert counted(metrics, "shortlist_stream_events_repeated_total") == 1


def test_a_backlog_is_read_in_batches(tmp_path):
    workspace, log = Workspace(tmp_path, "small"), ListLog()
    log.append("events", [click(number) for number in range(3 * stream_read.BATCH + 1)])
    with running(workspace, log):
        until(lambda: sum(offsets(workspace)) == 3 * stream_read.BATCH + 1)
    assert set(log.limits) == {stream_read.BATCH}


def test_a_user_starts_from_the_history_that_was_materialized(tmp_path):
    workspace, log = built_workspace(tmp_path), ListLog()
    online = OnlineStore(open_feast(workspace))
    with closing(sqlite3.connect(workspace.state / "seed.sqlite")) as seeds:
        user_id = seeds.execute("SELECT user_id FROM states").fetchone()[0]
    before = online.read_user(user_id, (), NOW)
    assert before.history_items
    log.append("events", [click(1, user_id, event_at=NOW.isoformat())])
    with running(workspace, log):
        after = until(
            lambda: (row := online.read_user(user_id, (), NOW)).history_items[0] == "i1" and row
        )
    assert after.history_items[1:] == before.history_items[:49]


def test_a_busy_store_is_tried_again(tmp_path, monkeypatch):
    workspace, log, metrics = Workspace(tmp_path, "small"), ListLog(), StreamMetrics()
    alone, failures = SqliteBacked.alone, iter(range(3))

    def busy_at_first(self):
        if next(failures, None) is not None:
            raise sqlite3.OperationalError("database is locked")
        return alone(self)

    monkeypatch.setattr(SqliteBacked, "alone", busy_at_first)
    log.append("events", [click(1)])
    with running(workspace, log, metrics=metrics) as failed:
        online = online_of(workspace)
        until(lambda: online.read_user("u", (), START).history_items == ["i1"])
    assert not failed
    assert counted(metrics, "shortlist_stream_failures_total", server="store") == 3


def test_what_the_worker_does_is_counted(tmp_path):
    workspace, log, metrics = Workspace(tmp_path, "small"), ListLog(), StreamMetrics()
    seen_at = (datetime.now(UTC) - timedelta(seconds=3)).isoformat()
    log.append("events", [click(1, seen_at=seen_at), click(2, seen_at=seen_at), BAD[0]])
    with running(workspace, log, metrics=metrics):
        until(lambda: counted(metrics, "shortlist_stream_delay_seconds_count"))
        until(lambda: counted(metrics, "shortlist_stream_lag", partition="0") is not None)
    assert counted(metrics, "shortlist_stream_records_folded_total") == 2
    assert counted(metrics, "shortlist_stream_records_refused_total") == 1
    assert counted(metrics, "shortlist_stream_rows_pushed_total") == 1  # both events, one user
    assert 3 <= counted(metrics, "shortlist_stream_delay_seconds_sum") < 60
    assert counted(metrics, "shortlist_stream_refills_total") == 0


def test_the_worker_as_a_process_shows_its_metrics_and_stops_when_told(tmp_path):
    port = free_port()
    settings = {
        "SHORTLIST_HOME": str(tmp_path), "SHORTLIST_DATASET": "small",
        "SHORTLIST_METRICS_PORT": str(port), "SHORTLIST_PARTITIONS": str(PARTITIONS),
    }  # fmt: skip
    with child([sys.executable, "-m", "pipelines.stream"], tmp_path / "log", settings) as worker:
        text = until(lambda: scraped(port), seconds=90)
        assert 'shortlist_stream_failures_total{server="store"} 0.0' in text
        until(lambda: 'shortlist_stream_lag{partition="1"} 0.0' in scraped(port), seconds=60)
        worker.terminate()
        assert worker.wait(60) == 0


def scraped(port) -> str:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/metrics", timeout=5.0).text
    except httpx.HTTPError:
        return ""


def run_once(workspace, log):
    stop = threading.Event()
    stop.set()  # the loop's body never runs: only what happens at the start
    stream.run(workspace, log, owner=Fixed([0, 1]), positive_types=POSITIVE, stop=stop)


def test_another_number_of_partitions_is_refused(tmp_path):
    workspace, log = Workspace(tmp_path, "small"), ListLog()
    run_once(workspace, log)
    log.partitions = 3
    with pytest.raises(ContractError, match=r"made for 2 partitions, the log has 3.*PARTITIONS=2"):
        run_once(workspace, log)


def test_a_replaced_log_is_refused(tmp_path):
    workspace, log = Workspace(tmp_path, "small"), ListLog()
    with closing(PartitionState(workspace.state, 1, PARTITIONS)) as state:
        state.commit(0, 9, Changes())
    with pytest.raises(ContractError, match=r"stands at offset 9, the log ends at 0.*replaced"):
        run_once(workspace, log)
