"""Real servers for tests: one broker and one Redis per test process, started when first asked for.

`pytest_plugins` in tests/conftest.py makes the fixtures known everywhere. Where a server cannot run
the test is skipped and says which one was absent, and why.
"""

import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import pytest

from infra.event_log import EventLog, SqliteEventLog
from infra.kafka_log import KafkaEventLog
from infra.local import kafka, redis
from infra.local.kafka import Absent
from infra.local.process import child, free_port, wait_for_port

OpenLog = Callable[..., EventLog]


@pytest.fixture(scope="session")
def kafka_address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """host:port of a real broker."""
    try:
        with kafka.broker(tmp_path_factory.mktemp("kafka")) as address:
            yield address
    except Absent as why:
        pytest.skip(f"absent backend: {why}")


@dataclass(frozen=True)
class LaterBroker:
    """A broker that is not there yet, may be started, and started again with what it had."""

    folder: Path
    port: int
    command: list[str]

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    @contextmanager
    def running(self) -> Iterator[subprocess.Popen[bytes]]:
        log = self.folder / "kafka.log"
        with child(self.command, log) as process:
            wait_for_port("127.0.0.1", self.port, process, log, kafka.START_SECONDS)
            yield process


@pytest.fixture
def later_broker(tmp_path: Path) -> LaterBroker:
    """An address where nothing listens, until the test starts the broker."""
    folder, port = tmp_path / "kafka", free_port()
    try:
        return LaterBroker(folder, port, kafka.prepare(folder, port, free_port(), 3))
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


@pytest.fixture(params=["sqlite", "kafka"])
def open_log(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[OpenLog]:
    """Opens this test's event log, once more at each call, on every backend that is present."""
    prefix = uuid4().hex
    with ExitStack() as stack:

        def opened(partitions: int = 3, name: str = "log") -> EventLog:
            log: EventLog = (
                SqliteEventLog(tmp_path / f"{name}.sqlite", partitions)
                if request.param == "sqlite"
                else KafkaEventLog(
                    request.getfixturevalue("kafka_address"), f"{prefix}-{name}", partitions
                )
            )
            return stack.enter_context(closing(log))

        yield opened
