"""What this machine has of what the line needs: a verdict and a remedy for each."""

import ctypes.util
import os
import platform
import re
import shutil
import socket
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from infra.settings import Settings

Verdict = Literal["ok", "note", "fail"]

MIN_JAVA = 17
MIN_CORES, MIN_MEMORY_GIB, MIN_DISK_GIB = 2, 6.0, 5.0
GIB = 2**30


@dataclass(frozen=True, slots=True)
class Finding:
    """One check. `note` runs on with less; `fail` does not run."""

    name: str
    verdict: Verdict
    seen: str
    remedy: str = ""


def examine(settings: Settings) -> list[Finding]:
    """Every check, in the order in which a newcomer would meet the trouble."""
    return [
        _python(sys.version_info[:2]),
        _java(java_version()),
        _openmp(),
        _cores(
            len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
        ),
        _memory(_memory_gib()),
        _disk(settings.home),
        _port(settings.host, settings.port),
        _data(settings.data_dir),
    ]


def java_version() -> int | None:
    """Major version of the Java that Spark would start, or None where there is none."""
    home = os.environ.get("JAVA_HOME")
    java = shutil.which("java", path=str(Path(home) / "bin")) if home else shutil.which("java")
    if java is None:
        return None
    printed = subprocess.run([java, "-version"], capture_output=True, text=True, timeout=30)
    found = re.search(r'version "(\d+)', printed.stderr + printed.stdout)
    return int(found.group(1)) if found else None


def _python(version: tuple[int, ...]) -> Finding:
    fits = (3, 11) <= version < (3, 14)
    seen = ".".join(map(str, version))
    return Finding(
        "Python", "ok" if fits else "fail", seen, "" if fits else "use 3.11, 3.12 or 3.13"
    )


def _java(version: int | None) -> Finding:
    if version is not None and version >= MIN_JAVA:
        return Finding("Java", "ok", str(version))
    seen = "none" if version is None else str(version)
    remedy = f"DuckDB computes the batch features; Spark needs Java {MIN_JAVA} or newer"
    return Finding("Java", "note", seen, remedy)


def _openmp() -> Finding:
    if platform.system() == "Darwin":
        there = Path("/opt/homebrew/opt/libomp").exists() or Path("/usr/local/opt/libomp").exists()
        return Finding(
            "OpenMP",
            "ok" if there else "fail",
            "libomp" if there else "none",
            "" if there else "brew install libomp",
        )
    found = ctypes.util.find_library("gomp")
    return Finding(
        "OpenMP",
        "ok" if found else "fail",
        found or "none",
        "" if found else "Debian: apt install libgomp1",
    )


def _cores(cores: int | None) -> Finding:
    enough = (cores or 1) >= MIN_CORES
    remedy = "" if enough else "it runs, more slowly; take --scale tiny"
    return Finding("Cores", "ok" if enough else "note", str(cores), remedy)


def _memory_gib() -> float:
    import psutil

    return float(psutil.virtual_memory().available / GIB)


def _memory(gib: float) -> Finding:
    enough = gib >= MIN_MEMORY_GIB
    remedy = (
        ""
        if enough
        else f"{MIN_MEMORY_GIB:.0f} GiB are comfortable; take --scale tiny or close something"
    )
    return Finding("Memory", "ok" if enough else "note", f"{gib:.1f} GiB free", remedy)


def _disk(home: Path) -> Finding:
    place = next(folder for folder in [home, *home.parents] if folder.exists())
    gib = shutil.disk_usage(place).free / GIB
    enough = gib >= MIN_DISK_GIB
    remedy = (
        ""
        if enough
        else f"{MIN_DISK_GIB:.0f} GiB are needed; SHORTLIST_HOME moves the state elsewhere"
    )
    return Finding("Disk", "ok" if enough else "fail", f"{gib:.0f} GiB free", remedy)


def port_is_free(host: str, port: int) -> bool:
    """Whether a server could listen there now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


def _port(host: str, port: int) -> Finding:
    free = port_is_free(host, port)
    remedy = "" if free else "stop what listens there, or set SHORTLIST_PORT"
    return Finding(
        "Port", "ok" if free else "note", f"{host}:{port} {'free' if free else 'taken'}", remedy
    )


def _data(folder: Path) -> Finding:
    sets = [name for name in ("completejourney", "trivago", "ml-100k") if (folder / name).is_dir()]
    if sets:
        return Finding("Public data", "ok", ", ".join(sets))
    return Finding(
        "Public data",
        "note",
        "none",
        "only for `run --dataset`; see docs/data.md and SHORTLIST_DATA_DIR",
    )
