"""What a command measured, as JSON beside what it printed."""

import json
import math
import os
import platform
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from infra.settings import PROJECT


@contextmanager
def report(
    folder: Path, name: str, seeds: list[int], also: Mapping[str, Any] | None = None
) -> Iterator[dict[str, Any]]:
    """Yields the `metrics` to fill; on a clean exit writes `<folder>/<name>.json`.

    The file holds command, metrics, seeds, git, machine, started_at and seconds, and what the caller
    put into `also` meanwhile; the former win. A step that fails writes nothing, so that an old
    report is never overwritten by half of a new one.
    """
    started_at, since = datetime.now(UTC), time.monotonic()
    metrics: dict[str, Any] = {}
    yield metrics
    write_json(
        folder / f"{name}.json",
        {
            **(also or {}),
            "command": " ".join([_program(), *sys.argv[1:]]),
            "metrics": metrics,
            "seeds": seeds,
            "git": _git(),
            "machine": _machine(),
            "started_at": started_at.isoformat(timespec="seconds"),
            "seconds": round(time.monotonic() - since, 3),
        },
    )


def write_json(path: Path, content: Any) -> None:
    """Write JSON so that a reader sees the old file or the new one, never half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    part.write_text(json.dumps(_plain(content), indent=1, allow_nan=False) + "\n")
    os.replace(part, path)


def _program() -> str:
    """The words before the arguments: `shortlist`, or `python -m tests.reliability`."""
    module = getattr(sys.modules["__main__"], "__spec__", None)
    return (
        f"python -m {module.name.removesuffix('.__main__')}" if module else Path(sys.argv[0]).name
    )


def _plain(value: Any) -> Any:
    """JSON has no NaN, no infinity and no numpy: unknown numbers become null."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if hasattr(value, "item"):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def _git() -> str:
    """The commit, with `+` when the tree differs from it; `unknown` outside a checkout."""
    try:
        commit = subprocess.run(
            ["git", "rev-parse", "--short=12", "HEAD"],
            cwd=PROJECT,
            capture_output=True,
            text=True,
            timeout=5,
            check=True,
        ).stdout.strip()
        changed = subprocess.run(
            ["git", "status", "--porcelain", "-uno"],
            cwd=PROJECT,
            capture_output=True,
            text=True,
            timeout=5,
            check=True,
        ).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return commit + ("+" if changed else "")


def _machine() -> dict[str, Any]:
    return {
        "cores": len(os.sched_getaffinity(0))
        if hasattr(os, "sched_getaffinity")
        else os.cpu_count(),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
    }
