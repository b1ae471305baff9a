"""Redis as the online store: a client that gives up in time, the writers' lock, one data set's rows.

redis-py retries a failed call with growing pauses, and Feast hands it no other policy, so that a
read with Redis down takes seconds. Feast therefore gets a client that is made here: every call has
a limit, nothing is repeated behind the caller's back. Who may wait longer, repeats it himself.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from redis import Redis
from redis.backoff import NoBackoff
from redis.credentials import CredentialProvider
from redis.exceptions import RedisError
from redis.retry import Retry

from infra.workspace import Services

AWAY = (RedisError, OSError)
"""What a call raises when Redis, its lock or its password file cannot be had."""

LOCK_S = 5.0
"""A writer that is killed inside leaves its lock for this long; a push takes a tenth of a second."""

LOCK_WAIT_S = 3 * LOCK_S
LOCK_POLL_S = 0.02


class PasswordFile(CredentialProvider):
    """The password is read at every new connection, so that a new one needs no restart."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def get_credentials(self) -> tuple[str]:
        """The file's content without the line's end."""
        return (self._path.read_text().strip(),)


def connect(services: Services, timeout_s: float) -> Redis:
    """A client; nothing is sent before the first call, so it can be made while Redis is down.

    Args:
        services: address and, if there is one, the file with the password.
        timeout_s: limit of connecting, and of each answer.

    Interview: Redis is down. How long does your request wait for it?
        As long as the client was told to, and the default is no answer at all: redis-py connects
        without a limit and repeats a failed call three times with pauses, which is good manners
        for a nightly job and fatal for a request. Here a refused connection fails at once, a
        silent one after the slice of the deadline that features have, and the next rung answers.
        Trade-off: a hiccup that one retry would have hidden costs a request its features.
        Shown by: tests/infra/test_redis_store.py::test_a_read_fails_in_time_where_nobody_answers
    """
    host, _, port = services.redis.rpartition(":")
    password = services.redis_password_file
    return Redis(
        host=host,
        port=int(port),
        credential_provider=PasswordFile(password) if password else None,
        socket_timeout=timeout_s,
        socket_connect_timeout=timeout_s,
        retry=Retry(NoBackoff(), 0),
    )


@contextmanager
def alone(client: Redis, project: str) -> Iterator[None]:
    """Hold the lock of one data set's writers.

    Raises:
        RedisError: another writer had it all the time, it ran out while it was held, or Redis is
            away. What was written meanwhile may stand beside another's: write again.
    """
    lock = client.lock(
        f"{project}:writers", timeout=LOCK_S, sleep=LOCK_POLL_S, blocking_timeout=LOCK_WAIT_S
    )
    with lock:
        yield


def clear(client: Redis, project: str) -> None:
    """Remove every row of one data set."""
    keys: list[bytes] = []
    for key in client.scan_iter(b"*" + project.encode(), count=ROWS_PER_CALL):
        keys.append(key)
        if len(keys) == ROWS_PER_CALL:
            client.unlink(*keys)
            keys.clear()
    if keys:
        client.unlink(*keys)


ROWS_PER_CALL = 500
