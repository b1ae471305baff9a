"""The recount finds what is wrong, names it, and is not fooled by repeats, seeds or late events."""

import json
import sqlite3
from contextlib import closing
from datetime import timedelta

import pytest

from features.errors import ContractError
from features.store import OnlineStore
from features.streaming import RECENT_IDS
from infra.clients import open_feast
from infra.event_log import SqliteEventLog, partition_of
from pipelines import stream_read
from pipelines.materialize import SEED
from pipelines.recount import recount
from pipelines.stream import open_seeds
from pipelines.stream_state import PartitionState
from tests.features.small_lake import POSITIVE
from tests.features.workspaces import NOW, built_workspace
from tests.pipelines.stream_kit import (
    PARTITIONS,
    click,
    running,
    worked_off,
)


@pytest.fixture
def workspace(new_workspace, tmp_path):
    return new_workspace(tmp_path)


@pytest.fixture
def log(workspace):
    with closing(SqliteEventLog(workspace.event_log, PARTITIONS)) as log:
        yield log


def judged(workspace, log):
    return recount(workspace, log, POSITIVE, wait_s=0, settle_s=0)


def test_repeats_refused_records_and_late_events_are_counted_as_the_worker_should(workspace, log):
    records = [click(number, f"u{number % 3}") for number in (5, 1, 8, 2, 9, 3)]
    log.append("events", [*records, records[0], ("u0", [1, 2]), click(7, "u1")])
    worked_off(workspace, log)
    found = judged(workspace, log)
    assert (found["users"], found["events"], found["repeated"]) == (3, 7, 1)
    assert (found["wrong"], found["missing"], found["lag"], found["examples"]) == (0, 0, 0, [])


def test_a_wrong_and_a_missing_row_are_found(workspace, log):
    log.append("events", [click(number, f"u{number % 3}") for number in range(9)])
    worked_off(workspace, log)
    online = OnlineStore(open_feast(workspace))
    wrong = online.read_stream(["u1"])["u1"]
    wrong |= {"version": wrong["version"] + 1, "session_minutes": wrong["session_minutes"] + 1e-6}
    online.push("user_stream", {"u1": wrong})
    log.append("events", [click(10, "nobody pushed me")])
    found = judged(workspace, log)
    assert (found["users"], found["wrong"], found["missing"], found["lag"]) == (4, 1, 1, 1)
    columns = {e["id"]: set(e["columns"]) for e in found["examples"]}
    assert columns == {"u1": {"version", "session_minutes"}, "nobody pushed me": set()}


def test_a_repeat_that_the_worker_has_forgotten_is_late(workspace, log):
    """The fold knows the last RECENT_IDS events of a user; what is older does not count again."""
    first = click(0)
    log.append("events", [first, *(click(number) for number in range(1, RECENT_IDS + 1)), first])
    worked_off(workspace, log)
    found = judged(workspace, log)
    assert (found["events"], found["repeated"], found["late"]) == (RECENT_IDS + 1, 0, 1)
    assert (found["wrong"], found["missing"]) == (0, 0)


@pytest.mark.parametrize("first_days", [0, -30], ids=["at once", "after a late event"])
def test_users_start_where_the_worker_began_with_them(workspace, log, monkeypatch, first_days):
    """Later seeds hold the log's own events: starting from them would count those twice."""
    monkeypatch.setattr(stream_read, "BATCH", 1)
    built_workspace(workspace)
    known = seeded(workspace)
    user_id = min(known)
    times = [NOW + timedelta(days=first_days), *(NOW + timedelta(minutes=n) for n in (1, 2))]
    records = [click(n, user_id, event_at=at.isoformat()) for n, at in enumerate(times)]
    log.append("events", records)
    worked_off(workspace, log)
    found = judged(workspace, log)
    assert (found["users"], found["late"]) == (len(known), int(first_days < 0))
    with closing(PartitionState(workspace.state, partition_of(user_id, 2), 2)) as mine:
        later = mine.load([user_id])[user_id]
    with closing(sqlite3.connect(workspace.state / SEED)) as seeds, seeds:
        forgotten = json.dumps(later | {"recent": {}})
        seeds.execute("UPDATE states SET state = ? WHERE user_id = ?", (forgotten, user_id))
    found = judged(workspace, log)
    assert (found["wrong"], found["missing"]) == (0, 0)


def seeded(workspace) -> set[str]:
    with closing(open_seeds(workspace)) as seeds:
        return set(seeds.users())


def test_a_log_without_its_beginning_cannot_be_recounted(workspace, log):
    log.append("events", [click(number) for number in range(3)])
    worked_off(workspace, log)
    log._writer.execute("DELETE FROM records WHERE offset = 0")
    with pytest.raises(ContractError, match=r"begins at 1; .*a recount needs the whole log"):
        judged(workspace, log)


def test_it_waits_for_the_worker(workspace, log):
    log.append("events", [click(number, f"u{number % 3}") for number in range(9)])
    with running(workspace, log) as failed:
        found = recount(workspace, log, POSITIVE, wait_s=60, settle_s=30)
    assert not failed
    assert (found["events"], found["lag"], found["wrong"], found["missing"]) == (9, 0, 0, 0)
