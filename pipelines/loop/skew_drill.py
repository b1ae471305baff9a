"""Days of the real funnel with and without a fault in what it reads, and whether `skew` names it.

A fault is put where it would be in life: between the stores and the funnel. Nothing that compares
knows of it.
"""

import json
import shutil
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from features.definitions import BY_COLUMN
from features.request import UserRow
from infra.workspace import Workspace
from monitoring.shown import Records
from monitoring.skew import VERDICTS, Slate, slate_of
from pipelines.loop import morning
from pipelines.loop.arms import ByShop
from pipelines.loop.day import live_through
from pipelines.loop.one_world import made
from pipelines.loop.pending import Pending
from pipelines.loop.plan import Plan
from pipelines.loop.shop import Shop
from pipelines.loop.twin import start_of
from pipelines.skew import make_offline, skew
from pipelines.world import truth as store
from pipelines.world.config import DEFAULT_FAMILY as FAMILY
from pipelines.world.generate import open_world
from pipelines.world.population import to_us

Fault = Callable[[UserRow], UserRow]
"""From what is known of a user to what the funnel gets to read."""

Progress = Callable[[str, int], AbstractContextManager[Callable[[int], None]]]


def _with(row: UserRow, **values: float) -> UserRow:
    return replace(row, values={**row.values, **values})


def wrong_window(row: UserRow) -> UserRow:
    """The count of 7 days under the name of that of 30."""
    return _with(row, positives_30d=row.values["positives_7d"])


def null_to_zero(row: UserRow) -> UserRow:
    """A user of whom nothing is known has been here a moment ago, it seems."""
    unknown = UserRow.unknown().values["user_idle_days"]
    if row.values["user_idle_days"] != unknown:
        return row
    return _with(row, user_idle_days=0.0)


def counted_twice(row: UserRow) -> UserRow:
    """A worker that added instead of replacing, and was restarted."""
    return _with(row, impressions_24h=2 * row.values["impressions_24h"])


FAULTS: Mapping[str, tuple[str, Fault]] = {
    "wrong_window": ("positives_30d", wrong_window),
    "null_to_zero": ("user_idle_days", null_to_zero),
    "counted_twice": ("impressions_24h", counted_twice),
}
"""Name -> the feature that it spoils, and how."""


@dataclass(slots=True)
class Crooked(Shop):
    """A shop whose reads go through a fault."""

    fault: Fault

    def user(self, user_id: str, now: datetime) -> UserRow:
        """What the funnel gets to read."""
        return self.fault(Shop.user(self, user_id, now))


Bent = Callable[[Shop], Shop]
"""From the shop of a morning to the one that serves that day."""


def straight(shop: Shop) -> Shop:
    """No fault."""
    return shop


def with_fault(fault: Fault) -> Bent:
    """A shop whose funnel reads users through a fault."""
    return lambda shop: Crooked(shop.bundle, shop.rows, shop.states, fault)


def lived(
    seedling: Path, home: Path, requests: int, bent: Bent = straight
) -> tuple[Workspace, list[Slate]]:
    """Let the arm `full` live until it has served enough, and bring its offline store up to that.

    Args:
        seedling: a world with its first bundle (one_world.made); copied.
        home: of the copy.
        requests: slates to return, the newest.
        bent: what is wrong with the shop.
    """
    shutil.copytree(seedling, home, ignore=shutil.ignore_patterns("responses", "reports"))
    workspace, world = Workspace(home, "world"), open_world(home)
    morning.moved(workspace)
    state, pending = store.load_state(home), Pending(store.load_pending(home))
    states, served, number = morning.first_states(workspace), Records(), 0
    while len(served) < requests:
        now = start_of(world, number)
        views = morning.batch_rows(workspace, now)
        if number:
            morning.renew(
                workspace, "full", "never", now - timedelta(days=1), now, views, [],
                world.truth.scale, world.truth.seed,
            )  # fmt: skip
        shop = bent(morning.opened(workspace, views, states, now))
        day = live_through(
            world.truth, state, pending, ByShop(world.truth, shop, "full"), "full", to_us(now)
        )
        served += day.served
        number += 1
        morning.take_in(workspace, world, day.events, start_of(world, number))
    slates = logged(served)[-requests:]
    make_offline(workspace, slates, "duckdb")
    return workspace, slates


def logged(served: Records) -> list[Slate]:
    """Slates as the log gives them back, oldest first."""
    records = (json.loads(json.dumps(value)) for _, value in served)
    slates = [slate for record in records if (slate := slate_of(record)) is not None]
    return sorted(slates, key=lambda slate: (slate.at, slate.request_id))


def run_drill(
    home: Path, requests: int, faulty: int, scale: str, seed: int, progress: Progress
) -> dict[str, Any]:
    """A clean run and one with each fault, all from one seedling.

    Args:
        home: `Settings.home`; worlds are made below `<home>/skew-drill`, and removed at the end.
        requests: of the clean run.
        faulty: of each of the others.
        scale: of the world.
        seed: of the world and the training.
        progress: makes a bar of a name and a total.

    Returns:
        By run: told (what `spoilt` should be and what was found), and what `skew` returns.
    """
    folder = home / "skew-drill"
    shutil.rmtree(folder, ignore_errors=True)
    plan = Plan(1, ("full",), "never", (FAMILY,), (seed,), scale)
    seedling = made(folder / "world", plan, FAMILY, seed)
    runs: dict[str, tuple[str | None, Bent, int]] = {
        "clean": (None, straight, requests),
        **{name: (spoilt, with_fault(fault), faulty) for name, (spoilt, fault) in FAULTS.items()},
    }
    found = {}
    for name, (spoilt, bent, count) in runs.items():
        workspace, slates = lived(seedling, folder / name, count, bent)
        with progress(name, len(slates)) as tell:
            told = skew(workspace, slates, tell=tell)
        found[name] = {"told": {"spoilt": spoilt, **shares(told)}, **told}
    shutil.rmtree(folder, ignore_errors=True)
    return found


def shares(told: Mapping[str, Any]) -> dict[str, Any]:
    """Of all values by dtype: how many are equal, explained and skewed; and what is named."""
    counts: dict[str, Counter[str]] = {"integers": Counter(), "floats": Counter()}
    for name, one in told["features"].items():
        kind = "floats" if BY_COLUMN[name].dtype == "float" else "integers"
        counts[kind].update({verdict: one[verdict] for verdict in ("rows", *VERDICTS)})
    return {
        **{
            kind: {verdict: count[verdict] / count["rows"] for verdict in VERDICTS}
            for kind, count in counts.items()
        },
        "named": {name: told["features"][name]["looks_like"] for name in told["over"]},
    }


def failures(found: Mapping[str, Any]) -> list[str]:
    """What a drill should have shown and did not."""
    missed = []
    for name, run in found.items():
        spoilt = run["told"]["spoilt"]
        expected = [] if spoilt is None else [spoilt]
        if run["over"] != expected:
            missed.append(f"{name}: expected {expected or 'nothing'}, found {run['over']}")
        worst = {column: one["skewed"] for column, one in run["features"].items() if one["skewed"]}
        if spoilt is None and worst:
            missed.append(f"{name}: skewed values of {', '.join(worst)}")
    return missed
