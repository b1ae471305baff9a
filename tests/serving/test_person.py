"""What is known about one user, over HTTP."""

from datetime import datetime, timedelta

import pytest
import structlog

from features.definitions import of_view
from features.errors import FeaturesUnavailable
from infra.workspace import Workspace
from serving.current import StoreReader
from serving.schemas import PersonOut
from tests.serving.conftest import LATER, NOW, running, runtime


def test_features_history_and_ages_are_those_of_now(shop, client):
    answer = client.get("/v1/users/ann", headers={"X-Simulated-Now": LATER.isoformat()})
    assert answer.status_code == 200
    body = answer.json()
    PersonOut.model_validate_json(answer.text)  # refuses unknown fields
    assert (body["user_id"], body["bundle"]) == ("ann", runtime(client).bundle().id)
    assert set(body["features"]) == {"user_daily", "user_stream"}
    for view, values in body["features"].items():
        assert list(values) == [f.name for f in of_view(view)]
    assert body["features"]["user_stream"]["session_events"] == 2
    assert isinstance(body["features"]["user_stream"]["session_events"], int)
    assert [(past["item_id"], past["title"]) for past in body["history"]] == [
        ("i3", "Item 3"),
        ("i5", "Item 5"),
    ]
    assert [past["age_s"] for past in body["history"]] == pytest.approx([61.0, 62.0], abs=30)
    assert datetime.fromisoformat(body["history"][0]["event_at"]) == NOW - timedelta(seconds=1)
    assert body["age_s"] == {"user_stream": pytest.approx(61.0, abs=30)}
    assert set(body["missing"]) == {"user_category_daily", "user_daily"}


def test_one_more_event_shows(shop, client):
    shop.remember("ann", ["i5", "i3", "i40"], at=LATER)
    body = client.get("/v1/users/ann", headers={"X-Simulated-Now": LATER.isoformat()}).json()
    assert body["history"][0]["item_id"] == "i40"
    assert body["features"]["user_stream"]["session_events"] == 3


def test_an_item_that_the_bundle_does_not_know_has_no_title(shop, client):
    shop.remember("ann", ["i5", "from elsewhere"], at=LATER)
    body = client.get("/v1/users/ann", headers={"X-Simulated-Now": LATER.isoformat()}).json()
    assert body["history"][0] | {"event_at": 0, "age_s": 0} == {
        "item_id": "from elsewhere", "title": None, "event_at": 0, "age_s": 0,
    }  # fmt: skip


def test_of_an_unknown_user_every_view_is_missing(client):
    body = client.get("/v1/users/a/b c").json()
    assert body["user_id"] == "a/b c"
    assert set(body["missing"]) == {"user_daily", "user_stream", "user_category_daily"}
    assert (body["history"], body["age_s"], body["categories"]) == ([], {}, {})
    defaults = {f.name: f.default for f in of_view("user_daily")}
    assert body["features"]["user_daily"] == defaults


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (FeaturesUnavailable("features: no answer within 250 ms"), "no answer within 250 ms"),
        (OSError("no route to 10.0.0.7"), r"features: the store failed (OSError)"),
    ],
)
def test_a_store_that_cannot_be_read_is_named(client, monkeypatch, error, message):
    def fail(*_):
        raise error

    store = runtime(client).reader.store
    monkeypatch.setattr(store, "read_user", fail)
    answer = client.get("/v1/users/ann")
    assert answer.status_code == 503
    (problem,) = answer.json()["detail"]
    assert problem["field"] == "features"
    assert message in problem["message"]
    assert "10.0.0.7" not in answer.text


def test_without_a_bundle_there_is_nothing_to_name_items_with(empty_shop):
    with running(empty_shop, wait=False) as client:
        answer = client.get("/v1/users/ann")
    assert (answer.status_code, answer.json()["detail"][0]["field"]) == (503, "bundle")


def test_an_id_that_cannot_be_one_is_refused(client):
    assert client.get(f"/v1/users/{'x' * 300}").status_code == 422


def test_it_is_described(client):
    told = client.get("/openapi.json").json()["paths"]["/v1/users/{user_id}"]["get"]["responses"]
    assert told["200"]["content"]["application/json"]["schema"]["$ref"].endswith("/PersonOut")
    assert "503" in told


def test_a_store_that_nobody_has_made_yet_is_waited_for_and_no_error(tmp_path):
    """As where the API may only read: it starts before who fills the store."""
    (tmp_path / "home").write_text("nothing can be made below a file")
    reader = StoreReader(Workspace(tmp_path / "home", "small"), timeout_ms=40)
    with structlog.testing.capture_logs() as lines:
        reader.open()
    assert (reader.reason, lines) == ("the feature store is not made yet", [])
    reader.close()
