"""Steps as processes: their results, their reasons, their memory, and their end."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest

from pipelines.step_process import Runner, StepFailed, Stopped

FILLED_MIB = 300

STEPS = {
    "answers": 'import json, os, sys; print("noise"); print(json.dumps([sys.argv[1:], os.environ["MOOD"]]))',
    "fails": 'import sys; sys.exit("no such table: towers")',
    "fills": f'import json; block = bytearray({FILLED_MIB} * 2**20); print(json.dumps(len(block)))',
    "hangs": """
import os, signal, subprocess, sys, time
grandchild = subprocess.Popen(["sleep", "600"])
with open(os.environ["PIDS"] + ".part", "w") as file:
    file.write(f"{os.getpid()} {grandchild.pid}")
os.replace(os.environ["PIDS"] + ".part", os.environ["PIDS"])
time.sleep(600)
""",
}  # fmt: skip

PARENT = """
import sys
from pipelines.step_process import Runner
Runner({}).run("hangs")
"""


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """A folder of steps that Python finds, and where the hanging one writes its processes."""
    for name, text in STEPS.items():
        (tmp_path / f"{name}.py").write_text(text)
    path = os.pathsep.join([str(tmp_path), str(Path(__file__).parents[2])])
    return {"PYTHONPATH": path, "MOOD": "calm", "PIDS": str(tmp_path / "pids")}


def hanging(environment: dict[str, str]) -> list[psutil.Process]:
    until = time.monotonic() + 30
    while not Path(environment["PIDS"]).exists():
        assert time.monotonic() < until, "the step never started"
        time.sleep(0.02)
    return [psutil.Process(int(pid)) for pid in Path(environment["PIDS"]).read_text().split()]


def test_the_last_line_is_the_result(environment: dict[str, str]) -> None:
    assert Runner(environment).run("answers", ["--now", "later"]) == [["--now", "later"], "calm"]


def test_a_failure_says_what_the_step_said_last(environment: dict[str, str]) -> None:
    with pytest.raises(StepFailed, match="python -m fails ended with 1: no such table: towers"):
        Runner(environment).run("fails")


def test_a_steps_memory_ends_with_it(environment: dict[str, str]) -> None:
    before = psutil.Process().memory_info().rss
    assert Runner(environment).run("fills") == FILLED_MIB * 2**20
    assert psutil.Process().memory_info().rss - before < FILLED_MIB * 2**20 / 3


def test_to_stop_ends_the_step_and_whatever_it_started(environment: dict[str, str]) -> None:
    runner = Runner(environment)
    outcome: list[Exception] = []

    def work() -> None:
        try:
            runner.run("hangs")
        except Exception as error:
            outcome.append(error)

    worker = threading.Thread(target=work)
    worker.start()
    processes = hanging(environment)
    runner.stop()
    worker.join(20)
    assert [type(error) for error in outcome] == [Stopped]
    _, alive = psutil.wait_procs(processes, timeout=10)
    assert not alive
    with pytest.raises(Stopped):
        runner.run("answers")


def test_a_killed_parent_leaves_no_orphan(environment: dict[str, str]) -> None:
    parent = subprocess.Popen([sys.executable, "-c", PARENT], env={**os.environ, **environment})
    processes = hanging(environment)
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    _, alive = psutil.wait_procs(processes, timeout=10)
    assert not alive
