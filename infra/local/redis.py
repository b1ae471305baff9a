"""A real Redis from the system's redis-server: loopback only, every write in its append-only file."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from infra.local.kafka import Absent
from infra.local.process import child, free_port, wait_for_port

START_SECONDS = 10.0


def command(folder: Path, port: int) -> list[str]:
    """The command that runs it; `folder` gets its data.

    Raises:
        Absent: no redis-server on this machine.
    """
    if (server := shutil.which("redis-server")) is None:
        raise Absent("Redis: no redis-server; on Debian: apt install redis-server")
    folder.mkdir(parents=True, exist_ok=True)
    options = {
        "bind": "127.0.0.1", "port": port, "dir": folder, "save": "",
        "appendonly": "yes", "appendfsync": "everysec", "daemonize": "no", "logfile": '""',
    }  # fmt: skip
    return [
        server,
        *(part for name, value in options.items() for part in (f"--{name}", str(value))),
    ]


@contextmanager
def server(folder: Path) -> Iterator[str]:
    """A server that listens; yields host:port, and stops it at the end. For tests.

    Raises:
        Absent: it cannot run here.
    """
    port = free_port()
    with child(command(folder, port), folder / "redis.log") as process:
        wait_for_port("127.0.0.1", port, process, folder / "redis.log", START_SECONDS)
        yield f"127.0.0.1:{port}"
