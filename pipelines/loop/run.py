"""Many worlds, each with its twins: a process per world, resumable, with a bar over all days.

    <home>/loop/<key>/<family>-<seed>/world/   the logged past and the first bundle
                                      popular/ full/ oracle/   one home per arm
                                      run.log  what the steps printed

The key is the hash of what makes the days: a run with another configuration has another folder.
"""

import json
import shutil
from dataclasses import asdict
from pathlib import Path

from infra.workspace import Workspace
from pipelines.lock import only_one
from pipelines.loop.plan import Plan, twins_of
from pipelines.loop.processes import Work, side_by_side
from pipelines.steps import console
from pipelines.world.config import SCALES

FIRST_GUESS_S = {"tiny": (16.0, 0.8), "small": (75.0, 6.0), "full": (1500.0, 120.0)}
"""Seconds until a world has its first bundle, and per day and arm, as measured on two cores with
nothing else to do; used only until this home holds days of its own."""

STACK_S, SLATE_OVER_HTTP_S = 10.0, 0.05
"""The same over HTTP: the night's job and the start of API and worker, and each slate."""


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
        total = len(plan.worlds) * len(plan.arms) * plan.days
        side_by_side(_works(plan, folder), jobs, "days", total, lambda: _committed(plan, folder))
    return folder


def forecast(plan: Plan, folder: Path, jobs: int) -> str:
    """How much there is to do and about how long it will take."""
    twins = [twin for world in plan.worlds for twin in twins_of(folder, plan, *world)]
    done = sum(min(twin.book.done(), plan.days) for twin in twins)
    seeds = [f for f, s in plan.worlds if not (folder / f"{f}-{s}" / "world" / "made").exists()]
    first_s, day_s = FIRST_GUESS_S[plan.scale]
    if plan.over == "http":
        day_s = STACK_S + SLATE_OVER_HTTP_S * SCALES[plan.scale]["slates_a_day"]
    known = [twin.book.told(n)["seconds"] for twin in twins for n in range(twin.book.done())]
    day_s = sum(known) / len(known) if known else day_s
    left = len(twins) * plan.days - done
    seconds = (len(seeds) * first_s + left * day_s) / min(jobs, len(plan.worlds))
    also = "; a retraining adds about as long as a world's beginning" if left else ""
    return (
        f"{len(plan.worlds)} worlds × {len(plan.arms)} arms × {plan.days} days, {left} days to "
        f"live, {len(seeds)} worlds to make: about {seconds / 60:.1f} min on {jobs} cores{also}"
    )


def _works(plan: Plan, folder: Path) -> list[Work]:
    """One per world."""
    works = []
    for family, seed in plan.worlds:
        told = json.dumps(asdict(plan) | {"families": [family], "seeds": [seed]})
        log = folder / f"{family}-{seed}" / "run.log"
        arguments = (str(folder), told)
        name = f"world {family}, seed {seed}"
        works.append(Work(name, "pipelines.loop.one_world", arguments, log))
    return works


def _committed(plan: Plan, folder: Path) -> int:
    """Days of all twins that are done."""
    twins = [twin for world in plan.worlds for twin in twins_of(folder, plan, *world)]
    return sum(min(twin.book.done(), plan.days) for twin in twins)
