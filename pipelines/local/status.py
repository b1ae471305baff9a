"""What runs, how it is when asked, and its end."""

import shutil
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

import psutil

from features.errors import ContractError
from infra.local.supervised import Group, Seen
from infra.settings import Settings
from pipelines.local.health import Ask, Unwell, asks_of
from pipelines.local.places import address_of, as_started, folder_of, listeners

MIB = 2**20


@dataclass(frozen=True, slots=True)
class Standing:
    """One part, as it is now."""

    name: str
    state: str
    pid: int | None
    port: int | None
    up_s: float | None
    memory_mib: float | None
    """Of the process and its children."""

    is_well: bool
    health: str
    """What it said when it was asked, or why it could not be."""


def status(settings: Settings) -> list[Standing]:
    """Every part, asked now; empty when nothing was started or all is stopped."""
    settings = as_started(settings)
    seen = Group(folder_of(settings)).seen()
    ports = {name: listener.port for name, listener in listeners(settings).items()}
    asks = asks_of(settings)
    return [standing(name, found, ports.get(name), asks.get(name)) for name, found in seen.items()]


def standing(name: str, seen: Seen, port: int | None, ask: Ask | None) -> Standing:
    """One part, asked."""
    is_well, health = _asked(seen, ask)
    runs = seen.runs and seen.pid
    return Standing(
        name, seen.state, seen.pid if runs else None, port,
        time.time() - seen.started_at if runs else None,
        _memory_mib(seen.pid) if runs else None, is_well, health,
    )  # fmt: skip


def _asked(seen: Seen, ask: Ask | None) -> tuple[bool, str]:
    if seen.done:
        return True, "done"
    if not seen.runs:
        return False, "not running; see its log"
    if ask is None:
        return seen.state == "RUNNING", "a process; it has no port"
    try:
        return True, ask()
    except Unwell as why:
        return False, str(why)


def _memory_mib(pid: int) -> float | None:
    try:
        process = psutil.Process(pid)
        family = [process, *process.children(recursive=True)]
        return sum(member.memory_info().rss for member in family) / MIB
    except psutil.Error:
        return None


def as_running(settings: Settings, url: str | None) -> Settings:
    """The settings of the local services, if they run and `url` leads to them; else the given ones.

    Args:
        settings: as the environment has them.
        url: of an API; None = whichever there is.
    """
    started = as_started(settings)
    is_theirs = url is None or url.rstrip("/") == address_of(started)
    return started if is_theirs and Group(folder_of(settings)).running() else settings


def down(settings: Settings) -> tuple[bool, list[str]]:
    """Stop all in order; whether anything ran, and what its supervisor had lost."""
    group = Group(folder_of(settings))
    ran = group.running() or bool(group.processes())
    return ran, group.stop()


def kept(settings: Settings) -> Path | None:
    """The folder that `wipe` would delete; None when there is none.

    Raises:
        ContractError: it is not a folder that `up` made.
    """
    folder = folder_of(settings)
    if not folder.exists():
        return None
    if not (folder / "env").exists():
        raise ContractError(f"{folder} was not made by shortlist up; delete it yourself")
    return folder


def wipe(folder: Path) -> None:
    """Delete the data of all parts: log, features, tracking, spool, data set, logs."""
    shutil.rmtree(folder)


def show_logs(settings: Settings, name: str | None, lines: int, follow: bool) -> None:
    """The end of one log, or of all, by `tail`; until Ctrl-C when following.

    Raises:
        ContractError: no such log; the message names those that there are.
    """
    folder = Group(folder_of(settings)).log("").parent
    logs = {path.stem: path for path in sorted(folder.glob("*.log"))}
    if not logs or (name is not None and name not in logs):
        there = f"there are {', '.join(logs)}" if logs else "nothing was started yet: shortlist up"
        raise ContractError(f"no log{f' of {name!r}' if name else 's'}; {there}")
    chosen = list(logs.values()) if name is None else [logs[name]]
    flags = ["-F"] if follow else []
    try:
        subprocess.run(["tail", *flags, "-n", str(lines), *map(str, chosen)], check=False)
    except KeyboardInterrupt:
        return
