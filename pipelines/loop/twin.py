"""One arm's life: night, day, night, day, from wherever it stands to the last day asked for."""

import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from features.definitions import BATCH_LAG
from features.streaming import State as StreamState
from infra.workspace import Workspace
from models.versions import current, point_to
from pipelines.loop import morning
from pipelines.loop.arms import Arm, ByShop, Oracle
from pipelines.loop.book import Book, measured
from pipelines.loop.day import Day, live_through
from pipelines.loop.morning import Retrain
from pipelines.loop.pending import Pending
from pipelines.loop.wire import live_over_http
from pipelines.world import truth as store
from pipelines.world.generate import World, open_world
from pipelines.world.population import to_us
from pipelines.world.truth import State

ARMS = ("popular", "full", "oracle")
"""What everybody is shown, the trained line, and what only the truth could choose."""

Over = Literal["process", "http"]


@dataclass(frozen=True, slots=True)
class Twin:
    """One arm of one world: a home of its own, where nothing of another arm ever arrives."""

    home: Path
    name: str
    retrain: Retrain
    over: Over = "process"

    @property
    def workspace(self) -> Workspace:
        """Lake, features and bundles of this arm."""
        return Workspace(self.home, "world")

    @property
    def book(self) -> Book:
        """Its days."""
        return Book(self.home / "book")

    @property
    def learns(self) -> bool:
        """Whether it has a platform at all; the oracle knows without."""
        return self.name != "oracle"


def born(seedling: Path, twin: Twin) -> None:
    """Copy the world and its platform as they stand after the logged past."""
    if (twin.home / "born").exists():
        return
    shutil.rmtree(twin.home, ignore_errors=True)
    shutil.copytree(seedling, twin.home, ignore=shutil.ignore_patterns("responses", "reports"))
    morning.moved(twin.workspace)
    (twin.home / "born").touch()


def live(twin: Twin, days: int, tell: Callable[[], None] = lambda: None) -> None:
    """Let the arm live until `days` days are committed.

    A day depends on the one before and on the configuration alone, so a run that was killed
    anywhere, and went on, ends with the same log as one that was not.

    Args:
        twin: born.
        days: in all.
        tell: called after each commit.
    """
    world = open_world(twin.home)
    for number in range(twin.book.done(), days):
        _one_day(twin, world, number)
        tell()


def start_of(world: World, number: int) -> datetime:
    """When day `number` begins: once last night's batch rows are known."""
    return world.truth.end + BATCH_LAG + timedelta(days=number)


def _one_day(twin: Twin, world: World, number: int) -> None:
    since, now = time.monotonic(), start_of(world, number)
    state, pending, streams = _yesterday(twin, number)
    told, views = _night(twin, world, number, now)
    twin.book.begin(number, told)
    day = _lived(twin, world, state, pending, streams, views, now)
    who = {"family": world.truth.config.family, "seed": world.truth.seed, "arm": twin.name}
    what = {
        **who, "day": number, "date": now.date().isoformat(),
        **measured(day, world.truth, to_us(now)),
        "bundle": told["bundle"],
        "morning": told if number and twin.learns else None,
        "seconds": round(time.monotonic() - since, 3),
    }  # fmt: skip
    twin.book.commit(number, day, world.truth, state, pending, streams, what)


def _yesterday(twin: Twin, number: int) -> tuple[State, Pending, dict[str, StreamState]]:
    """Users' memory, what has not arrived, and the streams' states."""
    if number:
        return twin.book.state(number - 1)
    pending = Pending(store.load_pending(twin.home))
    streams = morning.first_states(twin.workspace) if twin.learns else {}
    return store.load_state(twin.home), pending, streams


def _night(
    twin: Twin, world: World, number: int, now: datetime
) -> tuple[dict[str, Any], morning.Views]:
    """What the platform learned from yesterday, and the rows of this night.

    What was written down of an earlier run's night is not learned again.
    """
    if not twin.learns:
        return {"bundle": None}, {}
    workspace, before = twin.workspace, twin.book.morning(number)
    if number and before is None:
        point_to(workspace.bundles, twin.book.told(number - 1)["bundle"])
        events = pd.read_parquet(twin.book.day(number - 1) / "events.parquet")
        morning.take_in(workspace, world, events, now)
    views = morning.batch_rows(workspace, now)
    if before is not None:
        point_to(workspace.bundles, before["bundle"])
    elif number:
        before = morning.renew(
            workspace, twin.name, twin.retrain, now - timedelta(days=1), now,
            views, twin.book.served(number - 1), world.truth.scale, world.truth.seed,
        )  # fmt: skip
    return before or {"bundle": current(workspace.bundles)}, views


def _lived(
    twin: Twin, world: World, state: State, pending: Pending, streams: dict[str, StreamState],
    views: morning.Views, now: datetime,
) -> Day:  # fmt: skip
    if twin.over == "http":  # the stream worker remembers for itself
        return live_over_http(world.truth, state, pending, twin.workspace, now, twin.name)
    arm: Arm = Oracle(world.truth, state)
    if twin.learns:
        shop = morning.opened(twin.workspace, views, streams, now)
        arm = ByShop(world.truth, shop, twin.name)
    return live_through(world.truth, state, pending, arm, twin.name, to_us(now))
