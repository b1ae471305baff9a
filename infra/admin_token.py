"""The operator's token: one secret in one file, made at the first start, replaced to rotate it."""

import hmac
import os
import secrets
from pathlib import Path

from infra.settings import Settings

BYTES = 32
"""Of randomness: nobody guesses 256 bits, so no guessing has to be slowed down."""

LENGTH_MIN = 16
"""A shorter text is a mistake (an empty file, a newline), not a secret; nobody is let in with it."""


def token_file(settings: Settings) -> Path:
    """Where the token lies."""
    return settings.admin_token_file or settings.home / "secrets" / "admin-token"


def ensure(path: Path) -> str:
    """The token in the file; makes one, for the owner's eyes only, where there is no file.

    Raises:
        OSError: the file can be neither read nor made.
    """
    if path.exists():
        return path.read_text().strip()  # an operator's own, maybe in a folder that is not ours
    part = _new(path)
    try:
        os.link(part, path)  # fails where another process was faster: then its token counts
    except FileExistsError:
        pass
    finally:
        part.unlink()
    return path.read_text().strip()


def rotate(path: Path) -> str:
    """Replace the token, and return the new one; the old one is dead when this returns."""
    part = _new(path)
    os.replace(part, path)
    return path.read_text().strip()


def is_token(path: Path, said: bytes) -> bool:
    """Whether `said` is the token.

    The file is read each time, so that replacing it is all there is to rotating. Where it cannot be
    read, or holds no secret, nobody is let in.
    """
    try:
        held = path.read_bytes().strip()
    except OSError:
        return False
    return len(held) >= LENGTH_MIN and hmac.compare_digest(held, said)


def _new(path: Path) -> Path:
    """A file beside `path` with a fresh token, complete and on the disk."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    part = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(secrets.token_urlsafe(BYTES) + "\n")
        file.flush()
        os.fsync(file.fileno())
    return part
