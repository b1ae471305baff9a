"""Offline -> online: only what is known, never over something newer, never in a reader's way."""

import multiprocessing
import os
import signal
import sqlite3
import time
from contextlib import closing
from datetime import timedelta

import pyarrow.parquet as pq
import pytest

from features.definitions import BATCH_LAG, of_view
from features.request import microseconds
from features.store import OnlineStore
from infra.clients import clear_online, open_feast
from infra.workspace import Workspace
from pipelines.lake import OFFSETS
from pipelines.materialize import SEED, materialize
from tests.features.small_lake import DAY
from tests.features.workspaces import CATEGORIES, NOW, built_workspace

processes = multiprocessing.get_context("forkserver")
processes.set_forkserver_preload(["pipelines.materialize", "pipelines.stream"])


def materialize_for_ever(workspace: Workspace) -> None:
    while True:
        materialize(workspace, NOW)


def test_a_row_that_is_not_known_yet_is_not_written(new_workspace, tmp_path):
    workspace = built_workspace(new_workspace(tmp_path), online=False)
    materialize(workspace, DAY + BATCH_LAG - timedelta(seconds=1))
    early = OnlineStore(open_feast(workspace)).read_user("u1", CATEGORIES, DAY)
    materialize(workspace, DAY + BATCH_LAG)
    late = OnlineStore(open_feast(workspace)).read_user("u1", CATEGORIES, DAY)
    days = [row.values["account_age_days"] for row in (early, late)]
    assert days[1] - days[0] == pytest.approx(1.0)


def test_the_newest_row_is_written_last_in_whatever_order_the_file_has_them(
    new_workspace, tmp_path
):
    workspace = built_workspace(new_workspace(tmp_path), online=False)
    newest, *older = sorted(workspace.offline.glob("user_daily/*.parquet"), reverse=True)
    table = pq.read_table([newest, *older])
    pq.write_table(table.sort_by([("as_of", "descending")]), newest)
    for path in older:
        path.unlink()
    materialize(workspace, NOW)
    got = OnlineStore(open_feast(workspace)).read_user("u1", (), NOW)
    assert got.age_s["user_daily"] == 6 * 3600


def test_what_the_worker_pushed_meanwhile_stays(new_workspace, tmp_path):
    workspace = built_workspace(new_workspace(tmp_path))
    online = OnlineStore(open_feast(workspace))
    newer = {
        **{f.name: 7 for f in of_view("user_stream")}, "history_items": ["fresh"],
        "history_at": [1], "last_event_at": 1, "version": microseconds(NOW),
    }  # fmt: skip
    online.push("user_stream", {"u1": newer})
    report = materialize(workspace, NOW)
    assert report["rows"]["user_stream"] == 0  # the others are unchanged, and so not newer
    assert online.read_user("u1", (), NOW).history_items == ["fresh"]


def test_a_clock_set_back_puts_no_older_rows_over_newer_ones(new_workspace, tmp_path):
    workspace = built_workspace(new_workspace(tmp_path))
    online = OnlineStore(open_feast(workspace))
    items = [f"i{number}" for number in range(10)]
    before = online.read_user("u1", CATEGORIES, NOW), online.read_items(items).matrix.tolist()
    assert set(materialize(workspace, NOW - timedelta(days=1))["rows"]) == {"user_stream"}
    after = online.read_user("u1", CATEGORIES, NOW), online.read_items(items).matrix.tolist()
    assert after == before
    clear_online(workspace)  # with the rows goes what was known of them
    assert materialize(workspace, NOW - timedelta(days=1))["rows"]["user_daily"] > 0
    yesterday = online.read_user("u1", CATEGORIES, NOW - timedelta(days=1))
    assert yesterday.values["account_age_days"] == before[0].values["account_age_days"] - 1


def test_states_that_reach_past_now_are_not_seeded(tmp_path):
    workspace = built_workspace(tmp_path)  # its lake goes on for two days after DAY
    with closing(sqlite3.connect(workspace.state / SEED)) as seeds:
        early = {user for (user,) in seeds.execute("SELECT user_id FROM states")}
    report = materialize(workspace, NOW + timedelta(days=3))
    with closing(sqlite3.connect(workspace.state / SEED)) as seeds:
        late = {user for (user,) in seeds.execute("SELECT user_id FROM states")}
    assert early < late
    assert report["seeded"] == len(late) == 7


def test_once_the_lake_holds_the_log_the_seed_stays(tmp_path):
    """The worker folds the log itself: a seed that had it already would count it twice."""
    workspace = built_workspace(tmp_path)
    with closing(sqlite3.connect(workspace.state / SEED)) as seeds:
        before = seeds.execute("SELECT * FROM states ORDER BY user_id").fetchall()
    (workspace.lake / OFFSETS).write_text('{"0": 0, "1": 17}')
    assert materialize(workspace, NOW + timedelta(days=3))["seeded"] == 0
    with closing(sqlite3.connect(workspace.state / SEED)) as seeds:
        assert seeds.execute("SELECT * FROM states ORDER BY user_id").fetchall() == before
    (workspace.lake / OFFSETS).write_text('{"0": 0, "1": 0}')  # looked, and found nothing
    assert materialize(workspace, NOW + timedelta(days=3))["seeded"] == 7


def test_rows_are_counted_as_entities(tmp_path):
    workspace = built_workspace(tmp_path, online=False)
    rows = materialize(workspace, NOW)["rows"]
    with closing(sqlite3.connect(workspace.feast / "online.sqlite")) as connection:
        for view, count in rows.items():
            stored = connection.execute(
                f"SELECT count(DISTINCT entity_key) FROM shortlist_{view}"
            ).fetchone()
            assert stored == (count,), view


def test_nothing_built_means_nothing_written(new_workspace, tmp_path):
    report = materialize(new_workspace(tmp_path), NOW)
    assert set(report["rows"].values()) == {0}
    assert report["seeded"] == 0


def test_reads_go_on_while_another_process_materializes_and_after_it_is_killed(
    new_workspace, tmp_path
):
    workspace = built_workspace(new_workspace(tmp_path))
    store = open_feast(workspace)
    online = OnlineStore(store)
    expected = online.read_user("u1", CATEGORIES, NOW)
    field, key = ["user_daily:positives_30d"], [{"user_id": "u1"}]
    asked = store.get_online_features(features=field, entity_rows=key).to_dict()
    registry = workspace.feast / "registry.db"
    seen = {registry.stat().st_mtime_ns}

    other = processes.Process(target=materialize_for_ever, args=(workspace,), daemon=True)
    other.start()
    slowest, until = 0.0, time.monotonic() + 30
    while len(seen) < 6 and time.monotonic() < until:  # its states go to the registry and back
        since = time.monotonic()
        assert online.read_user("u1", CATEGORIES, NOW) == expected
        slowest = max(slowest, time.monotonic() - since)
        assert store.get_online_features(features=field, entity_rows=key).to_dict() == asked
        seen.add(registry.stat().st_mtime_ns)
    assert other.pid is not None
    os.kill(other.pid, signal.SIGKILL)
    other.join(10)

    assert len(seen) >= 6, "the other process never materialized"
    assert slowest < 1.0  # a lock would show as the busy timeout of 5 s
    assert store.get_online_features(features=field, entity_rows=key).to_dict() == asked
    again = OnlineStore(open_feast(workspace))
    assert again.read_user("u1", CATEGORIES, NOW) == expected
