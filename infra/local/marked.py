"""Processes of one folder, found by what they inherit, whoever their parent is by now.

Each carries two marks: the folder's path in its environment, and the session that supervisord opened.
A process may lose either (Redis writes its title over its environment, a training step opens a
session of its own), not both.
"""

import contextlib
import os
from dataclasses import dataclass
from pathlib import Path

import psutil

MARK = "SHORTLIST_SERVICES"
"""Environment variable with the folder's path."""

LEADER = "supervisord.pid"
"""File of the folder with the number of the session; gone after a clean end."""

KILL_SECONDS = 5.0
CLOCKS_DIFFER_S = 1.0


def processes_of(folder: Path) -> list[psutil.Process]:
    """Everything alive that carries a mark, but for the caller and its parents."""
    callers = {os.getpid(), *(parent.pid for parent in psutil.Process().parents())}
    session = _session_of(folder)
    return [
        process
        for process in psutil.process_iter()
        if process.pid not in callers
        and (_is_marked(process, folder) or (session is not None and session.has(process)))
    ]


def end(folder: Path) -> list[str]:
    """Ask all of them to end, then kill; returns their names when none is left."""
    names: dict[str, None] = {}  # in order, each once
    while left := processes_of(folder):  # again: one of them may have started another
        names |= dict.fromkeys(map(_name, left))
        for process in left:
            with contextlib.suppress(psutil.Error):
                process.terminate()
        _, stubborn = psutil.wait_procs(left, KILL_SECONDS)
        for process in stubborn:
            with contextlib.suppress(psutil.Error):
                process.kill()
        psutil.wait_procs(stubborn, KILL_SECONDS)
    return list(names)


@dataclass(frozen=True, slots=True)
class _Session:
    """A session that supervisord opened; its number is not given again while a member lives."""

    leader: int
    begun_at: float

    def has(self, process: psutil.Process) -> bool:
        """Whether the process is a member."""
        try:
            return (
                os.getsid(process.pid) == self.leader
                and process.uids().real == os.getuid()
                and process.create_time() >= self.begun_at - CLOCKS_DIFFER_S
                and process.status() != psutil.STATUS_ZOMBIE
            )
        except (psutil.Error, OSError):
            return False


def _session_of(folder: Path) -> _Session | None:
    """What the file says, unless its number is another process' by now."""
    path = folder / LEADER
    try:
        session = _Session(int(path.read_text()), path.stat().st_mtime)
    except (OSError, ValueError):
        return None
    try:
        leader = psutil.Process(session.leader)
        is_dead = leader.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return session
    return session if is_dead or _is_marked(leader, folder) else None


def _is_marked(process: psutil.Process, folder: Path) -> bool:
    try:
        alive = process.status() != psutil.STATUS_ZOMBIE
        return alive and process.environ().get(MARK) == str(folder)
    except (psutil.Error, OSError):  # gone, or not ours to look at
        return False


def _name(process: psutil.Process) -> str:
    """The program's name, which supervisord leaves in the environment of what it starts."""
    try:
        return process.environ().get("SUPERVISOR_PROCESS_NAME") or process.name()
    except (psutil.Error, OSError):
        return str(process.pid)
