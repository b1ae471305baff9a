"""Items have one owner: what all users did adds up, once, on every log and online store."""

import json
from contextlib import closing
from datetime import timedelta

import pytest

from features.item_streaming import due, fold_item, item_row
from features.request import MINUTE_US, microseconds
from features.store import OnlineStore
from features.windows import HOUR
from infra.clients import open_feast
from infra.event_log import partition_of
from infra.workspace import Workspace
from monitoring.stream_metrics import StreamMetrics
from pipelines.recount import recount
from pipelines.stream_items import ItemStage, item_rows
from pipelines.stream_push import Pusher
from pipelines.stream_read import LogSide
from pipelines.stream_state import ITEMS, PartitionState
from tests.features.small_lake import POSITIVE
from tests.pipelines.stream_kit import (
    PARTITIONS,
    START,
    ListLog,
    click,
    counted,
    left_to_push,
    offsets,
    running,
    until,
)

T0 = microseconds(START)


def shown(number: int, user_id: str, item_id: str, seconds: float = 0.0):
    at = (START + timedelta(seconds=seconds)).isoformat()
    return click(number, user_id, event_type="impression", item_id=item_id, event_at=at)


def clicked(number: int, user_id: str, item_id: str, seconds: float = 0.0):
    at = (START + timedelta(seconds=seconds)).isoformat()
    return click(number, user_id, item_id=item_id, event_at=at)


def test_a_clicks_hour_ends_although_nobody_touches_the_item():
    state = fold_item(None, [(T0, True), (T0, False)], T0)
    assert item_row(state)["item_clicks_1h"] == 1
    later = due(state)
    assert later == (T0 // HOUR.step_us + HOUR.steps) * HOUR.step_us
    before = fold_item(state, (), later - 1)
    assert item_row(before)["item_clicks_1h"] == 1
    after = fold_item(state, (), later)
    assert [item_row(after)[f"item_clicks_{span}"] for span in ("1h", "24h")] == [0, 1]
    assert after["version"] > state["version"]
    over = fold_item(after, (), T0 + 25 * 60 * MINUTE_US)
    assert (item_row(over)["item_clicks_24h"], due(over)) == (0, None)


def done(workspace, log) -> bool:
    folded = sum(offsets(workspace))
    waiting = [
        log.end_offset("items", partition) - state.next_offset or state.waiting()
        for partition in range(PARTITIONS)
        for state in [PartitionState(workspace.state, partition, PARTITIONS, ITEMS)]
    ]
    events = sum(log.end_offset("events", partition) for partition in range(PARTITIONS))
    return folded == events and not any(waiting) and not left_to_push(workspace)


def test_users_of_all_partitions_add_up_in_one_row(new_workspace, open_log, tmp_path):
    """One worker per partition: neither knows the other's events, and the item has them all."""
    workspace, log = new_workspace(tmp_path), open_log(PARTITIONS)
    users = [f"u{n}" for n in range(6)]
    assert {partition_of(user, PARTITIONS) for user in users} == {0, 1}
    log.append("events", [shown(n, user, "hit", n) for n, user in enumerate(users)])
    log.append("events", [clicked(10 + n, user, "hit", n) for n, user in enumerate(users[:4])])
    log.append("events", [clicked(10, users[0], "hit", 0), shown(20, "u0", "miss", 5)])
    with (
        running(workspace, log, partitions=[0]) as failed,
        running(workspace, log, partitions=[1]) as failed_too,
    ):
        until(lambda: done(workspace, log), seconds=60)
    assert not failed + failed_too
    row = OnlineStore(open_feast(workspace)).read_item_stream(["hit", "miss"])
    assert (row["hit"]["item_impressions_1h"], row["hit"]["item_clicks_1h"]) == (6, 4)
    assert (row["miss"]["item_impressions_24h"], row["miss"]["item_clicks_24h"]) == (1, 0)
    found = recount(workspace, log, POSITIVE, wait_s=0, settle_s=0)
    assert (found["items"], found["items_wrong"], found["items_missing"]) == (2, 0, 0)


def delta(after: int, events: list[tuple[int, str, int]], source: int = 0) -> str:
    offsets_, items, at = zip(*events, strict=True)
    return json.dumps(
        {"source": source, "after": after, "until": offsets_[-1] + 1, "offsets": offsets_,
         "items": items, "at": at, "clicks": [1] * len(items)}
    )  # fmt: skip


@pytest.fixture
def stage(tmp_path):
    """A second stage over a log of deltas; tells the clicks of an item."""
    workspace, log, metrics = Workspace(tmp_path, "small"), ListLog(), StreamMetrics()
    with running(workspace, log):
        pass  # applies the views
    online = OnlineStore(open_feast(workspace))
    pusher = Pusher(online, item_rows(metrics), metrics, PARTITIONS)
    stage = ItemStage(LogSide(log, metrics), pusher)

    def clicks(*deltas: str) -> int:
        log.append_at("items", [(0, text) for text in deltas])
        with closing(PartitionState(workspace.state, 0, PARTITIONS, ITEMS)) as state:
            while stage.turn(state):
                pass
        return online.read_item_stream(["i"])["i"]["item_clicks_1h"]

    return clicks, metrics


def test_a_delta_that_comes_twice_counts_once(stage):
    clicks, metrics = stage
    first, second = delta(0, [(0, "i", T0), (1, "i", T0)]), delta(2, [(5, "i", T0)])
    assert clicks(first) == 2
    assert clicks(first, second) == 3
    assert clicks(first, second, first) == 3
    assert clicks(delta(0, [(0, "i", T0)], source=1)) == 4  # the other partition's own offsets
    assert counted(metrics, "shortlist_stream_item_gaps_total") == 0


def test_batches_cut_differently_by_a_replay_count_once(stage):
    """A state that was made again from the log sends the same events in batches of its own."""
    clicks, _ = stage
    assert clicks(delta(0, [(0, "i", T0), (3, "i", T0)])) == 2
    assert clicks(delta(0, [(0, "i", T0)]), delta(1, [(3, "i", T0), (4, "i", T0)])) == 3


def test_a_delta_that_does_not_follow_on_is_told(stage):
    clicks, metrics = stage
    assert clicks(delta(0, [(0, "i", T0)]), delta(9, [(9, "i", T0)])) == 2
    assert counted(metrics, "shortlist_stream_item_gaps_total") == 1
