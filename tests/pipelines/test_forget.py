"""A user leaves: nothing of them is left, nothing brings them back, nobody else notices."""

import base64
import json
import sqlite3
import threading
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import pandas as pd
import pytest
from typer.testing import CliRunner

from features.errors import ContractError
from features.store import OnlineStore
from infra.clients import open_feast
from infra.erase import erase_online, erase_rows
from infra.event_log import SqliteEventLog, open_log, partition_of
from infra.forgotten import ERASED, Forgotten
from infra.workspace import Services, Workspace
from pipelines.cli import app
from pipelines.dead_letters import letters, replay, write_letters
from pipelines.forget import forget
from pipelines.forget_drill import PARTITIONS, drill
from pipelines.forget_places import FORGOTTEN, from_tables, from_texts, in_kafka
from pipelines.ingest import ingest_log
from pipelines.recount import recount
from pipelines.stream_state import PartitionState
from pipelines.traces import spellings, traces
from tests.features.small_lake import POSITIVE
from tests.features.workspaces import built_workspace
from tests.pipelines.stream_kit import click, offsets, online_of, running, until, worked_off
from tests.reliability import s10

NOW = datetime(2026, 3, 1, tzinfo=UTC)


@pytest.fixture(scope="module", params=["embedded", "kafka and redis"])
def drilled(request, tmp_path_factory):
    home = tmp_path_factory.mktemp("drill")
    services = None
    if request.param != "embedded":
        kafka = request.getfixturevalue("kafka_address")
        services = Services(kafka, request.getfixturevalue("redis_address"), "absent:1")
    workspace = Workspace(home, f"drill-{uuid4().hex[:8]}", services)
    return workspace, drill(workspace, 3)


def test_nothing_is_left_and_nothing_comes_back(drilled):
    """By bytes, everywhere; after replay, second ingest, backfill, next bundle and rollback too."""
    _, found = drilled
    on_disk = {"online", "offline", "bundle", "state", "other"}
    assert {place for place, count in found.before.items() if count} >= on_disk
    assert not any(found.after.values()), found.after
    assert not any(found.later.values()), found.later
    assert found.others == 0
    assert found.receipt["removed"]["online"] >= 3  # daily, stream, and a row per category


def test_removing_the_online_rows_alone_removes_nothing(drilled):
    _, found = drilled
    assert found.naive["online"] > 0, "the rebuild brought them back"
    assert found.naive["offline"] == found.before["offline"] > 0


def test_the_receipt_says_what_is_not_gone_yet(drilled):
    workspace, found = drilled
    (path,) = workspace.receipts.glob("*.json")
    receipt = json.loads(path.read_text())
    assert receipt == found.receipt
    kafka = [told for told in receipt["remains"] if told["where"].startswith("Kafka")]
    if workspace.services is None:
        assert (kafka, receipt["hidden"]) == ([], {})
        assert receipt["removed"]["log/events"] > 0
    else:
        assert receipt["hidden"]["events"] > 0
        assert receipt["hidden"]["dead"] == 1
        assert receipt["removed"]["spool/events"] == 1
        stored = in_kafka(workspace, found.user_id, PARTITIONS)
        assert stored == receipt["hidden"], "their later event was not sent"
        assert str(sum(receipt["hidden"].values())) in kafka[0]["what"]
        assert kafka[0]["until"].startswith("for ever: the topic has no retention")


def test_the_reliability_run_reads_the_drill_as_it_is(drilled):
    metrics = s10.metrics_of(drilled[1])
    assert s10.holds(metrics)
    assert not s10.holds(metrics | {"traces_after_replay_online": 1})


@pytest.fixture
def log(tmp_path):
    workspace = Workspace(tmp_path, "small")
    with closing(open_log(workspace, PARTITIONS)) as log:
        yield log


LEAVER = "somebody-who-leaves"


def test_a_worker_at_work_is_fenced_and_brings_nothing_back(log, tmp_path):
    """Their events keep coming while they are removed; the worker has them in memory."""
    workspace, stop, number = Workspace(tmp_path, "small"), threading.Event(), 0
    log.append("events", [click(number, LEAVER), click(1, "stays")])

    def click_on():
        number = 2
        while not stop.wait(0.005):
            log.append("events", [click(number, LEAVER), click(number + 1, "stays")])
            number += 2

    with running(workspace, log) as failed:
        online = online_of(workspace)
        until(lambda: online.read_stream([LEAVER]))
        clicks = threading.Thread(target=click_on)
        clicks.start()
        receipt = forget(workspace, LEAVER, PARTITIONS, NOW, settle_s=0.5)
        stop.set()
        clicks.join()
        ends = [log.end_offset("events", partition) for partition in range(PARTITIONS)]
        until(lambda: offsets(workspace) == ends)
        until(lambda: online.read_stream(["stays"]))
    assert not failed
    assert receipt["removed"]["online"] == 1
    assert online.read_stream([LEAVER]) == {}
    assert traces(workspace, LEAVER) == {}
    found = recount(workspace, log, POSITIVE, wait_s=30, settle_s=10)
    assert (found["users"], found["wrong"], found["missing"]) == (1, 0, 0)


