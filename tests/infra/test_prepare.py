import hashlib
import os
import shutil
import stat

import pytest

from infra.docker.prepare import prepare
from infra.local import redis as local_redis
from infra.local.process import child, free_port, wait_for_port


@pytest.fixture
def folders(tmp_path):
    made = tmp_path / "secrets", tmp_path / "operator"
    for folder in made:
        folder.mkdir()
    return made


def test_passwords_are_drawn_once_and_differ_between_stacks(folders, tmp_path):
    stack, operator = folders
    prepare([stack, operator], stack, operator)
    before = _read(folders)
    prepare([stack, operator], stack, operator)
    assert _read(folders) == before
    words = [before["secrets/redis-password"], before["operator/redis-password"]]
    words.append(before["operator/grafana-password"])
    assert all(len(word) >= 32 for word in words)

    other = tmp_path / "other"
    other.mkdir()
    prepare([], other, other)
    words.append((other / "redis-password").read_text())
    assert len(set(words)) == len(words)


def test_secrets_are_for_their_owner_and_redis_is_given_hashes(folders):
    prepare([], *folders)
    for folder in folders:
        for path in folder.iterdir():
            assert stat.S_IMODE(path.stat().st_mode) == 0o600, path
    found = _read(folders)
    conf = found["secrets/redis.conf"]
    for name in ("secrets/redis-password", "operator/redis-password"):
        assert found[name] not in conf
        assert hashlib.sha256(found[name].encode()).hexdigest() in conf


def test_a_volume_that_cannot_be_written_is_named(folders, tmp_path):
    stack, operator = folders
    with pytest.raises(SystemExit, match=rf"uid {os.getuid()} cannot write .*/absent.*down -v"):
        prepare([tmp_path / "absent"], stack, operator)
    assert not list(stack.iterdir())


def test_the_stacks_user_can_work_and_cannot_destroy(folders, tmp_path):
    """A real Redis with the users that are made here."""
    redis = pytest.importorskip("redis")
    if shutil.which("redis-server") is None:
        pytest.skip("absent backend: Redis")
    prepare([], *folders)
    port = free_port()
    command = local_redis.command(tmp_path / "redis", port)
    conf = tmp_path / "redis.conf"
    conf.write_text(_read(folders)["secrets/redis.conf"])
    with child([command[0], str(conf), *command[1:]], tmp_path / "redis.log") as process:
        wait_for_port("127.0.0.1", port, process, tmp_path / "redis.log", 10)
        with pytest.raises(redis.AuthenticationError):
            redis.Redis(port=port).ping()
        found = _read(folders)
        stack = redis.Redis(port=port, password=found["secrets/redis-password"])
        with stack.lock("writers", timeout=5):
            stack.hset("user", mapping={"clicks": 1})
        assert stack.hgetall("user") == {b"clicks": b"1"}
        for destroy in (stack.flushall, stack.config_get, stack.shutdown, lambda: stack.keys("*")):
            with pytest.raises(redis.exceptions.NoPermissionError):
                destroy()
        operator = redis.Redis(
            port=port, username="operator", password=found["operator/redis-password"]
        )
        assert operator.flushall()


def _read(folders):
    return {f"{f.name}/{path.name}": path.read_text() for f in folders for path in f.iterdir()}
