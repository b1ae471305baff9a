"""Real servers for tests: one broker and one Redis per test process, started when first asked for.

`pytest_plugins` in tests/conftest.py makes the fixtures known everywhere. Where a server cannot run
the test is skipped and says which one was absent, and why.
"""

import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from infra.local import kafka, redis
from infra.local.kafka import Absent
from infra.workspace import Services, Workspace


@pytest.fixture(scope="session")
def kafka_address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """host:port of a real broker."""
    try:
        with kafka.broker(tmp_path_factory.mktemp("kafka")) as address:
            yield address
    except Absent as why:
        pytest.skip(f"absent backend: {why}")


@pytest.fixture(scope="session")
def redis_address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """host:port of a real Redis."""
    try:
        with redis.server(tmp_path_factory.mktemp("redis")) as address:
            yield address
    except Absent as why:
        pytest.skip(f"absent backend: {why}")


@pytest.fixture(scope="session", params=["sqlite", "redis"])
def new_workspace(request: pytest.FixtureRequest) -> Callable[[Path], Workspace]:
    """Makes an empty workspace below a folder, on each online store in turn.

    All share one Redis, so each has a name of its own.
    """
    if request.param == "sqlite":
        return lambda home: Workspace(home, "small")
    services = Services("absent:1", request.getfixturevalue("redis_address"), "absent:1")
    return lambda home: Workspace(home, f"small-{uuid.uuid4().hex}", services)
