"""`python -IS infra/docker/alive.py PORT [PATH]`: exits 0 when it answers 200.

A health check runs every few seconds in every container, so it loads nothing but sockets: an
interpreter that imports urllib costs several times as much.
"""

import socket
import sys

TIMEOUT_S = 3.0


def answers(port: int, path: str) -> bool:
    """Whether 127.0.0.1:port answers `GET path` with 200 in time."""
    ask = f"GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n".encode()
    try:
        with socket.create_connection(("127.0.0.1", port), TIMEOUT_S) as connection:
            connection.sendall(ask)
            status = connection.recv(64).split(b" ")
    except OSError:
        return False
    return len(status) > 1 and status[1] == b"200"


if __name__ == "__main__":
    sys.exit(not answers(int(sys.argv[1]), *(sys.argv[2:3] or ["/"])))