def test_a_reader_meets_an_empty_place_and_offsets_stay(log, tmp_path):
    workspace = Workspace(tmp_path, "small")
    log.append("events", [click(number, ("u", LEAVER)[number % 2]) for number in range(6)])
    Forgotten(workspace.forgotten).add(LEAVER, NOW)
    partition = partition_of(LEAVER, PARTITIONS)
    rows = log.read_raw("events", partition, 0, 10)
    assert [offset for offset, _, _ in rows] == list(range(len(rows)))
    assert [raw for _, key, raw in rows if key != "u"] == [ERASED] * 3
    with closing(SqliteEventLog(workspace.event_log, PARTITIONS)) as unaware:
        assert sum(key == LEAVER for _, key, _ in unaware.read_raw("events", partition, 0, 10)) == 3
    ingested = ingest_log(workspace, log)
    assert ingested["rows"] == {"read": 3, "accepted": 3, "quarantined": 0, "new": 3}


def test_a_new_event_of_a_forgotten_user_is_not_stored(log, tmp_path):
    workspace = Workspace(tmp_path, "small")
    log.append("events", [click(0, LEAVER)])
    forget(workspace, LEAVER, PARTITIONS, NOW, settle_s=0.0)
    log.append("events", [click(1, LEAVER), click(2, "stays")])
    assert sum(log.end_offset("events", p) for p in range(PARTITIONS)) == 2
    assert traces(workspace, LEAVER) == {}


def test_a_mended_dead_letter_of_a_forgotten_user_is_not_replayed(log, tmp_path):
    workspace = Workspace(tmp_path, "small")
    log.append("events", [(LEAVER, {"user_id": LEAVER}), ("stays", {"user_id": "stays"})])
    worked_off(workspace, log)
    kept = letters(log)
    assert {letter.key for letter in kept} == {LEAVER, "stays"}
    write_letters(tmp_path / "outside.jsonl", kept)
    forget(workspace, LEAVER, PARTITIONS, NOW, settle_s=0.0)
    assert [letter.key for letter in letters(log)] == ["stays"]
    mended = [letter for letter in kept if letter.key == LEAVER]
    object.__setattr__(mended[0], "record", json.dumps(click(3, LEAVER)[1]))
    replay(log, mended)
    assert traces(workspace, LEAVER) == {}


def test_forgetting_twice_changes_nothing_more(tmp_path):
    workspace = built_workspace(tmp_path)
    with closing(open_log(workspace, PARTITIONS)) as log:
        log.append("events", [click(0, "u1")])
    first = forget(workspace, "u1", PARTITIONS, NOW, settle_s=0.0)
    second = forget(workspace, "u1", PARTITIONS, NOW + timedelta(days=1), settle_s=0.0)
    assert first["removed"]
    assert second["removed"] == {}
    assert second["found"]
    assert second["since"] == first["since"]
    assert len(list(workspace.receipts.iterdir())) == 2


def test_nobody_else_loses_a_row_whose_id_is_like_his(new_workspace, tmp_path):
    """u1 goes, u10 stays: ids are compared whole, although keys are found by their bytes."""
    workspace = built_workspace(new_workspace(tmp_path))
    online = OnlineStore(open_feast(workspace))
    row = online.read_stream(["u1"])["u1"]
    online.push("user_stream", {"u10": row, "*": row, "u[1]": row})
    assert erase_online(workspace, "u1") >= 3
    assert set(online.read_stream(["u1", "u10", "*", "u[1]", "u2"])) == {"u10", "*", "u[1]", "u2"}
    assert erase_online(workspace, "*") == 1
    assert erase_online(workspace, "u[1]") == 1
    assert set(online.read_stream(["u10", "u2"])) == {"u10", "u2"}


