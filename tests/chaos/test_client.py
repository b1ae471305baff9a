"""What counts as a broken promise; the faults themselves need the running stack."""

import asyncio
import copy

from aiohttp import web

from infra.local.process import free_port
from tests.chaos.client import Client, summary
from tests.chaos.compose import violations

FINE = {
    "phases": {"kafka": {"errors_5xx": 0, "unanswered": 0}},
    "log": {"missing": 0},
    "recount": {"users": 3, "wrong": 0, "missing": 0},
    "after_flush": {
        "client": {"errors_5xx": 0, "unanswered": 0},
        "recount": {"users": 3, "wrong": 0, "missing": 0},
    },
}


def test_each_promise_can_be_broken():
    assert violations(FINE) == []
    for path in (
        ("phases", "kafka", "errors_5xx"), ("phases", "kafka", "unanswered"), ("log", "missing"),
        ("recount", "wrong"), ("recount", "missing"), ("after_flush", "client", "errors_5xx"),
        ("after_flush", "recount", "wrong"),
    ):  # fmt: skip
        metrics = copy.deepcopy(FINE)
        inner = metrics
        for key in path[:-1]:
            inner = inner[key]
        inner[path[-1]] = 1
        assert len(violations(metrics)) == 1, path


def test_a_recount_of_nobody_proves_nothing():
    assert violations(FINE | {"recount": {"users": 0, "wrong": 0, "missing": 0}})


def test_the_client_keeps_its_pace_while_the_server_stands_still():
    async def scene():
        stalled = asyncio.Event()

        async def answer(request):
            await stalled.wait()
            return web.json_response({"items": [], "request_id": "r", "rung": 4})

        app, port = web.Application(), free_port()
        app.router.add_post("/v1/recommendations", answer)
        runner = web.AppRunner(app)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", port).start()
        client, stop = Client(f"http://127.0.0.1:{port}", ["ann"], 50, seed=0), asyncio.Event()
        running = asyncio.create_task(client.run(stop))
        await asyncio.sleep(1)
        stop.set()
        stalled.set()
        await running
        await runner.cleanup()
        return client

    client = asyncio.run(scene())
    told = summary(client.answers)
    # Closed loop, one request would have been sent, and its wait counted once.
    assert told["requests"] > 10
    assert told["rungs"] == {"4": told["requests"]}
    # Each waited from its own moment on: the first for the whole second, the last hardly at all.
    waits = [a.seconds for a in sorted(client.answers, key=lambda a: a.at_s)]
    assert waits[0] > waits[len(waits) // 2] > waits[-1]
