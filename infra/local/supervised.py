"""Processes under supervisord: watched, started again after a crash, stopped with their children.

One folder holds all of a group: supervisord.conf, supervisord.log, its pid and socket, and
logs/<name>.log. What outlives a killed supervisord is found again (marked.py).
"""

import contextlib
import hashlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xmlrpc.client import Fault, ServerProxy

import psutil
from supervisor.xmlrpc import SupervisorTransport

from infra.local.marked import MARK, end, processes_of
from infra.local.program import Program, configuration

LISTEN_SECONDS = 20.0
END_SECONDS = 60.0
SOCKET_MAX_BYTES = 100
"""A socket's path may have 108 bytes on Linux and 104 on macOS."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What supervisord knows of one process."""

    state: str
    """STOPPED, STARTING, RUNNING, BACKOFF, STOPPING, EXITED, FATAL."""

    pid: int
    """0 = not running."""

    started_at: int
    """Seconds since 1970; 0 = never."""

    exit_status: int

    @property
    def runs(self) -> bool:
        """It has a process."""
        return self.state in ("STARTING", "RUNNING", "STOPPING")

    @property
    def done(self) -> bool:
        """It ended by itself and says that all went well."""
        return self.state == "EXITED" and self.exit_status == 0

    @property
    def failed(self) -> bool:
        """It ended with an error, and is not started again."""
        return self.state == "FATAL" or (self.state == "EXITED" and self.exit_status != 0)


class Group:
    """The processes of one folder.

    Interview: Who restarts a crashed process, and why not the program that started it?
        A supervisor that does nothing else: it outlives the terminal, starts what crashed again
        with a growing pause, and kills whole process groups, so that a stopped trainer leaves no
        child behind. Start order and readiness stay outside it, since only we know them.
        Trade-off: it is itself a process that can be killed; so every child is marked in its
        environment, and stopping looks for the mark and not only at the supervisor's list.
        Shown by: tests/infra/test_supervised.py::test_stop_finds_what_a_killed_supervisor_left_behind
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder.resolve()
        self.conf = self.folder / "supervisord.conf"

    def log(self, name: str) -> Path:
        """Where a process' output goes."""
        return self.folder / "logs" / f"{name}.log"

    def launch(self, programs: Sequence[Program], environment: Mapping[str, str]) -> None:
        """Start supervisord with these programs known and none of them running.

        Args:
            programs: in start order; they are stopped in the opposite one.
            environment: of all of them, in place of ours.

        Raises:
            RuntimeError: it does not answer; what it said is in the message.
        """
        self.log("").parent.mkdir(parents=True, exist_ok=True)
        self.conf.write_text(configuration(programs, self._socket()))
        said = self.folder / "supervisord.out"
        with said.open("wb") as out:
            process = subprocess.Popen(
                [sys.executable, "-m", "supervisor.supervisord", "-n", "-c", str(self.conf)],
                env={**environment, MARK: str(self.folder)}, cwd=self.folder,
                stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True,
            )  # fmt: skip
        until = time.monotonic() + LISTEN_SECONDS
        while not self.running():
            if process.poll() is not None or time.monotonic() > until:
                self.stop()
                raise RuntimeError(f"supervisord does not answer:\n{tail(said, 15)}")
            time.sleep(0.05)

    def running(self) -> bool:
        """Whether supervisord answers."""
        try:
            with self._supervisord() as supervisord:
                return bool(supervisord.getState()["statename"] == "RUNNING")
        except OSError:
            return False

    def start(self, name: str) -> None:
        """Start one program, if it does not run; its health is for others to judge."""
        with self._supervisord() as supervisord, contextlib.suppress(Fault):  # ALREADY_STARTED
            supervisord.startProcess(name, False)

    def seen(self) -> dict[str, Seen]:
        """Every program by name, in start order; empty when supervisord does not answer."""
        try:
            with self._supervisord() as supervisord:
                found = supervisord.getAllProcessInfo()
        except OSError:
            return {}
        return {
            info["name"]: Seen(info["statename"], info["pid"], info["start"], info["exitstatus"])
            for info in found
        }

    def processes(self) -> list[psutil.Process]:
        """Everything alive that carries a mark: supervisord, its children, and their children."""
        return processes_of(self.folder)

    def stop(self) -> list[str]:
        """End everything, in the opposite of the start order; nothing is left when it returns.

        Returns:
            Names of processes that supervisord no longer had in hand.
        """
        try:
            with self._supervisord() as supervisord:
                process = psutil.Process(supervisord.getPID())
                supervisord.shutdown()
            process.wait(END_SECONDS)
        except (OSError, Fault, psutil.Error):
            pass  # it was not there, was on its way out, or takes too long
        return end(self.folder)

    @contextlib.contextmanager
    def _supervisord(self) -> Iterator[Any]:
        transport = SupervisorTransport(serverurl=f"unix://{self._socket()}")
        try:
            yield ServerProxy("http://127.0.0.1", transport=transport).supervisor
        finally:
            transport.close()

    def _socket(self) -> Path:
        """In the folder; where its path would be too long, in a folder that only we can enter."""
        inside = self.folder / "supervisord.sock"
        if len(os.fsencode(inside)) <= SOCKET_MAX_BYTES:
            return inside
        short = Path(tempfile.gettempdir()) / f"shortlist-{os.getuid()}"
        short.mkdir(mode=0o700, exist_ok=True)
        if short.stat().st_uid != os.getuid() or short.stat().st_mode & 0o077:
            raise RuntimeError(f"{short} is open to others; remove it, or set TMPDIR")
        return short / f"{hashlib.sha256(os.fsencode(self.folder)).hexdigest()[:16]}.sock"


def tail(path: Path, lines: int) -> str:
    """The end of a log; empty when there is none."""
    try:
        with path.open("rb") as log:
            log.seek(max(0, path.stat().st_size - 200 * lines))
            return "\n".join(log.read().decode(errors="replace").splitlines()[-lines:])
    except OSError:
        return ""
