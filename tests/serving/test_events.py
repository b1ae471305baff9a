import asyncio
import json
from datetime import timedelta

import pytest

from infra.event_log import SqliteEventLog
from monitoring.metrics import Metrics
from serving.events import EventDoor, record
from serving.fallback import Fallback, LastLists, PopularInContext
from serving.refusals import Refusal
from serving.schemas import EventIn, EventsIn
from tests.serving.conftest import NOW

EVENT = {"event_id": "e1", "event_type": "click", "user_id": "ann", "item_id": "i1"}


def event(**changes) -> EventIn:
    return EventIn.model_validate(EVENT | changes)


def post(client, body, **headers):
    return client.post("/v1/events", json=body, headers=headers)


@pytest.fixture
def log(tmp_path):
    opened = SqliteEventLog(tmp_path / "log.sqlite", partitions=2)
    yield opened
    opened.close()


@pytest.fixture
def door(log):
    opened = EventDoor(log, Fallback(LastLists(), PopularInContext()), Metrics())
    yield opened
    opened.close()


def test_one_event_or_several_are_accepted_and_counted(shop, client):
    assert post(client, EVENT).json() == {"accepted": 1}
    many = {"events": [EVENT | {"event_id": f"e{n}", "user_id": f"u{n}"} for n in range(500)]}
    answer = post(client, many)
    assert (answer.status_code, answer.json()) == (202, {"accepted": 500})
    assert len(shop.logged("events")) == 501


def test_a_record_has_every_column_of_the_lake(shop, client):
    full = EVENT | {
        "event_type": "purchase",
        "event_at": "2026-03-01T13:00:00+01:30",  # 11:30 UTC
        "position": 3,
        "value": 9.5,
        "request_id": "r1",
        "session_id": "s1",
        "context": {"device": "app"},
    }
    post(client, full)
    (stored,) = shop.logged("events")
    seen_at = stored.pop("seen_at")
    assert seen_at.startswith("2026-03-01T12:00:")
    assert stored == {
        "event_id": "e1",
        "event_type": "purchase",
        "user_id": "ann",
        "item_id": "i1",
        "session_id": "s1",
        "request_id": "r1",
        "position": 3,
        "event_at": "2026-03-01T11:30:00.000000+00:00",
        "value": 9.5,
        "context": '{"device": "app"}',
        "bundle": None,
        "source": None,
        "propensity": None,
        "arms": None,
    }
    from features.schema import EVENTS

    assert set(stored) | {"seen_at"} == set(EVENTS.names)


def test_an_event_without_a_time_happened_now(shop, client):
    post(client, EVENT, **{"X-Simulated-Now": "2026-03-02T08:00:00Z"})
    (stored,) = shop.logged("events")
    assert stored["event_at"] == stored["seen_at"]
    assert stored["event_at"].startswith("2026-03-02T08:00:")


def test_one_bad_event_keeps_the_others_out_too(shop, client):
    bad = {"events": [EVENT, EVENT | {"event_at": "2026-03-01T12:30:00Z"}]}
    assert post(client, bad).json()["detail"][0]["field"] == "events.1.event_at"
    assert shop.logged("events") == []


def test_a_clock_that_is_a_little_fast_is_forgiven():
    assert record(event(event_at=NOW + timedelta(minutes=5)), NOW)
    with pytest.raises(Refusal, match="more than 5 minutes in the future"):
        record(event(event_at=NOW + timedelta(minutes=5, microseconds=1)), NOW)


def test_a_log_that_fails_is_a_503_that_asks_to_send_again(door, log, monkeypatch):
    def full(topic, records):
        raise OSError("disk full at /var/secret")

    monkeypatch.setattr(log, "append", full)
    door._log = log
    with pytest.raises(Refusal, match="not confirmed by the log; send them again") as refused:
        asyncio.run(door.accept(event(), NOW, None))
    assert refused.value.status == 503
    assert "secret" not in refused.value.message


def test_positives_teach_the_lower_rungs_and_other_events_do_not(door):
    north = {"location": "north"}
    batch = EventsIn(
        events=[
            event(event_id=f"{kind}{n}", event_type=kind, item_id=item_id, context=north)
            for kind, item_id in (("click", "i1"), ("view", "i2"))
            for n in range(40)
        ]
    )
    asyncio.run(door.accept(batch, NOW, None))
    assert door._fallback.in_context.item_ids(north) == ["i1"]


def test_records_are_json_as_they_are(door, log):
    asyncio.run(door.accept(event(user_id="käthe", item_id="日本"), NOW, None))
    stored = [r.value for p in range(2) for r in log.read("events", p, 0, 9)]
    assert [(value["user_id"], value["item_id"]) for value in stored] == [("käthe", "日本")]
    assert json.loads(stored[0]["context"]) == {}
