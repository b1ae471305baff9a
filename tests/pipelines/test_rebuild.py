"""An online store that was lost is filled from the offline store and the worker's states."""

from contextlib import closing

import pytest

from features.request import microseconds
from features.store import OnlineStore
from infra.clients import clear_online, open_feast
from infra.event_log import SqliteEventLog
from pipelines.rebuild import rebuild
from pipelines.recount import recount
from tests.features.small_lake import POSITIVE
from tests.features.workspaces import CATEGORIES, NOW, built_workspace
from tests.pipelines.stream_kit import PARTITIONS, click, running, worked_off

USERS = [f"u{number}" for number in range(7)]


@pytest.fixture
def workspace(new_workspace, tmp_path):
    return built_workspace(new_workspace(tmp_path))


@pytest.fixture
def log(workspace):
    with closing(SqliteEventLog(workspace.event_log, PARTITIONS)) as log:
        log.append("events", [click(number, f"n{number % 3}") for number in range(9)])
        log.append("events", [click(number, "u1", event_at=NOW.isoformat()) for number in (20, 21)])
        yield log


def everything(workspace):
    online = OnlineStore(open_feast(workspace))
    users = [online.read_user(user, CATEGORIES, NOW) for user in (*USERS, "n0", "n1", "n2")]
    return users, online.read_items([f"i{number}" for number in range(10)]).matrix.tolist()


def test_an_emptied_store_is_whole_again(workspace, log):
    worked_off(workspace, log)
    before = everything(workspace)
    clear_online(workspace)
    assert everything(workspace) != before
    report = rebuild(workspace, NOW, PARTITIONS)
    assert everything(workspace) == before
    assert report["states"] >= 3
    assert rebuild(workspace, NOW, PARTITIONS)["states"] == 0  # nothing is newer than what is there


def test_a_row_that_is_wrong_but_newer_goes_only_with_everything(workspace, log):
    worked_off(workspace, log)
    before = everything(workspace)
    online = OnlineStore(open_feast(workspace))
    wrong = online.read_stream(["n1"])["n1"] | {"version": microseconds(NOW), "session_events": 99}
    online.push("user_stream", {"n1": wrong})
    rebuild(workspace, NOW, PARTITIONS)
    assert online.read_stream(["n1"])["n1"]["session_events"] == 99
    rebuild(workspace, NOW, PARTITIONS, empty=True)
    assert everything(workspace) == before


def test_it_may_run_beside_a_running_worker(workspace, log):
    with running(workspace, log) as failed:
        for number in range(30, 36):
            log.append("events", [click(number, f"n{number % 3}")])
            rebuild(workspace, NOW, PARTITIONS)
        found = recount(workspace, log, POSITIVE, wait_s=60, settle_s=30)
    assert not failed
    assert (found["wrong"], found["missing"], found["lag"]) == (0, 0, 0)
