"""What supervisord is to run, and how that is said in its file. Paths there are the folder's own."""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

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


def configuration(programs: Sequence[Program], socket: Path) -> str:
    """supervisord.conf for these programs: none starts by itself, all but jobs start again."""
    sections: dict[str, dict[str, object]] = {
        "unix_http_server": {"file": socket, "chmod": "0700"},
        "rpcinterface:supervisor": {
            "supervisor.rpcinterface_factory": "supervisor.rpcinterface:make_main_rpcinterface"
        },
        "supervisord": {
            "logfile": "supervisord.log",
            "logfile_maxbytes": "1MB",
            "logfile_backups": 1,
            "pidfile": "supervisord.pid",
            "nodaemon": "true",
            "silent": "true",
        },
    }
    for place, program in enumerate(programs):
        sections[f"program:{program.name}"] = _section(place, program)
    return "\n".join(_lines(name, settings) for name, settings in sections.items())


def _section(place: int, program: Program) -> dict[str, object]:
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


def _lines(name: str, settings: Mapping[str, object]) -> str:
    """One section; supervisord expands percent signs."""
    lines = (f"{key}={value}".replace("%", "%%") for key, value in settings.items())
    return "\n".join([f"[{name}]", *lines, ""])
