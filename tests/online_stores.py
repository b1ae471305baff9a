"""Workspaces on every online store, and a Redis that a test may kill."""

import subprocess
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from infra.local import redis
from infra.local.kafka import Absent
from infra.local.process import free_port, wait_for_port
from infra.workspace import Services, Workspace


@pytest.fixture(scope="session", params=["sqlite", "redis"])
def new_workspace(request: pytest.FixtureRequest) -> Callable[[Path], Workspace]:
    """Makes an empty workspace below a folder, on each online store in turn.

    All share one Redis, so each has a name of its own.
    """
    if request.param == "sqlite":
        return lambda home: Workspace(home, "small")
    services = Services("absent:1", request.getfixturevalue("redis_address"), "absent:1")
    return lambda home: Workspace(home, f"small-{uuid.uuid4().hex}", services)


class OwnRedis:
    """A server that a test may kill, start again on the same port, and empty."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._port = folder, free_port()
        self._command = redis.command(folder, self._port)
        self._log = folder / "redis.log"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def services(self) -> Services:
        return Services("absent:1", f"127.0.0.1:{self._port}", "absent:1")

    def start(self) -> None:
        with self._log.open("ab") as out:
            self._process = subprocess.Popen(self._command, stdout=out, stderr=out)
        wait_for_port("127.0.0.1", self._port, self._process, self._log, redis.START_SECONDS)

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()


@pytest.fixture
def own_redis(tmp_path: Path) -> Iterator[OwnRedis]:
    """A Redis of the test's own, running."""
    try:
        server = OwnRedis(tmp_path / "redis")
    except Absent as why:
        pytest.skip(f"absent backend: {why}")
    server.start()
    yield server
    server.kill()
