import asyncio

import pytest
from fastapi import FastAPI, Request
from fastapi.testclient import TestClient

from monitoring.metrics import Metrics
from serving import gate
from serving.gate import MAX_BODY_BYTES, Gate
from serving.refusals import install


def app_on(host: str) -> FastAPI:
    app = FastAPI()
    install(app)
    app.add_middleware(Gate, metrics=Metrics(), host=host)

    @app.post("/length")
    async def length(request: Request) -> int:
        return len(await request.body())

    @app.get("/")
    async def root() -> str:
        return "here"

    return app


@pytest.fixture
def client():
    return TestClient(app_on("127.0.0.1"), base_url="http://localhost:8000")


def problem(answer) -> tuple[int, str]:
    return answer.status_code, answer.json()["detail"][0]["field"]


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "localhost@evil", ""])
def test_a_foreign_host_name_is_refused_on_loopback(client, host):
    assert problem(client.get("/", headers={"Host": host})) == (400, "host")


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:80", "127.0.0.1:8000", "[::1]:8000"])
def test_the_names_of_this_machine_are_let_in(client, host):
    assert client.get("/", headers={"Host": host}).json() == "here"


def test_an_api_opened_to_a_network_answers_to_any_name():
    opened = TestClient(app_on("0.0.0.0"), base_url="http://api:8000")
    assert opened.get("/").json() == "here"


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", None])
def test_only_json_is_posted(client, kind):
    headers = {"Content-Type": kind} if kind else {}
    assert problem(client.post("/length", content=b"{}", headers=headers)) == (415, "content-type")


def test_a_post_without_a_body_needs_no_type(client):
    assert client.post("/length").json() == 0


def json_post(client, content):
    return client.post(
        "/length", content=content, headers={"Content-Type": "application/json; charset=utf-8"}
    )


def test_a_body_of_exactly_the_limit_passes_and_one_byte_more_does_not(client):
    assert json_post(client, b"x" * MAX_BODY_BYTES).json() == MAX_BODY_BYTES
    assert problem(json_post(client, b"x" * (MAX_BODY_BYTES + 1))) == (413, "body")


def test_a_chunked_body_is_cut_off_where_it_grows_too_long(client):
    sent = []

    def chunks():
        for _ in range(100):
            sent.append(1)
            yield b"x" * 10_000

    assert problem(json_post(client, chunks())) == (413, "body")


def test_a_body_that_stops_coming_is_not_waited_for(monkeypatch):
    monkeypatch.setattr(gate, "BODY_TIMEOUT_S", 0.02)
    sent = []

    async def never():
        await asyncio.sleep(30)

    async def send(message):
        sent.append(message)

    headers = [(b"host", b"localhost"), (b"content-type", b"application/json")]
    scope = {"type": "http", "method": "POST", "path": "/length", "headers": headers}
    asyncio.run(Gate(app_on("127.0.0.1"), metrics=Metrics(), host="127.0.0.1")(scope, never, send))
    assert sent[0]["status"] == 408


def test_every_answer_forbids_foreign_scripts(client):
    for answer in (client.get("/"), client.get("/none"), client.get("/", headers={"Host": "x"})):
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "script-src 'self'" in policy
        assert "unsafe" not in policy
        assert answer.headers["x-content-type-options"] == "nosniff"
