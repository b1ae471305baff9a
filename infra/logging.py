"""JSON lines on standard error: one event per line, times in UTC, user ids hashed."""

import hashlib
import sys

import structlog


def configure() -> None:
    """Set structlog up; called once by `create_app()` or `main()`.

    Values are JSON-encoded, so a line break or an escape sequence in a user's text cannot forge a
    second line.
    """
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ],
        # Looked up at each call: a test, or a supervisor, may replace the stream.
        logger_factory=lambda *_: structlog.PrintLogger(sys.stderr),
    )


def hashed(user_id: str) -> str:
    """A short name that is the same in every line and says nothing about the user.

    Examples:
        >>> hashed("ann") == hashed("ann") != hashed("bob")
        True
    """
    return hashlib.sha256(user_id.encode()).hexdigest()[:12]
