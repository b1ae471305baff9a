import json

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from serving.refusals import install
from tests.serving.conftest import running

ASK = {"user_id": "ann"}
EVENT = {"event_id": "e1", "event_type": "click", "user_id": "ann", "item_id": "i1"}


@pytest.fixture(scope="module")
def client(furnished, tmp_path_factory):
    """One app for all refusals: none of them may change anything."""
    import shutil

    from tests.serving.conftest import Shop, settings_of

    home = tmp_path_factory.mktemp("refusals") / "home"
    shutil.copytree(furnished, home)
    with running(Shop(settings_of(home))) as opened:
        yield opened


def post(client, path, body):
    text = body if isinstance(body, str | bytes) else json.dumps(body)
    return client.post(path, content=text, headers={"Content-Type": "application/json"})


@pytest.mark.parametrize(
    ("body", "field", "said"),
    [
        ({}, "user_id", "Field required"),
        ({"user_id": 7}, "user_id", "valid string"),
        ({"user_id": ""}, "user_id", "at least 1"),
        ({"user_id": "x" * 129}, "user_id", "at most 128"),
        ({"user_id": "a\nb"}, "user_id", "match pattern"),
        ('{"user_id": "\\ud800"}', "user_id", "valid string"),
        (ASK | {"k": 0}, "k", "greater than or equal to 1"),
        (ASK | {"k": 10_000}, "k", "less than or equal to 100"),
        (ASK | {"k": "ten"}, "k", "valid integer"),
        (ASK | {"k": "10"}, "k", "valid integer"),
        (ASK | {"k": 1.5}, "k", "valid integer"),
        (ASK | {"k": True}, "k", "valid integer"),
        ('{"user_id": "ann", "k": NaN}', "k", "valid integer"),
        ('{"user_id": "ann", "k": -Infinity}', "k", "valid integer"),
        (ASK | {"q": 1}, "q", "Extra inputs are not permitted"),
        (ASK | {"": 1}, '""', "Extra inputs are not permitted"),
        ('{"user_id": "ann", "\\ud800": 1}', "body", "valid string"),
        (ASK | {"arm": "best"}, "arm", "'full' or 'popular'"),
        (ASK | {"context": {"mood": "good"}}, "context.mood", "Extra inputs"),
        (ASK | {"context": {"device": "x" * 500}}, "context.device", "at most 128"),
        (ASK | {"context": []}, "context", "valid dictionary"),
        ([], "body", "valid dictionary"),
        ("null", "body", "valid dictionary"),
        ("", "body", "Field required"),
        ("{", "body", "JSON decode error"),
        (b"\xff\xfe", "body", "JSON decode error"),
        ("[" * 20_000, "body", "error parsing the body"),
        ('{"user_id": "ann", "k": ' + "9" * 6000 + "}", "body", "error parsing the body"),
    ],
)
def test_a_wrong_question_is_refused_by_field(client, body, field, said):
    answer = post(client, "/v1/recommendations", body)
    assert 400 <= answer.status_code < 500
    problem = answer.json()["detail"][0]
    assert problem["field"] == field
    assert said in problem["message"]


@pytest.mark.parametrize(
    ("body", "field", "said"),
    [
        ({}, "event_id", "Field required"),
        (EVENT | {"event_type": "impression"}, "event_type", "written by the server"),
        (EVENT | {"event_type": "like"}, "event_type", "expected one of view, click, cart"),
        (EVENT | {"item_id": None}, "item_id", "valid string"),
        (EVENT | {"position": 0}, "position", "greater than or equal to 1"),
        (EVENT | {"value": -1}, "value", "greater than or equal to 0"),
        (json.dumps(EVENT)[:-1] + ', "value": NaN}', "value", "finite number"),
        (EVENT | {"value": "5"}, "value", "valid number"),
        (EVENT | {"event_at": "yesterday"}, "event_at", "valid datetime"),
        (EVENT | {"event_at": "2026-03-01T12:00:00"}, "event_at", "timezone"),
        (EVENT | {"event_at": "2026-03-01T12:05:30Z"}, "event_at", "5 minutes in the future"),
        (EVENT | {"event_at": "0001-01-01T00:00:00+14:00"}, "event_at", "is a clock unset"),
        (EVENT | {"event_at": "9999-12-31T23:59:59-14:00"}, "event_at", "is a clock unset"),
        (EVENT | {"propensity": 0.1}, "propensity", "Extra inputs"),
        (EVENT | {"one event": 1}, "body", "Extra inputs"),
        ({"events": []}, "events", "at least 1 item"),
        ({"events": [EVENT] * 501}, "events", "at most 500"),
        ({"events": [EVENT, EVENT | {"user_id": ""}]}, "events.1.user_id", "at least 1"),
        (
            {"events": [EVENT, EVENT | {"event_at": "2027-01-01T00:00:00Z"}]},
            "events.1.event_at",
            "in the future",
        ),
        ({"events": [EVENT], "more": 1}, "more", "Extra inputs"),
        ({"events": "many"}, "events", "valid list"),
        ([EVENT], "body", "valid dictionary"),
    ],
)
def test_a_wrong_event_is_refused_by_field(client, body, field, said):
    answer = post(client, "/v1/events", body)
    assert answer.status_code == 422
    problem = answer.json()["detail"][0]
    assert problem["field"] == field
    assert said in problem["message"]


def test_a_megabyte_id_is_refused_without_being_repeated(client):
    answer = post(client, "/v1/recommendations", {"user_id": "x" * 1_000_000})
    assert answer.status_code == 413
    assert answer.json()["detail"][0]["field"] == "user_id"
    assert len(answer.content) < 500


def test_a_long_unknown_field_is_named_only_at_its_start(client):
    answer = post(client, "/v1/recommendations", ASK | {"y" * 50_000: 1})
    assert answer.json()["detail"][0]["field"] == "y" * 80
    assert len(answer.content) < 500


def test_unknown_paths_and_methods_are_json_too(client):
    assert client.get("/v2/nothing").json() == {
        "detail": [{"field": "path", "message": "Not Found"}]
    }
    answer = client.get("/v1/recommendations")
    assert (answer.status_code, answer.json()["detail"][0]["field"]) == (405, "method")
    answer = client.get("/v1/items/i1/similar?k=0")
    assert (answer.status_code, answer.json()["detail"][0]["field"]) == (422, "k")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=8,
)
NAMES = st.sampled_from(["user_id", "k", "context", "arm", "event_id", "event_type", "item_id",
                         "event_at", "value", "position", "events", "device"])  # fmt: skip


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    path=st.sampled_from(["/v1/recommendations", "/v1/events"]),
    body=st.dictionaries(NAMES | st.text(max_size=3), JSON | st.sampled_from(["ann", "click"])),
)
def test_no_json_whatsoever_is_a_server_error(client, path, body):
    # json.dumps writes NaN and lone surrogates happily, as careless clients do.
    answer = post(client, path, json.dumps(body))
    assert answer.status_code in (200, 202) or 400 <= answer.status_code < 500
    if answer.status_code >= 400:
        assert all(problem["field"] for problem in answer.json()["detail"])


def test_our_own_mistake_is_a_500_without_its_text():
    app = FastAPI()
    install(app)

    @app.get("/")
    async def fail() -> None:
        raise RuntimeError("secret path /home/ann")

    answer = TestClient(app, raise_server_exceptions=False).get("/")
    assert answer.status_code == 500
    assert answer.json()["detail"][0]["message"] == "our mistake; it is in the log"
