"""The Redis client gives up in time, the newest row is kept, and data sets are told apart."""

import socket
import time
from pathlib import Path
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis import Redis
from redis.exceptions import AuthenticationError, RedisError

from infra import redis_store
from infra.clients import project_of
from infra.local.process import free_port
from infra.redis_store import clear, connect, write_newer
from infra.workspace import Services, Workspace

from feast.protos.feast.types.Value_pb2 import Value  # isort: skip  # after infra.clients

TIMEOUT_S = 0.04
PATIENCE_S = 1.0
"""Far above the limit, for busy machines, and far below what redis-py and Feast take by default."""


def services(address: str, password: Path | None = None) -> Services:
    return Services("absent:1", address, "absent:1", password)


@pytest.fixture
def black_hole():
    """Takes connections and never says a word."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(64)
        yield f"127.0.0.1:{listening.getsockname()[1]}"


@pytest.mark.parametrize("silent", [False, True], ids=["refused", "black hole"])
def test_a_read_fails_in_time_where_nobody_answers(silent, black_hole):
    client = connect(services(black_hole if silent else f"127.0.0.1:{free_port()}"), TIMEOUT_S)
    for _ in range(3):
        since = time.monotonic()
        with pytest.raises(RedisError):
            client.hmget("key", ["field"])
        assert time.monotonic() - since < PATIENCE_S


def test_what_the_library_does_by_itself_takes_longer():
    client = Redis(port=free_port(), socket_timeout=TIMEOUT_S)  # what Feast would make
    since = time.monotonic()
    with pytest.raises(RedisError):
        client.hmget("key", ["field"])
    assert time.monotonic() - since > PATIENCE_S


def test_the_password_is_read_from_its_file_at_every_connection(own_redis, tmp_path):
    address, file = own_redis.services.redis, tmp_path / "password"
    admin = connect(services(address), PATIENCE_S)
    admin.config_set("requirepass", "first")
    file.write_text("first\n")
    assert connect(services(address, file), PATIENCE_S).ping()
    client = connect(services(address, file), PATIENCE_S)
    file.write_text("second\n")
    with pytest.raises(AuthenticationError):
        client.ping()
    file.write_text("first\n")
    assert client.ping()
    file.unlink()
    client.connection_pool.disconnect()
    with pytest.raises(redis_store.AWAY):
        client.ping()


def version(number: int) -> bytes:
    return Value(int64_val=number).SerializeToString()


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 2**53)), max_size=30))
@settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_of_each_row_the_highest_version_is_kept(redis_address, writes):
    client, prefix = connect(services(redis_address), PATIENCE_S), uuid4().hex
    best: dict[bytes, int] = {}
    for row, number in writes:
        key = f"{prefix}{row}".encode()
        fields = {b"v": version(number), b"of": str(number).encode()}
        is_newer = key not in best or number > best[key]
        assert write_newer(client, b"v", [(key, number, fields)]) == is_newer
        best[key] = max(number, best.get(key, 0))
    for key, number in best.items():
        assert client.hget(key, "of") == str(number).encode()


def test_no_two_data_sets_share_a_project():
    names = ["a-b", "a.b", "a_b", "ab", "a_2db", "a"]
    projects = {project_of(Workspace(Path("home"), name)) for name in names}
    assert len(projects) == len(names)
    assert all(project.replace("_", "").isalnum() for project in projects)


def test_clearing_takes_one_data_sets_rows_only(redis_address):
    client = connect(services(redis_address), PATIENCE_S)
    for project in ("shortlist_mine", "shortlist_mine2", "shortlist_not_5fmine"):
        for number in range(3):
            client.hset(f"clear-{number}-{project}", "field", "value")
    clear(client, "shortlist_mine")
    left = sorted(key.decode() for key in client.scan_iter("clear-*"))
    assert left == sorted(
        f"clear-{number}-{project}"
        for project in ("shortlist_mine2", "shortlist_not_5fmine")
        for number in range(3)
    )
