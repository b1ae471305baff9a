"""A/A through the whole stack: both halves get the same, so an interval that misses zero is wrong.

    visits -> fold, funnel -> log with arms -> validation -> lake -> slates -> interval

    python -m pipelines.loop.aa FOLDER FAMILY SEED RUNS SCALE

A run is some days of a world of its own luck, with users split by a salt of its own. Of intervals
that promise 95 %, five in a hundred may miss.
"""

import argparse
import json
import math
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from scipy.stats import binom

from infra.reports import write_json
from infra.workspace import Workspace
from monitoring.ab_test import lift
from monitoring.assignment import arm_of
from pipelines.ingest import ingest
from pipelines.lake import read_events
from pipelines.loaders.tables import Tables
from pipelines.loop import morning
from pipelines.loop.arms import ByShop
from pipelines.loop.day import live_through
from pipelines.loop.one_world import made
from pipelines.loop.pending import Pending
from pipelines.loop.plan import Plan
from pipelines.loop.processes import Work, side_by_side
from pipelines.loop.shop import Shop
from pipelines.loop.twin import start_of
from pipelines.world import truth as store
from pipelines.world.config import FAMILIES
from pipelines.world.generate import INFO, World, open_world
from pipelines.world.population import to_us

DAYS = 3
"""Of each run: at tiny, some hundred users in each half."""

LEVEL = 0.95

RUNS_PER_WORLD = 20
"""Of one bundle; each run has visits and a split of its own."""


@dataclass(frozen=True, slots=True)
class Interval:
    """What one run's experiment says about arms that do not differ."""

    family: str
    seed: int
    run: int
    mean: float
    low: float
    high: float
    users: int

    @property
    def misses(self) -> bool:
        """Whether zero, the truth, lies outside."""
        return not self.low <= 0 <= self.high


def measure(home: Path, runs: int, scale: str, jobs: int) -> list[Interval]:
    """All runs, over worlds of every family, each with a line of its own.

    Args:
        home: `Settings.home`; worlds are made below `<home>/aa`.
        runs: in all.
        scale: of the worlds.
        jobs: worlds at a time.
    """
    folder = home / "aa"
    shutil.rmtree(folder, ignore_errors=True)
    works = []
    for seed in seeds_of(runs):
        family = FAMILIES[seed % len(FAMILIES)]
        count = min(RUNS_PER_WORLD, runs - seed * RUNS_PER_WORLD)
        place = folder / f"{family}-{seed}"
        arguments = (str(place), family, str(seed), str(count), scale)
        works.append(Work(place.name, "pipelines.loop.aa", arguments, place / "run.log"))

    def found() -> list[Path]:
        return sorted(folder.glob("*/run-*.json"))

    side_by_side(works, jobs, "A/A runs", runs, lambda: len(found()))
    return [Interval(**json.loads(path.read_text())) for path in found()]


def seeds_of(runs: int) -> list[int]:
    """Seeds of the worlds that so many runs take."""
    return list(range(math.ceil(runs / RUNS_PER_WORLD)))


def runs_in(home: Path, runs: int) -> Iterator[Interval]:
    """Run after run in one made world.

    Args:
        home: of a world with its first bundle (one_world.made); only a folder `aa` is added.
        runs: how many.
    """
    world, workspace = open_world(home), Workspace(home, "world")
    now = start_of(world, 0)
    shop = morning.opened(workspace, morning.batch_rows(workspace, now), {}, now)
    for number in range(runs):
        shop.states = morning.first_states(workspace)
        experiment = f"aa-{world.truth.seed}-{number}"
        events = _lived(world, shop, experiment, stream=number + 1)
        found = lift(_through_the_lake(world, home / "aa", events, experiment), number)
        users = int(found["full_users"] + found["popular_users"])
        who = (world.truth.config.family, world.truth.seed, number)
        yield Interval(*who, found["mean"], found["low"], found["high"], users)


def _lived(world: World, shop: Shop, experiment: str, stream: int) -> pd.DataFrame:
    """The log of some days on which everybody gets the full line, whatever their arm is called."""

    def arms(user_id: str) -> dict[str, str]:
        return {experiment: arm_of(user_id, experiment, salt="")}

    state, pending = store.load_state(world.home), Pending(store.load_pending(world.home))
    logs = []
    for day in range(DAYS):
        arm, start_us = ByShop(world.truth, shop, "full", arms), to_us(start_of(world, day))
        lived = live_through(world.truth, state, pending, arm, experiment, start_us, stream)
        logs.append(lived.events)
    return pd.concat(logs)


def verdict(intervals: list[Interval]) -> dict[str, Any]:
    """The share of intervals that miss zero, and between which shares it must lie.

    Returns:
        runs, missed, share, bound_low, bound_high (central 95 % of a binomial with 5 %), ok.

    Interview: Before your first A/B test: how do you know that the platform itself is honest?
        Run the same thing against itself, many times. Five in a hundred intervals may miss zero;
        fifteen say that assignment, logging, joins or the variance are wrong, and every A/B result
        so far was.
        Trade-off: it takes as many experiments as digits one wants; a real platform reruns the
        split offline on logged days, which tests the statistics and not the assignment.
        Shown by: tests/pipelines/loop/test_aa.py::test_too_narrow_intervals_are_found
    """
    runs, missed = len(intervals), sum(interval.misses for interval in intervals)
    low, high = binom.interval(0.95, runs, 1 - LEVEL)
    return {
        "runs": runs,
        "missed": missed,
        "share": missed / runs,
        "bound_low": low / runs,
        "bound_high": high / runs,
        "ok": bool(low <= missed <= high),
    }


def _through_the_lake(
    world: World, home: Path, events: pd.DataFrame, experiment: str
) -> pd.DataFrame:
    """Log, validation, lake, and back: one row per slate as an analyst would count them."""
    shutil.rmtree(home, ignore_errors=True)
    workspace, now = Workspace(home, "aa"), start_of(world, DAYS)
    ingest(workspace, Tables(events, world.items(now), world.users(now), INFO), now=now)
    slates = slates_of(workspace.lake, experiment)
    shutil.rmtree(home)
    return slates


def slates_of(lake: Path, experiment: str) -> pd.DataFrame:
    """user_id, arm and clicks of every slate of an experiment."""
    columns = ["event_type", "request_id", "user_id", "event_id", "arms"]
    events = read_events(lake, columns=columns)
    shown = events[events["event_type"] == "impression"].drop_duplicates("request_id")
    arms = shown["arms"].map(lambda text: json.loads(text or "{}").get(experiment))
    clicks = events[events["event_type"] == "click"].groupby("request_id").size()
    found = shown[["request_id", "user_id"]].assign(
        arm=arms, clicks=shown["request_id"].map(clicks).fillna(0).astype(int)
    )
    return found[found["arm"].notna()]


def main() -> None:
    """Command line of one world: makes it, and writes one file per run."""
    parser = argparse.ArgumentParser(prog="python -m pipelines.loop.aa", description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("family", choices=FAMILIES)
    parser.add_argument("seed", type=int)
    parser.add_argument("runs", type=int)
    parser.add_argument("scale")
    asked = parser.parse_args()
    plan = Plan(1, ("full",), "never", (asked.family,), (asked.seed,), asked.scale)
    home = made(asked.folder / "world", plan, asked.family, asked.seed)
    for interval in runs_in(home, asked.runs):
        write_json(asked.folder / f"run-{interval.run:03d}.json", asdict(interval))


if __name__ == "__main__":
    main()
