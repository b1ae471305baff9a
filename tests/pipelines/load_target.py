"""A small API with a fault, in a process of its own: python -m tests.pipelines.load_target PORT FAULT"""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from aiohttp import web

from infra.local.process import child, free_port, wait_for_port

STALL_S = 1.0
STALL_AT = 100
"""The read at which everything stands still, for everybody: the event loop itself sleeps."""

FAIL_EVERY = 5


def target(fault: str) -> web.Application:
    reads = 0

    async def recommendations(request: web.Request) -> web.Response:
        nonlocal reads
        reads += 1
        user_id = (await request.json())["user_id"]
        if fault == "stall" and reads == STALL_AT:
            time.sleep(STALL_S)
        if fault == "fails" and reads % FAIL_EVERY == 0:
            return web.Response(status=500)
        if fault == "redirects":
            return web.HTTPFound("http://192.0.2.1/elsewhere")
        if fault == "nonsense":
            return web.Response(text="<html>hello</html>")
        slate = {
            "request_id": f"r{reads}",
            "rung": 0 if user_id.startswith("u") else 4,
            "items": [{"item_id": f"i{place}"} for place in range(10)],
        }
        timing = {"Server-Timing": "features;dur=1.5, rank;dur=2.25, total;dur=4.0"}
        return web.json_response(slate, headers=timing)

    events: list[dict] = []

    async def post_events(request: web.Request) -> web.Response:
        events.append(await request.json())
        return web.json_response({"accepted": 1}, status=202)

    async def seen(_: web.Request) -> web.Response:
        return web.json_response(events)

    async def users(_: web.Request) -> web.Response:
        return web.json_response({"users": [{"user_id": f"u{n}"} for n in range(30)]})

    app = web.Application()
    app.router.add_post("/v1/recommendations", recommendations)
    app.router.add_post("/v1/events", post_events)
    app.router.add_get("/v1/users", users)
    app.router.add_get("/seen", seen)
    return app


@contextmanager
def running_target(folder: Path, fault: str = "none") -> Iterator[str]:
    """Its address; stopped at the end."""
    port, log = free_port(), folder / "target.log"
    command = [sys.executable, "-m", "tests.pipelines.load_target", str(port), fault]
    with child(command, log) as process:
        wait_for_port("127.0.0.1", port, process, log, 60.0)
        yield f"http://127.0.0.1:{port}"


if __name__ == "__main__":
    web.run_app(target(sys.argv[2]), host="127.0.0.1", port=int(sys.argv[1]), print=None)
