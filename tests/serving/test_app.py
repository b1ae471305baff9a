from dataclasses import replace

import numpy as np
import pytest

from features.definitions import FEATURE_NAMES
from serving.schemas import SlateOut
from tests.serving.conftest import LATER, running, runtime, shop_parts, until
from tests.worlds import tiny_parts


def recommend(client, user_id="ann", **more):
    return client.post("/v1/recommendations", json={"user_id": user_id, **more})


def test_a_known_user_gets_the_full_funnel(client):
    answer = recommend(client, k=7)
    assert answer.status_code == 200
    slate = SlateOut.model_validate(answer.json(), strict=True)  # refuses unknown fields
    assert (slate.rung, slate.degraded, slate.reasons) == (0, [], [])
    assert [item.position for item in slate.items] == [1, 2, 3, 4, 5, 6, 7]
    assert len({item.item_id for item in slate.items}) == 7
    assert {"features", "state", "retrieve", "rank", "rerank", "total"} == set(slate.timings_ms)
    assert f"total;dur={slate.timings_ms['total']}" in answer.headers["server-timing"]
    assert any(item.source != "popular" for item in slate.items)
    # Either of the two items in the history explains what is personal.
    because = {item.reason for item in slate.items if item.source == "two_tower"}
    assert because <= {
        "Because you chose Item 5",
        "Because you chose Item 3",
        "You chose this before",
    }
    assert because


def test_an_unknown_user_gets_a_healthy_list(client):
    slate = recommend(client, "never-seen-before").json()
    assert (slate["rung"], slate["degraded"]) == (0, [])
    assert {item["source"] for item in slate["items"]} == {"popular"}
    assert {item["reason"] for item in slate["items"]} == {"Popular now"}
    assert len(slate["items"]) == 10


def test_one_more_choice_changes_the_next_list(shop, client):
    before = [item["item_id"] for item in recommend(client).json()["items"]]
    shop.remember("ann", ["i5", "i3", "i40"], at=LATER)
    after = [item["item_id"] for item in recommend(client).json()["items"]]
    assert before != after


def test_a_list_longer_than_the_catalogue_is_the_catalogue(client):
    items = recommend(client, k=100).json()["items"]
    assert len(items) == len({item["item_id"] for item in items}) == 60


def test_scores_fall_from_place_to_place_on_the_popular_list(client):
    items = recommend(client, arm="popular", k=5).json()["items"]
    popular = runtime(client).bundle().popular
    assert [item["item_id"] for item in items] == [f"i{ix}" for ix in popular[:5]]
    assert [item["score"] for item in items] == [1, 0.5, 0.333333, 0.25, 0.2]


def test_users_keep_their_arm_and_the_slate_names_it(shop):
    with running(shop.with_settings(experiment="demo")) as client:
        arms = {}
        for n in range(20):
            slates = [recommend(client, f"u{n}").json() for _ in range(2)]
            assert slates[0]["arms"] == slates[1]["arms"]
            arms[f"u{n}"] = slates[0]["arms"]["demo"]
            if arms[f"u{n}"] == "popular":
                assert {item["source"] for item in slates[0]["items"]} == {"popular"}
        assert set(arms.values()) == {"full", "popular"}
        # A look names its arm itself and takes part in no experiment.
        assert recommend(client, "u0", arm="full").json()["arms"] == {}


def test_a_visit_is_logged_as_shown_with_the_features_the_model_read(shop):
    with running(shop) as client:
        slate = recommend(client, k=3, context={"device": "app", "location": "north"}).json()
        recommend(client, k=3, arm="full")  # a look leaves no trace
    shown = sorted(shop.logged("events"), key=lambda event: event["position"])
    assert [event["event_id"] for event in shown] == [
        f"{slate['request_id']}:{n}" for n in (1, 2, 3)
    ]
    assert [event["item_id"] for event in shown] == [item["item_id"] for item in slate["items"]]
    first = shown[0]
    assert first["event_type"] == "impression"
    assert first["context"] == '{"device": "app", "location": "north"}'
    assert first["arms"] == "{}"
    assert (first["bundle"], first["source"]) == (slate["bundle"], slate["items"][0]["source"])
    assert first["propensity"] is None
    (served,) = shop.logged("served")
    assert served["request_id"] == slate["request_id"]
    features = np.array(served["features"])
    assert features.shape == (3, len(FEATURE_NAMES))
    assert (features[:, FEATURE_NAMES.index("device")] == 0).all()  # "app" is code 0
    assert served["scores"] == pytest.approx([item["score"] for item in slate["items"]], abs=1e-6)


