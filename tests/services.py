"""Real servers for tests: one broker and one Redis per test process, started when first asked for.

`pytest_plugins` in tests/conftest.py makes the fixtures known everywhere. Where a server cannot run
the test is skipped and says which one was absent, and why.
"""

from collections.abc import Callable, Iterator
from contextlib import closing, ExitStack
from pathlib import Path
from uuid import uuid4

import pytest

from infra.event_log import EventLog, SqliteEventLog
from infra.kafka_log import KafkaEventLog
from infra.local import kafka, redis
from infra.local.kafka import Absent

OpenLog = Callable[..., EventLog]


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
