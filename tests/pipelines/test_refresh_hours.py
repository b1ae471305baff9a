"""The hourly job: what just happened is in the item rows online, and nothing else was touched."""

from datetime import timedelta

from features.feature_set import CURRENT
from features.store import OnlineStore
from infra.clients import open_feast
from infra.event_log import SqliteEventLog
from infra.workspace import Workspace
from pipelines.days import known_hour
from pipelines.refresh_hours import refresh_hours
from tests.features.workspaces import CATEGORIES, NOW, built_workspace

HOURLY = [f for f in CURRENT.item if f.view == "item_hourly"]


def clicked(event_id: str, at) -> dict:
    return {
        "event_id": event_id, "event_type": "click", "user_id": "u1", "item_id": "i7",
        "event_at": at.isoformat(), "seen_at": at.isoformat(), "context": {},
    }  # fmt: skip


def test_the_last_hours_events_are_in_the_item_rows(tmp_path):
    workspace = built_workspace(Workspace(tmp_path, "small"))
    online = OnlineStore(open_feast(workspace))
    later = NOW + timedelta(hours=2, minutes=15)
    hour = known_hour(later)
    log = SqliteEventLog(workspace.event_log, 2)
    inside = [clicked(f"inside{n}", hour - timedelta(minutes=5 + n)) for n in range(3)]
    for value in (*inside, clicked("after", hour + timedelta(minutes=1))):
        log.append("events", [(value["user_id"], value)])
    users = online.read_user("u1", CATEGORIES, NOW)
    mark = workspace.items_mark.read_text()

    told = refresh_hours(workspace, log, later)

    assert set(told["computed"]) == {"item_hourly"}
    row = online.read_items(["i7"], later, HOURLY)
    assert row.as_of == {"item_hourly": hour}
    assert row.matrix[0, 0] == 3  # of the hour's three clicks; the fourth is not known yet
    assert workspace.items_mark.read_text() != mark
    assert online.read_user("u1", CATEGORIES, NOW) == users
    assert refresh_hours(workspace, log, later)["computed"] == {"item_hourly": {}}
