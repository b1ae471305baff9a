"""Processes under supervisord: watched, started again after a crash, stopped with their children.

One folder holds all of a group: supervisord.conf, supervisord.log, its pid and socket, and
logs/<name>.log. What outlives a killed supervisord is found again by two marks that every process
inherits: the folder's path in its environment, and supervisord's session. A process may lose either
(Redis writes its title over its environment, a step of its own makes a session), not both.
"""

import contextlib
import hashlib
import os
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from xmlrpc.client import Fault, ServerProxy

import psutil
from supervisor.xmlrpc import SupervisorTransport

MARK = "SHORTLIST_SERVICES"
"""Environment variable that says to which folder's group a process belongs."""

LISTEN_SECONDS = 20.0
END_SECONDS = 60.0
KILL_SECONDS = 5.0
CLOCKS_DIFFER_S = 1.0
SOCKET_MAX_BYTES = 100
"""A socket's path may have 108 bytes on Linux and 104 on macOS."""

STARTS_LATE_S, RETRIES = 2, 10
"""Who ends sooner after its start is started again later and later: 1 s, 2 s, ... ten times."""


@dataclass(frozen=True, slots=True)
class Program:
    """One process: what runs, and what its end means."""

    name: str
    command: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=dict)
    once: bool = False
    """A job: its end is no crash."""

    stop_s: int = 15
    """How long it may take over its end before it is killed."""


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
        self.conf.write_text(self._configuration(programs))
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
        callers = {os.getpid(), *(parent.pid for parent in psutil.Process().parents())}
        session = self._session()
        return [
            p for p in psutil.process_iter()
            if p.pid not in callers and (self._is_marked(p) or (session and session.has(p)))
        ]  # fmt: skip

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
        return self._sweep()

    def _sweep(self) -> list[str]:
        """Ask what is left to end, then kill it; look again, as a supervisord may have started more."""
        names: dict[str, None] = {}  # in order, each once
        while left := self.processes():
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

    def _session(self) -> "_Session | None":
        """What supervisord's own file says, unless its number is another process' by now."""
        path = self.folder / "supervisord.pid"
        try:
            session = _Session(int(path.read_text()), path.stat().st_mtime)
        except (OSError, ValueError):
            return None
        try:
            leader = psutil.Process(session.leader)
            is_dead = leader.status() == psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return session
        return session if is_dead or self._is_marked(leader) else None

    def _is_marked(self, process: psutil.Process) -> bool:
        try:
            alive = process.status() != psutil.STATUS_ZOMBIE
            return alive and process.environ().get(MARK) == str(self.folder)
        except (psutil.Error, OSError):  # gone, or not ours to look at
            return False

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

    def _configuration(self, programs: Sequence[Program]) -> str:
        sections: dict[str, dict[str, object]] = {
            "unix_http_server": {"file": self._socket(), "chmod": "0700"},
            "rpcinterface:supervisor": {
                "supervisor.rpcinterface_factory": "supervisor.rpcinterface:make_main_rpcinterface"
            },
            "supervisord": {
                "logfile": "supervisord.log",  # from here on paths are the folder's own
                "logfile_maxbytes": "1MB",
                "logfile_backups": 1,
                "pidfile": "supervisord.pid",
                "nodaemon": "true",
                "silent": "true",
            },
        }
        for place, program in enumerate(programs):
            sections[f"program:{program.name}"] = self._section(place, program)
        return "\n".join(
            "\n".join([f"[{name}]", *(f"{key}={_quoted(value)}" for key, value in lines.items())])
            + "\n"
            for name, lines in sections.items()
        )

    def _section(self, place: int, program: Program) -> dict[str, object]:
        return {
            "command": shlex.join(program.command),
            "environment": ",".join(f'{k}="{v}"' for k, v in program.environment.items()),
            "directory": "logs",
            "priority": place,
            "autostart": "false",
            "autorestart": "false" if program.once else "true",
            "startsecs": 0 if program.once else STARTS_LATE_S,
            "startretries": RETRIES,
            "stopwaitsecs": program.stop_s,
            "stopasgroup": "true",
            "killasgroup": "true",
            "redirect_stderr": "true",
            "stdout_logfile": f"logs/{program.name}.log",
            "stdout_logfile_maxbytes": "10MB",
            "stdout_logfile_backups": 1,
        }


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


def tail(path: Path, lines: int) -> str:
    """The end of a log; empty when there is none."""
    try:
        with path.open("rb") as log:
            log.seek(max(0, path.stat().st_size - 200 * lines))
            return "\n".join(log.read().decode(errors="replace").splitlines()[-lines:])
    except OSError:
        return ""


def _quoted(value: object) -> str:
    """In its file supervisord expands percent signs."""
    return str(value).replace("%", "%%")


def _name(process: psutil.Process) -> str:
    """The program's name, which supervisord leaves in the environment of what it starts."""
    try:
        return process.environ().get("SUPERVISOR_PROCESS_NAME") or process.name()
    except (psutil.Error, OSError):
        return str(process.pid)
