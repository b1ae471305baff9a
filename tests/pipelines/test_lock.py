import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from infra.workspace import Workspace
from pipelines.lock import Busy, only_one

HOLD = """
import sys, time
from pathlib import Path
from infra.workspace import Workspace
from pipelines.lock import only_one
with only_one(Workspace(Path(sys.argv[1]), "shop"), "a long training"):
    print("held", flush=True)
    time.sleep(600)
"""


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path, "shop")


def held_elsewhere(workspace: Workspace) -> subprocess.Popen[str]:
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(workspace.home)], stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    return holder


def test_who_comes_second_is_told_who_is_there(workspace: Workspace) -> None:
    holder = held_elsewhere(workspace)
    try:
        told = rf"'shop' is in use by process {holder.pid}: a long training; wait"
        with pytest.raises(Busy, match=told), only_one(workspace, "another"):
            pytest.fail("two held the lock at once")
    finally:
        holder.kill()
        holder.wait()


def test_a_killed_holder_leaves_no_lock_behind(workspace: Workspace) -> None:
    holder = held_elsewhere(workspace)
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    with only_one(workspace, "the next"):
        assert "the next" in workspace.lock.read_text()


def test_a_child_that_was_handed_the_lock_keeps_it_when_its_parent_lets_go(
    workspace: Workspace,
) -> None:
    with only_one(workspace, "a parent") as descriptor:
        child = subprocess.Popen(["sleep", "600"], pass_fds=[descriptor])
    with pytest.raises(Busy), only_one(workspace, "too early"):
        pytest.fail("the child was still at work")
    child.kill()
    child.wait()
    with only_one(workspace, "in time"):
        pass


def test_data_sets_do_not_wait_for_each_other(workspace: Workspace) -> None:
    with only_one(workspace, "one"), only_one(Workspace(workspace.home, "other"), "two"):
        assert os.listdir(workspace.home / "datasets") != []


def test_waiting_ends_when_the_holder_does(workspace: Workspace) -> None:
    holder = held_elsewhere(workspace)
    waits = subprocess.Popen(
        [sys.executable, "-c", HOLD.replace('training")', 'training", wait=True)')
         .replace("time.sleep(600)", "pass"), str(workspace.home)],
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    with pytest.raises(subprocess.TimeoutExpired):
        waits.wait(1.5)
    holder.kill()
    holder.wait()
    assert waits.wait(30) == 0
