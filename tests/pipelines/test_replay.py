"""The stream's online rows again, from the log alone and from the lake alone: equal to the worker's."""

import random
import shutil
from contextlib import closing
from datetime import timedelta
from functools import partial

import pytest

from features.errors import ContractError
from features.store import OnlineStore
from infra.clients import clear_online, open_feast
from infra.event_log import SqliteEventLog
from pipelines.build_features import build_features
from pipelines.ingest import ingest_log
from pipelines.materialize import materialize
from pipelines.rebuild import rebuild
from pipelines.recount import recount
from pipelines.replay import from_lake, from_log
from tests.features.small_lake import DAY, POSITIVE, event, item, user, write_lake
from tests.pipelines.stream_kit import PARTITIONS, running, worked_off

NOW = DAY + timedelta(hours=6)
USERS = [f"u{number}" for number in range(6)]
ITEMS = [f"i{number}" for number in range(9)]


def traffic(count: int, seed: int = 0) -> list[tuple[str, dict]]:
    """Repeats, events up to ten minutes out of order, and some later than the stream allows."""
    rng, records = random.Random(seed), []
    for number in range(count):
        if rng.random() < 0.05 and records:
            records.append(rng.choice(records[-20:]))
            continue
        seen_at = DAY + timedelta(seconds=20 * number)
        late_s = rng.choice([0, 0, 0, 30, 600, 9000])
        records.append(
            (
                who := rng.choice(USERS[2:]),
                {
                    "event_id": f"log{number}",
                    "event_type": rng.choice(["impression", "impression", "click", "purchase"]),
                    "user_id": who,
                    "item_id": rng.choice(ITEMS),
                    "session_id": rng.choice([None, "s1", "s2"]),
                    "event_at": (seen_at - timedelta(seconds=late_s)).isoformat(),
                    "seen_at": seen_at.isoformat(),
                },
            )
        )
    return records


@pytest.fixture
def workspace(new_workspace, tmp_path):
    """A past that ends days before the log begins, materialized: four users have a seed."""
    workspace = new_workspace(tmp_path)
    past = [
        event(f"e{n}", 3 + n / 7, ["click", "purchase", "impression"][n % 3],
              user_id=USERS[n % 4], item_id=ITEMS[n % 9])
        for n in range(60)
    ]  # fmt: skip
    write_lake(workspace.lake, past, [item(i) for i in ITEMS], [user(u) for u in USERS])
    build_features(workspace, [DAY.date()], "duckdb", until=NOW)
    materialize(workspace, NOW)
    return workspace


@pytest.fixture
def log(workspace):
    with closing(SqliteEventLog(workspace.event_log, PARTITIONS)) as log:
        log.append("events", traffic(400))
        log.append("events", [("u2", {"event_type": "hover"})])  # no event: set aside
        yield log


def stream_rows(workspace, users=USERS, items=ITEMS):
    """Every stored stream row; an item's version says when its worker last wrote it, not what."""
    online = OnlineStore(open_feast(workspace))
    items = online.read_item_stream(items)
    return online.read_stream(users), {
        name: {column: value for column, value in row.items() if column != "version"}
        for name, row in items.items()
    }


def test_the_log_and_the_lake_rebuild_the_same_rows(workspace, log):
    with running(workspace, log):
        found = recount(workspace, log, POSITIVE, wait_s=60, settle_s=30)
    assert (found["wrong"], found["items_wrong"], found["lag"]) == (0, 0, 0)
    assert found["late"] > 0
    assert found["repeated"] > 0
    users, items = expected = stream_rows(workspace)
    assert (set(users), set(items)) == (set(USERS), set(ITEMS))
    assert any(row["item_clicks_24h"] for row in items.values())
    read_log = partial(from_log, workspace, log=log, positive_types=POSITIVE)
    assert rebuild(workspace, NOW, PARTITIONS, empty=True, stream=read_log)["states"] > 0
    assert stream_rows(workspace) == expected

    assert ingest_log(workspace, log)["rows"]["new"] > 300
    shutil.rmtree(workspace.state)  # the worker's disk is lost as well, and the seeds with it
    read_lake = partial(from_lake, workspace, partitions=PARTITIONS, positive_types=POSITIVE)
    assert rebuild(workspace, NOW, PARTITIONS, empty=True, stream=read_lake)["states"] > 0
    assert stream_rows(workspace) == expected


def test_a_replay_beside_rows_that_are_right_writes_nothing_over_users(workspace, log):
    worked_off(workspace, log)
    online = OnlineStore(open_feast(workspace))
    before = online.read_stream(USERS)
    from_log(workspace, online, log, POSITIVE)
    assert online.read_stream(USERS) == before
    wrong = before["u2"] | {"version": before["u2"]["version"] - 1, "session_events": 99}
    clear_online(workspace)
    online.push("user_stream", {"u2": wrong})
    from_log(workspace, online, log, POSITIVE)
    assert online.read_stream(["u2"])["u2"] == before["u2"]  # the newer one, whatever was there


def test_a_log_without_its_beginning_is_refused_with_the_other_ways(workspace, log):
    with closing(open_connection(log)) as connection:
        connection.execute("DELETE FROM records WHERE offset = 0")
        connection.commit()
    with pytest.raises(
        ContractError, match=r"needs the whole log: rebuild from .* or from the lake"
    ):
        from_log(workspace, OnlineStore(open_feast(workspace)), log, POSITIVE)


def open_connection(log):
    import sqlite3

    path = log._writer.execute("PRAGMA database_list").fetchone()[2]
    return sqlite3.connect(path, timeout=10)
