"""`python -m infra.docker.prepare`: the job that runs before every container of docker-compose.yml.

Two things must be there before anything starts, and neither can be in the repository: folders that
an ordinary user may write, and passwords. The image holds a folder for each volume, owned by the
one user of all containers; Docker gives an empty volume the owner of the folder that it is first
mounted on, and this job is the first to mount them. Passwords are made here once and then kept.
"""

import hashlib
import os
import secrets
import sys
from collections.abc import Sequence
from pathlib import Path

SECRETS = Path("/var/lib/shortlist-secrets")
"""Mounted in the containers that talk to Redis."""

OPERATOR = Path("/var/lib/shortlist-operator")
"""Mounted where a person is asked who they are, and nowhere near a request. The admin process makes its
own token there."""

STACK_MAY = "+@all -@admin -@dangerous +info"
"""What Feast and the writer's lock need; not: emptying the store, its settings, its keys by pattern."""


def prepare(volumes: Sequence[Path], stack: Path = SECRETS, operator: Path = OPERATOR) -> None:
    """Check that every volume can be written, and make the passwords that are not there.

    Args:
        volumes: mount points of this container.
        stack: gets `redis-password`, and `redis.conf` with the hashes of Redis' two passwords.
        operator: gets `redis-password` of the user who may do everything, and `grafana-password`.

    Raises:
        SystemExit: a volume belongs to somebody else; the message says what to do.

    Interview: Where does a stack that starts with one command get its passwords from?
        From its own first start. A default in the file is public and is the same everywhere; one
        that the user must set first is a stack that does not start. So the first job draws them,
        leaves each in a volume that only its readers mount, and never replaces one that is there.
        Trade-off: whoever may use Docker on this machine can read them; across machines a secret
        store hands them out, and rotates them too.
        Shown by: tests/infra/test_prepare.py::test_passwords_are_drawn_once_and_differ_between_stacks
    """
    for volume in volumes:
        if not os.access(volume, os.W_OK | os.X_OK):
            raise SystemExit(
                f"prepare: uid {os.getuid()} cannot write {volume}: its volume was made by something "
                "else; `docker compose down -v` removes it with all data, or change its owner"
            )
    password(operator / "grafana-password")
    users = redis_users(password(stack / "redis-password"), password(operator / "redis-password"))
    replace(stack / "redis.conf", users)


def password(path: Path) -> str:
    """The password in this file; made when there is none, and never replaced."""
    if not path.exists():
        replace(path, secrets.token_urlsafe(24))
    return path.read_text()


def redis_users(stack: str, operator: str) -> str:
    """Redis' users, with the hash of each password.

    Examples:
        >>> [line.split(" #")[0] for line in redis_users("a", "b").splitlines()]
        ['user default on', 'user operator on']
    """
    return (
        f"user default on #{_sha256(stack)} ~* &* {STACK_MAY}\n"
        f"user operator on #{_sha256(operator)} ~* &* +@all\n"
    )


def replace(path: Path, text: str) -> None:
    """Write it whole or not at all, for its owner only."""
    part = path.with_name(f".{path.name}")
    part.touch(mode=0o600)
    part.write_text(text)
    os.replace(part, path)


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


if __name__ == "__main__":
    prepare([Path(name) for name in sys.argv[1:]])
    print("prepare: volumes can be written, passwords are there")
