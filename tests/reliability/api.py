"""The API under a steady client, in a process of its own or in a thread of this one."""

import asyncio
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import httpx
import uvicorn

from infra.local.process import free_port
from serving.app import create_app
from tests.chaos.client import Client, summary
from tests.serving.conftest import Shop, until
from tests.serving.processes import served

RATE = 30.0
"""Requests a second: enough to meet every moment of a fault, and no load test."""


@contextmanager
def api(shop: Shop, *, own_process: bool, **environment: str) -> Iterator[str]:
    """The address of a running API; one that died meanwhile is an error.

    Args:
        shop: its settings and workspace.
        own_process: as it runs in earnest; else in a thread, which saves the seconds of imports.
        environment: of the process.
    """
    if own_process:
        with served(shop, **environment) as (address, child):
            yield address
            assert child.poll() is None, "the API died"
        return
    config = uvicorn.Config(
        create_app(shop.settings), port=free_port(), log_level="error", access_log=False
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    address = f"http://127.0.0.1:{config.port}"
    try:
        until(lambda: _is_ready(address), timeout_s=120)
        yield address
        assert thread.is_alive(), "the API died"
    finally:
        server.should_exit = True
        thread.join(30)


@contextmanager
def asking(address: str, users: Sequence[str], seed: int, rate: float = RATE) -> Iterator[Client]:
    """A client that asks all the while; afterwards it holds every answer."""
    client = Client(address, users, rate, seed)
    loop, stop = asyncio.new_event_loop(), asyncio.Event()
    thread = threading.Thread(target=lambda: loop.run_until_complete(client.run(stop)))
    thread.start()
    try:
        yield client
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(60)
        loop.close()


def told(clients: Sequence[Client]) -> dict:
    """What all of them saw together: requests, errors_5xx, unanswered, rung_max and rungs."""
    answers = [answer for client in clients for answer in client.answers]
    found = summary(answers)
    return {
        "requests": found["requests"],
        "errors_5xx": found["errors_5xx"],
        "unanswered": found["unanswered"],
        "rung_max": max((int(rung) for rung in found["rungs"]), default=None),
        "rungs": found["rungs"],
    }


def rung(address: str, user_id: str = "ann") -> int:
    """The rung that answers now."""
    answer = httpx.post(f"{address}/v1/recommendations", json={"user_id": user_id}, timeout=10)
    assert answer.status_code == 200, answer.text
    return int(answer.json()["rung"])


def _is_ready(address: str) -> bool:
    try:
        return httpx.get(f"{address}/readyz", timeout=1.0).status_code == 200
    except httpx.HTTPError:
        return False
