"""Many worlds, each with its twins: a process per world, resumable, with a bar over all days.

    <home>/loop/<key>/<family>-<seed>/world/   the logged past and the first bundle
                                      popular/ full/ oracle/   one home per arm
                                      run.log  what the steps printed

The key is the hash of what makes the days: a run with another configuration has another folder.
"""

import json
import shutil
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict
from pathlib import Path

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from features.errors import RecommenderError
from infra.local.process import child
from infra.workspace import Workspace
from pipelines.lock import only_one
from pipelines.loop.plan import Plan, twins_of
from pipelines.steps import console

POLL_S = 0.5
ONE_THREAD = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")

TAIL = 15
"""Lines of a failed world's log that are shown."""

FIRST_GUESS_S = {"tiny": (16.0, 0.8), "small": (75.0, 6.0), "full": (1500.0, 120.0)}
"""Seconds until a world has its first bundle, and per day and arm, as measured on two cores with
nothing else to do; used only until this home holds days of its own."""


def folder_of(home: Path, plan: Plan) -> Path:
    """Where the worlds of a plan lie."""
    return home / "loop" / plan.key


def run(plan: Plan, home: Path, *, resume: bool, jobs: int) -> Path:
    """Let all worlds live; returns the folder with their books.

    Args:
        plan: what is asked for.
        home: `Settings.home`.
        resume: go on from the days that are committed; else begin anew.
        jobs: worlds at a time, each in a process of its own with one thread.

    Raises:
        RecommenderError: a world failed; the end of its log is in the message. The others' days
            are kept, and `--resume` goes on.
        Busy: another loop is at work in this folder.

    Interview: A simulation of three hours is killed after two. What is lost?
        One day of one world. A day is committed by one rename after everything else of it is on
        the disk, it depends on the day before and on the seed alone, and every step of a night can
        be repeated: so the run that goes on ends with the same bytes as one that never stopped.
        Trade-off: each day's states go to the disk, megabytes that mostly nobody reads.
        Shown by: tests/pipelines/loop/test_resume.py::test_a_killed_loop_goes_on_to_the_same_log
    """
    folder = folder_of(home, plan)
    with only_one(Workspace(home, f"loop-{plan.key}"), "shortlist loop"):
        if not resume:
            shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True, exist_ok=True)
        console.print(f"[bold]▸ loop[/] {forecast(plan, folder, jobs)}", soft_wrap=True)
        _all(plan, folder, jobs)
    return folder


def forecast(plan: Plan, folder: Path, jobs: int) -> str:
    """How much there is to do and about how long it will take."""
    twins = [twin for world in plan.worlds for twin in twins_of(folder, plan, *world)]
    done = sum(min(twin.book.done(), plan.days) for twin in twins)
    seeds = [f for f, s in plan.worlds if not (folder / f"{f}-{s}" / "world" / "made").exists()]
    first_s, day_s = FIRST_GUESS_S[plan.scale]
    known = [twin.book.told(n)["seconds"] for twin in twins for n in range(twin.book.done())]
    day_s = sum(known) / len(known) if known else day_s
    left = len(twins) * plan.days - done
    seconds = (len(seeds) * first_s + left * day_s) / min(jobs, len(plan.worlds))
    also = "; a retraining adds about as long as a world's beginning" if left else ""
    return (
        f"{len(plan.worlds)} worlds × {len(plan.arms)} arms × {plan.days} days, {left} days to "
        f"live, {len(seeds)} worlds to make: about {seconds / 60:.1f} min on {jobs} cores{also}"
    )


def _all(plan: Plan, folder: Path, jobs: int) -> None:
    """Each world in a process; the bar counts commits on the disk."""
    stop = threading.Event()
    with _bar() as bar, ThreadPoolExecutor(jobs) as pool:
        shown = bar.add_task("days", total=len(plan.worlds) * len(plan.arms) * plan.days)

        def count() -> None:
            bar.update(shown, completed=_committed(plan, folder))

        running = [pool.submit(_one_world, plan, folder, *world, stop) for world in plan.worlds]
        counting = _repeat(count, stop)
        try:
            for world in as_completed(running):
                world.result()
        except BaseException:
            for world in running:
                world.cancel()
            raise
        finally:
            stop.set()
            counting.join()
            count()


def _one_world(plan: Plan, folder: Path, family: str, seed: int, stop: threading.Event) -> None:
    """A process with one thread of arithmetic: as many worlds as cores, and the same sums everywhere."""
    log = folder / f"{family}-{seed}" / "run.log"
    told = json.dumps(asdict(plan) | {"families": [family], "seeds": [seed]})
    command = [sys.executable, "-m", "pipelines.loop.one_world", str(folder), told]
    with child(command, log, dict.fromkeys(ONE_THREAD, "1")) as process:
        while process.poll() is None and not stop.wait(POLL_S):
            pass
        if process.poll() is None:
            return  # another world failed, or we are told to stop
    if process.returncode:
        lines = log.read_text(errors="replace").splitlines()[-TAIL:]
        raise RecommenderError(
            f"world {family}, seed {seed} failed; the end of {log}:\n" + "\n".join(lines)
        )


def _committed(plan: Plan, folder: Path) -> int:
    twins = [twin for world in plan.worlds for twin in twins_of(folder, plan, *world)]
    return sum(min(twin.book.done(), plan.days) for twin in twins)


def _repeat(count: Callable[[], None], stop: threading.Event) -> threading.Thread:
    """Call `count` now and then until `stop`."""

    def work() -> None:
        while not stop.wait(POLL_S):
            count()

    thread = threading.Thread(target=work)
    thread.start()
    return thread


def _bar() -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    times = (TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn())
    return Progress(*columns, *times, console=console, transient=True)
