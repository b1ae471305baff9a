"""Real servers for tests: one broker and one Redis per test process, started when first asked for.

`pytest_plugins` in tests/conftest.py makes the fixtures known everywhere. Where a server cannot run
the test is skipped and says which one was absent, and why.
"""

from collections.abc import Iterator

import pytest

from infra.local import kafka, redis
from infra.local.kafka import Absent


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
