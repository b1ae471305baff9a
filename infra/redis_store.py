"""Redis as the online store: a client that gives up in time, newer rows only, one data set's rows.

redis-py retries a failed call with growing pauses, and Feast hands it no other policy, so that a
read with Redis down takes seconds. Feast therefore gets a client that is made here: every call has
a limit, nothing is repeated behind the caller's back. Who may wait longer, repeats it himself.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

from redis import Redis
from redis.backoff import NoBackoff
from redis.credentials import CredentialProvider
from redis.exceptions import RedisError
from redis.retry import Retry

from infra.workspace import Services

AWAY = (RedisError, OSError)
"""What a call raises when Redis, its lock or its password file cannot be had."""


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


WRITE_NEWER = """
local found = redis.call('HGET', KEYS[1], ARGV[1])
if found then
  local version, unit = 0, 1
  for place = 2, #found do
    version = version + found:byte(place) % 128 * unit
    unit = unit * 128
  end
  if version >= tonumber(ARGV[2]) then return 0 end
end
redis.call('HSET', KEYS[1], unpack(ARGV, 3))
return 1
"""
"""One row: its version as Feast stores it (a protobuf: a tag, then 7 bits a byte) is compared and
all of it written in one step of the server. Lua's numbers are exact to 2^53, which is µs until 2255."""


def write_newer(
    client: Redis, version_field: bytes, rows: Sequence[tuple[bytes, int, Mapping[bytes, bytes]]]
) -> int:
    """Write those rows that are newer than what is stored; how many those were.

    Args:
        client: from `connect`.
        version_field: the field of the hash that holds the version.
        rows: (key, version, field -> bytes); the version is among the fields too.

    Raises:
        RedisError: Redis is away; some rows may be written. Write again.

    Interview: Two processes write the same feature. How do you keep the newer value?
        Each row carries a version that only grows, and comparing and writing are one step of the
        server, a script of five lines. With a read and then a write the older of two writers can
        come last; with a lock so can one that sleeps inside for longer than the lock holds.
        Trade-off: the server runs our code, for some microseconds a row, and reads a field as
        Feast encodes it.
        Shown by: tests/features/test_store.py::test_of_two_racing_writers_the_newer_value_stays
    """
    written = 0
    for start in range(0, len(rows), ROWS_PER_CALL):
        some = rows[start : start + ROWS_PER_CALL]
        with client.pipeline(transaction=False) as pipe:
            script = client.register_script(WRITE_NEWER)
            for key, version, fields in some:
                flat = [part for field in fields.items() for part in field]
                script(keys=[key], args=[version_field, version, *flat], client=pipe)
            written += sum(pipe.execute())
    return written


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
