"""The local stack: the API and the stream worker as child processes, with health and a clean end."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx

from features.errors import ContractError, RecommenderError
from infra.settings import Settings
from infra.workspace import Workspace
from models.versions import current  # light: the bundle itself is the API's to load
from pipelines.days import serve_from, split_of
from pipelines.doctor import port_is_free
from pipelines.steps import console

READY_SECONDS = 180.0
"""Seconds of imports, which a busy machine stretches; a process that ends is noticed at once."""

STOP_SECONDS = 10.0


@contextmanager
def local_stack(
    settings: Settings,
    workspace: Workspace,
    clock: str,
    experiment: str | None = None,
    *,
    core: int | None = None,
    worker: bool = True,
) -> Iterator[str]:
    """Both processes up and the API ready; yields its address, and stops both at the end.

    Args:
        clock: data = the served clock starts where the data ends; real = this machine's time;
            simulated = as the settings say.
        experiment: name of an A/B test of the full line against popularity.
        core: the only one that the API may use; None = all.
        worker: whether the stream worker runs beside the API.

    Raises:
        ContractError: no bundle to serve, or the port is taken.
        RecommenderError: a process ended before it was ready; the end of its log is in the message.
    """
    if current(workspace.bundles) is None:
        raise ContractError(
            f"data set '{workspace.name}' has no bundle yet; make one with: "
            f"shortlist run --dataset {workspace.name}"
        )
    check_port(settings)
    environment = settings.environment() | {
        "SHORTLIST_HOME": str(workspace.home),
        "SHORTLIST_DATASET": workspace.name,
        "OMP_NUM_THREADS": "1",  # one request, one thread: two cores serve two requests
    }
    if clock == "data":
        start = serve_from(split_of(workspace))
        environment |= {"SHORTLIST_CLOCK": "simulated", "SHORTLIST_CLOCK_START": start.isoformat()}
    if experiment is not None:
        environment["SHORTLIST_EXPERIMENT"] = experiment
    address = f"http://{settings.host}:{settings.port}"
    api = [
        "uvicorn",
        "serving.app:create_app",
        "--factory",
        "--host",
        settings.host,
        "--port",
        str(settings.port),
    ]
    with ExitStack() as stack:
        stack.callback(signal.signal, signal.SIGTERM, signal.signal(signal.SIGTERM, _leave))
        if worker:
            stack.enter_context(_child(workspace, "stream", ["pipelines.stream"], environment))
        pinned = () if core is None else ("taskset", "-c", str(core))
        child = stack.enter_context(
            _child(workspace, "api", [*api, "--no-access-log"], environment, pinned)
        )
        _wait_until_ready(address, child, _log(workspace, "api"))
        yield address


def check_port(settings: Settings) -> None:
    """Say early that the API could not listen.

    Raises:
        ContractError: the port is taken; the message names the setting that moves it.
    """
    if not port_is_free(settings.host, settings.port):
        raise ContractError(
            f"port {settings.port} on {settings.host} is taken; stop what listens there, "
            "or choose another with --port or SHORTLIST_PORT"
        )


def serve_forever(settings: Settings, workspace: Workspace, clock: str) -> None:
    """Serve until Ctrl-C."""
    with local_stack(settings, workspace, clock) as address:
        console.print(
            f"[bold green]Serving[/] {workspace.name} at [bold]{address}[/]  (logs: {_log(workspace, '*')})"
        )
        console.print(
            f"  page {address}/   API {address}/openapi.json   metrics {address}/metrics   Ctrl-C stops"
        )
        wait_for_interrupt()


def wait_for_interrupt() -> None:
    """Sleep until Ctrl-C."""
    try:
        while True:
            time.sleep(3600)
    except KeyboardInterrupt:
        console.print("stopping")


def _leave(number: int, frame: object) -> None:
    """A plain `kill` unwinds as an exception, so that no child is left behind."""
    sys.exit(128 + number)


def _log(workspace: Workspace, name: str) -> Path:
    return workspace.root / "logs" / f"{name}.log"


@contextmanager
def _child(
    workspace: Workspace,
    name: str,
    arguments: list[str],
    environment: Mapping[str, str],
    through: Sequence[str] = (),
) -> Iterator[subprocess.Popen[bytes]]:
    """One process in a session of its own, so that Ctrl-C reaches us and we stop it in order."""
    path = _log(workspace, name)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab") as out:
        child = subprocess.Popen(
            [*through, sys.executable, "-m", *arguments],
            env={**os.environ, **environment}, stdout=out, stderr=out, start_new_session=True,
        )  # fmt: skip
    try:
        yield child
    finally:
        child.terminate()
        try:
            child.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


def _wait_until_ready(address: str, child: subprocess.Popen[bytes], log: Path) -> None:
    until = time.monotonic() + READY_SECONDS
    while time.monotonic() < until:
        if child.poll() is not None:
            break
        try:
            if httpx.get(f"{address}/readyz", timeout=1.0).status_code == 200:
                return
        except httpx.HTTPError:
            pass  # not listening yet
        time.sleep(0.1)
    tail = "\n".join(log.read_text(errors="replace").splitlines()[-15:])
    raise RecommenderError(
        f"the API was not ready within {READY_SECONDS:.0f} s; the end of {log}:\n{tail}"
    )
