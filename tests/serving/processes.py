"""The API and the stream worker in processes of their own."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import httpx

from tests.serving.conftest import Shop, until


def free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return int(listening.getsockname()[1])


def environment(shop: Shop, **more: str) -> dict[str, str]:
    assert shop.settings.clock_start is not None
    return {
        **os.environ,
        "SHORTLIST_HOME": str(shop.settings.home),
        "SHORTLIST_DATASET": shop.settings.dataset,
        "SHORTLIST_CLOCK": "simulated",
        "SHORTLIST_CLOCK_START": shop.settings.clock_start.isoformat(),
        "SHORTLIST_DEADLINE_MS": "1000",
        "SHORTLIST_FEATURES_TIMEOUT_MS": "1000",
        "SHORTLIST_MODE": shop.settings.mode,
        "SHORTLIST_REDIS": shop.settings.redis,
        "OMP_NUM_THREADS": "1",
        **more,
    }


@contextmanager
def served(
    shop: Shop, *, ready: bool = True, **more: str
) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """The address and the process, with `more` settings; killed at the end if it still runs."""
    port = free_port()
    command = [
        "uvicorn",
        "serving.app:create_app",
        "--factory",
        "--port",
        str(port),
        "--no-access-log",
    ]
    child = subprocess.Popen([sys.executable, "-m", *command], env=environment(shop, **more))
    address = f"http://127.0.0.1:{port}"
    try:
        # Seconds of imports, which a busy machine stretches; how long is test_process.py's subject.
        until(lambda: answers(f"{address}/{'readyz' if ready else 'healthz'}", child), 200.0)
        yield address, child
    finally:
        child.kill()
        child.wait()


def answers(url: str, child: subprocess.Popen[bytes]) -> bool:
    assert child.poll() is None, "the API ended before it was ready"
    try:
        return httpx.get(url, timeout=1.0).status_code == 200
    except httpx.HTTPError:
        return False


@contextmanager
def streaming(shop: Shop) -> Iterator[None]:
    """The stream worker; killed at the end."""
    child = subprocess.Popen([sys.executable, "-m", "pipelines.stream"], env=environment(shop))
    try:
        yield
    finally:
        child.kill()
        child.wait()