def test_an_unknown_user_is_an_error_with_a_receipt_and_no_block(tmp_path, monkeypatch):
    monkeypatch.setenv("SHORTLIST_HOME", str(tmp_path))
    workspace = built_workspace(tmp_path)
    ended = CliRunner().invoke(app, ["forget-user", "nobody-of-that-name", "--dataset", "small"])
    assert isinstance(ended.exception, ContractError)
    assert "nothing is known of user 'nobody-of-that-name'" in str(ended.exception)
    (path,) = workspace.receipts.glob("*.json")
    receipt = json.loads(path.read_text())
    assert (receipt["found"], receipt["removed"], receipt["remains"]) == (False, {}, [])
    assert "nobody-of-that-name" not in Forgotten(workspace.forgotten)
    assert traces(workspace, "nobody-of-that-name") == {}


def test_the_command_prints_the_receipt_and_keeps_no_id(tmp_path, monkeypatch):
    monkeypatch.setenv("SHORTLIST_HOME", str(tmp_path))
    workspace = built_workspace(tmp_path)
    with closing(open_log(workspace, 4)) as log:
        log.append("events", [click(0, LEAVER)])
    ended = CliRunner().invoke(app, ["forget-user", LEAVER, "--dataset", "small"])
    assert ended.exit_code == 0, ended.output
    assert LEAVER in Forgotten(workspace.forgotten)
    assert traces(workspace, LEAVER) == {}


def test_reports_and_quarantine_lose_the_name_and_nothing_else(tmp_path):
    workspace = Workspace(tmp_path, "small")
    workspace.reports.mkdir(parents=True)
    told = {"examples": [{"id": LEAVER}, {"id": LEAVER + "-not"}], LEAVER: 1}
    (workspace.reports / "recount.json").write_text(json.dumps(told))
    workspace.quarantine.mkdir(parents=True)
    faults = pd.DataFrame(
        {"row": [1, 2], "column": "user_id", "value": [LEAVER, "x"], "reason": ""}
    )
    faults.to_csv(workspace.quarantine / "small-log.csv", index=False)
    assert from_texts(workspace, LEAVER) == 3
    told = json.loads((workspace.reports / "recount.json").read_text())
    assert told == {"examples": [{"id": FORGOTTEN}, {"id": LEAVER + "-not"}], FORGOTTEN: 1}
    assert pd.read_csv(workspace.quarantine / "small-log.csv")["value"].tolist() == [FORGOTTEN, "x"]


def test_tables_keep_their_schema_and_everybody_elses_rows(tmp_path):
    workspace = built_workspace(tmp_path, online=False)
    before = pd.concat([pd.read_parquet(p) for p in sorted(workspace.offline.rglob("*.parquet"))])
    schemas = {p: pd.read_parquet(p).dtypes.to_dict() for p in workspace.offline.rglob("*.parquet")}
    removed = from_tables(workspace.offline, "u2")
    after = pd.concat([pd.read_parquet(p) for p in sorted(workspace.offline.rglob("*.parquet"))])
    assert set(removed) >= {"user_daily", "user_category_daily", "user_stream"}
    assert len(after) == len(before) - sum(removed.values())
    assert "u2" not in set(after["user_id"])
    assert schemas == {p: pd.read_parquet(p).dtypes.to_dict() for p in schemas}


def test_a_deleted_row_lies_in_the_file_until_it_is_written_anew(tmp_path):
    """Why a DELETE is not enough: the bytes stay in the page, or in the write-ahead log."""
    with closing(PartitionState(tmp_path, 0, 1)) as state:
        path = tmp_path / "partition-0.sqlite"
        with closing(sqlite3.connect(path, isolation_level=None)) as connection:
            connection.execute("INSERT INTO unpushed VALUES (?)", (LEAVER,))
            connection.execute("DELETE FROM unpushed")
        everything = b"".join(p.read_bytes() for p in tmp_path.iterdir())
        assert LEAVER.encode() in everything
        erase_rows(path, [])
        assert LEAVER.encode() not in b"".join(p.read_bytes() for p in tmp_path.iterdir())
        assert state.next_offset == 0


def test_the_search_finds_an_id_in_bytes_in_parquet_and_in_base64(tmp_path):
    workspace = Workspace(tmp_path, "small")
    workspace.root.mkdir(parents=True)
    pd.DataFrame({"x": [[LEAVER, "a"]]}).to_parquet(
        workspace.root / "a.parquet", compression="zstd"
    )
    for before in range(3):
        inside = base64.b64encode(b"x" * before + LEAVER.encode() + b"more")
        (workspace.root / f"b{before}").write_bytes(inside)
        assert sum(spelling in inside for spelling in spellings(LEAVER)) == 1
    assert {Path(path).name for path in traces(workspace, LEAVER)} == {
        "a.parquet", "b0", "b1", "b2"
    }  # fmt: skip
