"""The API on a real Redis that is killed, silent, and started again: lists all the way."""

import socket

import httpx
import pytest

from features.repo.views import feast_objects
from infra.clients import open_feast
from tests.serving.conftest import running, runtime, until
from tests.serving.processes import served


@pytest.fixture
def redis_shop(shop, own_redis):
    """The shop with its online rows in Redis."""
    shop = shop.with_settings(mode="services", redis=own_redis.services.redis)
    open_feast(shop.workspace).apply(feast_objects(shop.workspace.offline))
    shop.remember("ann", ["i5", "i3"])
    return shop


def ask(client: httpx.Client, **more) -> dict:
    answer = client.post("/v1/recommendations", json={"user_id": "ann", **more})
    assert answer.status_code == 200
    return answer.json()


def test_redis_killed_under_the_api_costs_features_and_no_answer(redis_shop, own_redis):
    with (
        served(redis_shop) as (address, child),
        httpx.Client(base_url=address, timeout=10.0) as client,
    ):
        whole = ask(client)
        assert (whole["rung"], whole["degraded"]) == (0, [])
        own_redis.kill()
        for _ in range(20):
            answer = ask(client)
            assert (answer["rung"], answer["degraded"]) == (2, ["features"])
            assert answer["reasons"] == ["features: the store failed (ConnectionError)"]
            assert len(answer["items"]) == len(whole["items"])
        person = client.get("/v1/users/ann")
        assert (person.status_code, person.headers["retry-after"]) == (503, "1")
        own_redis.start()
        until(lambda: ask(client)["rung"] == 0, timeout_s=30)
        assert [i["item_id"] for i in ask(client)["items"]] == [
            i["item_id"] for i in whole["items"]
        ]
        assert child.poll() is None


def test_the_api_starts_without_redis_and_takes_it_when_it_is_there(redis_shop, own_redis):
    own_redis.kill()
    with running(redis_shop) as client:
        assert client.get("/readyz").json()["features"] is True  # open, and not asked yet
        answer = ask(client)
        assert (answer["rung"], answer["degraded"]) == (4, ["features"])
        own_redis.start()
        until(lambda: ask(client)["rung"] == 0, timeout_s=30)


def test_a_silent_redis_costs_its_slice_and_no_more(redis_shop):
    with socket.socket() as hole:
        hole.bind(("127.0.0.1", 0))
        hole.listen(64)
        silent = redis_shop.with_settings(
            redis=f"127.0.0.1:{hole.getsockname()[1]}", features_timeout_ms=40
        )
        with running(silent) as client:
            pool = runtime(client).reader._pool
            for _ in range(5):
                answer = client.post("/v1/recommendations", json={"user_id": "ann"})
                assert (answer.status_code, answer.json()["rung"]) == (200, 4)
                assert answer.json()["degraded"] == ["features"]
            until(lambda: pool._taken == 0, timeout_s=10)  # no thread stays behind
