"""Killed in the night, killed in the day, told to stop: what goes on ends with the same log."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from features.errors import ContractError
from pipelines.loop.plan import Plan, twins_of
from pipelines.loop.run import folder_of

COMMAND = [
    "loop",
    "--scale",
    "tiny",
    "--days",
    "2",
    "--arms",
    "popular,full",
    "--retrain",
    "daily",
    "--resume",
    "--jobs",
    "1",
]


@pytest.fixture(scope="module")
def asked(plan: Plan) -> Plan:
    return replace(plan, arms=("popular", "full"), retrain="daily")


def home_with(seedling: Path, home: Path, asked: Plan) -> Path:
    """A home in which the world is made already: that part needs no second test."""
    shutil.copytree(seedling, folder_of(home, asked) / "trust-0" / "world")
    return home


def started(home: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "pipelines.cli", *COMMAND],
        env={**os.environ, "SHORTLIST_HOME": str(home)}, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def ended(loop: subprocess.Popen[str]) -> str:
    _, told = loop.communicate(timeout=200)
    assert loop.returncode == 0, told
    return told


def logs(home: Path, asked: Plan) -> dict[tuple[str, int], str]:
    """sha256 of each day's log, by arm."""
    twins = twins_of(folder_of(home, asked), asked, "trust", 0)
    return {
        (twin.name, number): twin.book.told(number)["log_sha256"]
        for twin in twins
        for number in range(asked.days)
    }


def until(holds: Callable[[], bool], seconds: float = 120.0) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, f"not within {seconds} s"
        time.sleep(0.01)


@pytest.mark.timeout(900)  # several loops of two days, on cores that are shared
def test_a_killed_loop_goes_on_to_the_same_log(seedling, tmp_path, asked):
    whole = home_with(seedling, tmp_path / "whole", asked)
    ended(started(whole))

    home = home_with(seedling, tmp_path / "killed", asked)
    popular, full = twins_of(folder_of(home, asked), asked, "trust", 0)
    # In the middle of a day: the parent alone, so that its child has to notice.
    loop = started(home)
    until(lambda: (popular.book.day(0) / "morning.json").exists())
    loop.send_signal(signal.SIGKILL)
    loop.communicate(timeout=30)
    # In the middle of a night, while the towers are trained: everybody.
    loop = started(home)
    towers = full.workspace.training / "retrieval-for-ranker"
    until(lambda: full.book.done() == 1)
    before = towers.stat().st_mtime_ns
    until(lambda: towers.stat().st_mtime_ns != before or full.book.done() == 2)
    for process in [*psutil.Process(loop.pid).children(recursive=True), psutil.Process(loop.pid)]:
        process.kill()
    loop.communicate(timeout=30)
    assert full.book.done() < 2, "killed too late to show anything"

    assert "days to live" in ended(started(home))
    assert logs(home, asked) == logs(whole, asked)
    assert len(set(logs(home, asked).values())) == 4
    night = json.loads((full.book.day(1) / "morning.json").read_text())
    assert night["retrained"]


def test_told_to_stop_it_leaves_no_process_behind(seedling, tmp_path, asked):
    loop = started(home_with(seedling, tmp_path, asked))
    until(lambda: len(psutil.Process(loop.pid).children(recursive=True)) > 0)
    children = psutil.Process(loop.pid).children(recursive=True)
    loop.send_signal(signal.SIGINT)
    loop.communicate(timeout=30)
    assert loop.returncode != 0
    assert not psutil.wait_procs(children, timeout=10)[1]


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"arms": ("best",)}, "no arm 'best'; choose of popular, full, oracle"),
        ({"arms": ("full", "full")}, "each once"),
        ({"families": ("flat",)}, "no family 'flat'; choose of position, trust, cascade"),
        ({"days": 0}, "days is 0; allowed: 1 … 60"),
        ({"days": 61}, "days is 61; allowed: 1 … 60"),
        ({"seeds": (1, 1)}, "expected distinct ones"),
        ({"scale": "huge"}, "no scale 'huge'"),
        ({"preset": "calm"}, "no preset 'calm'"),
    ],
)
def test_a_loop_that_cannot_be_is_refused(plan, changed, told):
    with pytest.raises(ContractError, match=told):
        replace(plan, **changed)
