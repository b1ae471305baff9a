import json

import structlog

from infra.logging import configure, hashed


def test_a_line_is_json_and_cannot_be_forged(capsys):
    configure()
    structlog.get_logger().warning("degraded", reason='late\n{"event": "forged"}\x1b[31m')
    (line,) = capsys.readouterr().err.splitlines()
    entry = json.loads(line)
    assert entry["event"] == "degraded"
    assert entry["level"] == "warning"
    assert entry["reason"].startswith("late\n")


def test_a_traceback_stays_on_one_line(capsys):
    configure()
    try:
        1 / 0  # noqa: B018 - the error is what is logged
    except ZeroDivisionError:
        structlog.get_logger().exception("failed")
    (line,) = capsys.readouterr().err.splitlines()
    assert "ZeroDivisionError" in json.loads(line)["exception"]


def test_user_ids_are_not_readable_in_logs():
    assert "ann@example.org" not in hashed("ann@example.org")
    assert len(hashed("ann@example.org")) == 12
