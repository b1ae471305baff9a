"""Real servers for tests: one of each per test process, started when first asked for.

`pytest_plugins` in tests/conftest.py makes the fixtures known everywhere. Where a server cannot run
the test is skipped and says which one was absent, and why.
"""

import subprocess
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import pytest

from infra.event_log import EventLog, SqliteEventLog
from infra.kafka_log import KafkaEventLog
from infra.local import kafka, mlflow, redis
from infra.local.kafka import Absent
from infra.local.process import child, free_port, wait_for_port
from infra.workspace import Services, Workspace

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
        self.folder, self._port = folder, free_port()
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


@pytest.fixture(scope="session")
def mlflow_address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """http://host:port of a real MLflow server; its first start takes a quarter of a minute."""
    with mlflow.server(tmp_path_factory.mktemp("mlflow")) as address:
        yield address
