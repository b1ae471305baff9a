"""A stack of its own for the measurement: on a copy, a free port, and a core for the API alone."""

import os
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace
from pathlib import Path

from features.errors import ContractError
from infra.local.process import free_port
from infra.settings import Settings
from infra.workspace import Workspace
from models.versions import current
from pipelines.lake import read_events
from pipelines.materialize import SEED
from pipelines.serve import local_stack


@contextmanager
def own_stack(settings: Settings, workspace: Workspace) -> Iterator[tuple[str, str]]:
    """The API over a copy of the workspace; yields address and placement.

    No stream worker: on two cores it would make the API or the generator late by a time slice of the
    scheduler, whatever its priority, and that lateness would be told as the API's.

    The clicks of a load test are nobody's taste. On the workspace itself they would be in the next
    training set, so the stack gets a copy that is thrown away.

    Raises:
        ContractError: no bundle to serve, or it is not the embedded mode.
    """
    if workspace.services is not None:
        raise ContractError(
            "SHORTLIST_MODE is services: its Kafka and Redis cannot be copied; name the API with "
            "--url (its clicks are real), or set SHORTLIST_MODE=embedded"
        )
    if current(workspace.bundles) is None:
        raise ContractError(
            f"data set '{workspace.name}' has no bundle to put load on; make one with: "
            f"shortlist run --dataset {workspace.name}"
        )
    api, rest, placement = cores()
    with ExitStack() as stack:
        scratch = stack.enter_context(tempfile.TemporaryDirectory(prefix="shortlist-load-"))
        copied = copy(workspace, Path(scratch))
        mine = settings.model_copy(update={"home": copied.home, "port": free_port()})
        if rest:
            stack.enter_context(_on(rest))
        address = stack.enter_context(
            local_stack(mine, copied, "data", core=api if rest else None, worker=False)
        )
        yield address, placement


def cores() -> tuple[int, set[int], str]:
    """The API's core, everybody else's (none where processes cannot be pinned), and both in words."""
    if not (shutil.which("taskset") and hasattr(os, "sched_getaffinity")):
        return 0, set(), "no taskset here: API and generator share all cores"
    ours = sorted(os.sched_getaffinity(0))
    if len(ours) < 2:
        return ours[0], set(), "one core: API and generator share it, and the latency shows that"
    return ours[0], set(ours[1:]), f"API on core {ours[0]}, generator elsewhere, no stream worker"


def copy(workspace: Workspace, home: Path) -> Workspace:
    """What the stack reads and writes, under another home, with an empty event log."""
    copied = replace(workspace, home=home)
    copied.root.mkdir(parents=True)
    copied.lake.symlink_to(workspace.lake.resolve())  # nobody writes it here
    shutil.copytree(workspace.bundles, copied.bundles)
    logs = shutil.ignore_patterns("*-wal", "*-shm")
    shutil.copytree(workspace.feast, copied.feast, ignore=logs, copy_function=_copy_file)
    copied.state.mkdir()
    if (workspace.state / SEED).exists():
        _copy_file(str(workspace.state / SEED), str(copied.state / SEED))
    return copied


def _copy_file(source: str, target: str) -> None:
    """A database is copied by SQLite: what is in its write-ahead log comes along."""
    if not source.endswith(".sqlite"):
        shutil.copy2(source, target)
        return
    with closing(sqlite3.connect(source)) as here, closing(sqlite3.connect(target)) as there:
        here.backup(there)


def known_users(workspace: Workspace) -> list[str]:
    """Everybody with a history: the API itself would name thirty."""
    return sorted(read_events(workspace.lake, columns=["user_id"])["user_id"].unique().tolist())


@contextmanager
def _on(cores: set[int]) -> Iterator[None]:
    """This process, and those that it starts, on these cores; afterwards where it was."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
