"""Lake -> offline store: which engine, which files, and the stream's past as it was known."""

import json
import os
from datetime import timedelta

import pandas as pd
import pyarrow.parquet as pq
import pytest

from features.batch import schema_of
from features.definitions import BATCH_VIEWS
from features.errors import ContractError
from features.request import microseconds
from features.streaming import fold, row_of
from infra.workspace import Workspace
from pipelines.build_features import build_features
from pipelines.offline_file import replaced
from pipelines.stream_history import HISTORY_SCHEMA, STATES, stream_history
from tests.features.small_lake import DAY, POSITIVE, event, item, random_lake, user, write_lake

DAYS = [DAY.date(), DAY.date() - timedelta(days=1)]


def test_every_view_is_written_with_its_schema_and_nothing_else_stays(tmp_path):
    workspace = Workspace(tmp_path, "small")
    random_lake(workspace.lake)
    report = build_features(workspace, DAYS, engine="duckdb")
    written = {path.name for path in workspace.offline.iterdir()}
    assert written == {*BATCH_VIEWS, "user_stream.parquet", f"{STATES}.parquet"}
    for view in BATCH_VIEWS:
        table = pq.read_table(list(workspace.offline.glob(f"{view}/*.parquet")))
        assert table.schema == schema_of(view)
        assert report["rows"][view] == len(table) > 0
    table = pq.read_table(workspace.offline / "user_stream.parquet")
    assert table.schema == HISTORY_SCHEMA
    assert report["rows"]["user_stream"] == len(table)
    assert report["engine"] == "duckdb"


@pytest.mark.parametrize(
    ("java", "engine", "because"),
    [
        (None, "duckdb", "no Java found"),
        ('openjdk version "11.0.2" 2019-01-15', "duckdb", "Java 11 found, Spark needs 17"),
        ('java version "1.8.0_402"', "duckdb", "Java 8 found, Spark needs 17"),
    ],
)
def test_without_a_java_for_spark_duckdb_stands_in_and_says_so(
    tmp_path, monkeypatch, capsys, java, engine, because
):
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    (tmp_path / "bin").mkdir()
    if java:
        fake = tmp_path / "bin" / "java"
        fake.write_text(f"#!/bin/sh\necho '{java}' >&2\n")
        fake.chmod(0o755)
    workspace = Workspace(tmp_path, "small")
    write_lake(workspace.lake, [event("1", 3)], [item("a")], [user("u")])
    report = build_features(workspace, DAYS)
    assert report["engine"] == engine
    assert report["because"].startswith(because)
    assert f"batch features by {engine}: {because}" in capsys.readouterr().out


def test_no_days_and_an_unknown_engine_are_refused(tmp_path):
    workspace = Workspace(tmp_path, "small")
    with pytest.raises(ContractError, match="no as-of days were given, expected at least one"):
        build_features(workspace, [])
    with pytest.raises(ContractError, match="engine is 'dask', expected auto, spark or duckdb"):
        build_features(workspace, DAYS, engine="dask")


def test_an_empty_lake_is_named(tmp_path):
    with pytest.raises(ContractError, match="run `shortlist ingest` first"):
        build_features(Workspace(tmp_path, "none"), DAYS, engine="duckdb")


def test_a_crash_while_writing_leaves_the_old_file(tmp_path):
    path = tmp_path / "view.parquet"
    with replaced(path, HISTORY_SCHEMA) as write:
        write(HISTORY_SCHEMA.empty_table())
    before = path.read_bytes()

    def crash():
        with replaced(path, HISTORY_SCHEMA) as write:
            write(HISTORY_SCHEMA.empty_table())
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        crash()
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["view.parquet"]


def history(events, since=DAY - timedelta(days=30)):
    frame = pd.DataFrame(events)
    for name in ("event_at", "seen_at"):
        frame[name] = frame[name].astype("datetime64[us, UTC]")
    states: dict = {}
    rows = list(stream_history(frame, microseconds(since), POSITIVE, states))
    return sorted(rows, key=lambda row: row["version"]), states


def test_a_slate_is_one_row_of_the_history():
    slate = [event(f"r:{place}", 2, "impression", item_id=f"i{place}") for place in range(10)]
    rows, _ = history([*slate, event("c", 1.99, "click", item_id="i3")])
    assert [row["session_events"] for row in rows] == [10, 11]
    assert rows[1]["history_items"] == ["i3"]
    assert rows[0]["created_at"] == microseconds(slate[0]["seen_at"])
    assert rows[0]["version"] == microseconds(slate[0]["event_at"]) + 9
    assert rows[0]["as_of"] == microseconds(slate[0]["seen_at"])


def test_an_event_of_a_clock_that_runs_ahead_is_known_when_it_arrives():
    """The store answers with it at once: a join that waited for its own time would see it later."""
    arrived = DAY - timedelta(hours=1)
    ahead = event("ahead", 0) | {"event_at": arrived + timedelta(minutes=2), "seen_at": arrived}
    usual = event("usual", 0) | {"event_at": arrived + timedelta(minutes=1)}
    usual |= {"seen_at": usual["event_at"]}
    rows, _ = history([ahead, usual])
    assert [row["as_of"] for row in rows] == [microseconds(arrived), microseconds(usual["seen_at"])]
    assert rows[0]["version"] == microseconds(ahead["event_at"]) < rows[1]["version"]


def test_before_the_first_day_only_the_last_row_of_a_user_is_kept():
    events = [event(str(days), days) for days in (50, 45, 40, 3, 2)]
    rows, _ = history(events, since=DAY - timedelta(days=30))
    assert [row["version"] for row in rows] == [
        microseconds(e["event_at"]) for e in events if e["event_id"] in ("40", "3", "2")
    ]
    assert len(rows[0]["history_items"]) == 3


def test_the_history_follows_arrival_so_a_late_event_is_not_known_early():
    arrived = DAY - timedelta(days=1)
    half_an_hour = 1 / 48
    events = [
        event("late", 2 + half_an_hour, item_id="late", seen_at=arrived),
        event("in time", 2, item_id="b"),
        event("too late", 3, item_id="too late", seen_at=arrived),
    ]
    rows, _ = history(events)
    assert [row["history_items"] for row in rows] == [["b"], ["b", "late"]]
    assert rows[1]["created_at"] == microseconds(arrived)


def test_the_states_continue_where_the_history_ends(tmp_path):
    workspace = Workspace(tmp_path, "small")
    random_lake(workspace.lake)
    build_features(workspace, DAYS, engine="duckdb")
    states = pq.read_table(workspace.offline / f"{STATES}.parquet").to_pylist()
    stream = pq.read_table(workspace.offline / "user_stream.parquet").to_pandas()
    last = stream.sort_values("version").drop_duplicates("user_id", keep="last")
    assert {row["user_id"] for row in states} == set(last["user_id"])
    for row in states:
        state = json.loads(row["state"])
        mine = last[last["user_id"] == row["user_id"]].iloc[0]
        expected = row_of(state)
        assert row["version"] == expected["version"] == mine["version"]
        assert expected["history_items"] == list(mine["history_items"])
        assert fold(state, {**event("x", 0), "event_at": row["version"]}, POSITIVE)[1] is not None