def test_without_a_bundle_events_are_taken_and_lists_are_not(empty_shop):
    with running(empty_shop, wait=False) as client:
        assert client.get("/healthz").json() == {"status": "ok"}
        until(lambda: runtime(client).started)
        ready = client.get("/readyz")
        assert ready.status_code == 503
        assert "no bundle has been promoted yet" in ready.json()["reasons"][0]
        refused = recommend(client)
        assert refused.status_code == 503
        assert refused.json()["detail"][0]["field"] == "bundle"
        assert "shortlist promote" in refused.json()["detail"][0]["message"]
        event = {"event_id": "e", "event_type": "view", "user_id": "ann", "item_id": "i1"}
        assert client.post("/v1/events", json=event).status_code == 202


def test_without_applied_views_the_popular_list_answers(empty_shop):
    empty_shop.promote()
    with running(empty_shop) as client:
        slate = recommend(client).json()
        assert (slate["rung"], slate["degraded"]) == (4, ["features"])
        assert slate["reasons"] == ["features: the store failed (OperationalError)"]  # no table


def test_readyz_tells_a_trained_bundle_from_a_popular_list(shop):
    with running(shop) as client:
        assert client.get("/readyz").json()["trained"]
        assert client.get("/readyz").json()["mode"] == "embedded"
        shop.promote(replace(shop_parts(), ranker=None, tower=None, item_vectors=None))
        until(lambda: not client.get("/readyz").json()["trained"])
        assert client.get("/readyz").json()["ready"]


def test_similar_items_are_near_and_not_the_item_itself(client):
    answer = client.get("/v1/items/i7/similar?k=4").json()
    vectors = tiny_parts().item_vectors
    nearest = np.argsort(-(vectors @ vectors[7]))[1:5]
    assert [item["item_id"] for item in answer["items"]] == [f"i{ix}" for ix in nearest]
    assert answer["item"]["title"] == "Item 7"
    assert {item["reason"] for item in answer["items"]} == {"Like Item 7"}


def test_an_unknown_item_is_a_404_that_names_the_field(client):
    answer = client.get("/v1/items/a/b%20c/similar")
    assert answer.status_code == 404
    assert answer.json() == {
        "detail": [{"field": "item_id", "message": "not among the 60 items of the bundle"}]
    }


def test_sample_users_come_with_what_they_chose_lately(shop, client):
    shop.remember("u1", ["i9", "i4", "i9"])
    answer = client.get("/v1/users?limit=2").json()
    assert answer["dataset"] == "tiny"
    assert answer["positive_types"] == ["click", "cart", "purchase", "rating"]
    assert answer["users"] == [
        {"user_id": "u0", "likes": [], "recent": []},
        {"user_id": "u1", "likes": [], "recent": ["Item 9", "Item 4"]},
    ]


def test_metrics_tell_rungs_events_and_the_bundle(client):
    bundle_id = recommend(client).json()["bundle"]
    client.post("/v1/recommendations", json={"user_id": "ann", "k": 0})
    event = {"event_id": "e", "event_type": "click", "user_id": "ann", "item_id": "i1"}
    client.post("/v1/events", json=event)
    text = client.get("/metrics").text
    assert 'shortlist_recommendations_total{arm="full",rung="0"} 1.0' in text
    assert 'shortlist_events_accepted_total{type="click"} 1.0' in text
    assert 'shortlist_refused_requests_total{status="422"} 1.0' in text
    assert f'shortlist_bundle_info{{dataset="tiny",id="{bundle_id}"}} 1.0' in text
    assert 'shortlist_stage_seconds_count{stage="rank"} 1.0' in text
    assert 'shortlist_missing_views_total{view="user_daily"} 1.0' in text
    assert "shortlist_outbox_depth" in text


def test_the_callers_deadline_is_taken_and_bounded(client):
    asked = {"user_id": "ann"}
    fast = client.post("/v1/recommendations", json=asked, headers={"X-Deadline-Ms": "1000"})
    assert fast.json()["rung"] == 0
    for wrong in ("0", "1001", "soon"):
        answer = client.post("/v1/recommendations", json=asked, headers={"X-Deadline-Ms": wrong})
        assert answer.status_code == 422
        assert answer.json()["detail"][0]["field"] == "X-Deadline-Ms"
