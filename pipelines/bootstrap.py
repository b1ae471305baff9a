"""A shop that answers, out of nothing: a simulated past, a lake, a popular list.

    make the world -> lake -> where the stream's states begin -> popular bundle -> promote

Every step finds what an earlier, broken run left and goes on from there; once a bundle is promoted
there is nothing to do. Only this file, the demo and the command line may open the world.
"""

import shutil
from datetime import UTC, datetime, time, timedelta
from typing import Any

from features.errors import ContractError
from infra.workspace import Workspace
from models.versions import current
from pipelines.days import known_day, serve_from, split_of
from pipelines.ingest import ingest
from pipelines.lake import read_info
from pipelines.lock import only_one
from pipelines.materialize import seed as seed_states
from pipelines.promote import promote, publish_popular
from pipelines.steps import Steps
from pipelines.stream_history import write_stream_history
from pipelines.tell import rows_told
from pipelines.tracking import note
from pipelines.world.config import configure
from pipelines.world.generate import WORLD_END, World, make, make_world, open_world

SHOP = "world"
"""The data set that can be made; others are ingested."""

HALF_MADE = timedelta(days=1)
"""A world whose past ends this much too early is one that a run before midnight began."""


def bootstrap(
    workspace: Workspace, scale: str, seed: int, now: datetime, steps: Steps
) -> dict[str, Any]:
    """Make what the API needs for its first answer, unless it is there.

    Args:
        workspace: maybe empty, maybe half made.
        scale: tiny, small or full; of a world that is not there yet.
        seed: likewise.
        now: UTC. The logged past ends at the last midnight whose batch rows are known by now.
        steps: prints and times.

    Returns:
        bundle: the promoted one; made: False where it was there already.

    Raises:
        ContractError: an empty lake of another data set than the simulated shop.

    Interview: Compose restarts your set-up job, half-way or twice. What must it not do?
        Start again: every step is one that can be repeated, and the last one, a rename of one
        file, is what says "done". So no step needs to know how far the last run came, and a
        second run of a finished one reads a single file.
        Trade-off: repeating costs the time of the steps; a marker per step would save it, and
        would have to be trusted.
        Shown by: tests/pipelines/test_bootstrap.py::test_a_crash_at_any_step_is_healed_by_another_run
    """
    with only_one(workspace, "bootstrap", wait=True):
        if (there := current(workspace.bundles)) is not None:
            return {"bundle": there, "made": False}
        if not (workspace.lake / "dataset.json").exists():  # what ingest writes last
            _fill(workspace, scale, seed, now, steps)
        with steps.step("stream states", "where the stream worker takes every user up") as done:
            done.append(f"{_seed_states(workspace)} users")
        with steps.step("publish", "what everybody wants, until a model is trained") as done:
            bundle_id = publish_popular(workspace)
            promotion = promote(workspace, bundle_id)
            note(workspace, bundle_id, verdict=promotion["verdict"])
            done.append(f"{bundle_id}: {promotion['verdict']}")
    return {"bundle": bundle_id, "made": True}


def fresh_world(
    workspace: Workspace, scale: str, seed: int, end: datetime = WORLD_END, **changes: Any
) -> tuple[World, dict[str, Any]]:
    """A new simulated shop in an empty lake: two worlds in one lake would be no world at all.

    `changes` are family, preset and single parameters, as `configure` has them.

    Raises:
        ContractError: no world can be so; what was there before is still there.
    """
    config = configure(scale, seed, **changes)
    shutil.rmtree(workspace.root, ignore_errors=True)
    if workspace.services is not None:
        from infra.clients import clear_online

        clear_online(workspace)  # rows of the world before lie in no folder of ours
    world = make(config, workspace.home, end)
    return world, ingest(workspace, world.history(), now=end)


def world_end(now: datetime) -> datetime:
    """The last midnight (UTC) whose batch rows are known at `now`.

    Examples:
        >>> world_end(datetime(2026, 3, 2, 1, 30, tzinfo=UTC)).isoformat()
        '2026-03-01T00:00:00+00:00'
    """
    return datetime.combine(known_day(now), time(), UTC)


def _fill(workspace: Workspace, scale: str, seed: int, now: datetime, steps: Steps) -> None:
    """World and lake. Nothing but the lake is removed: the API may be writing to the log already."""
    if workspace.name != SHOP:
        raise ContractError(
            f"the lake of '{workspace.name}' is empty, and only '{SHOP}' can be made; "
            f"ingest your own data with: shortlist run --name {workspace.name} --events FILE"
        )
    with steps.step("world", f"a simulated shop at scale {scale}, seed {seed}") as done:
        world = _half_made(workspace, scale, seed, now)
        if world is None:
            shutil.rmtree(workspace.lake, ignore_errors=True)
            world = make_world(workspace.home, scale, seed, world_end(now))
        done.append(f"its past ends {world.truth.end:%Y-%m-%d %H:%M} UTC")
    with steps.step("ingest", "validate, quarantine, lake") as done:
        done.append(rows_told(ingest(workspace, world.history(), now=world.truth.end)))


def _half_made(workspace: Workspace, scale: str, seed: int, now: datetime) -> World | None:
    """The world that an earlier run began; None where there is none, or one of another making."""
    try:
        world = open_world(workspace.home)
    except ContractError:
        return None
    truth = world.truth
    recent = timedelta() <= world_end(now) - truth.end <= HALF_MADE
    return world if (truth.scale, truth.seed) == (scale, seed) and recent else None


def _seed_states(workspace: Workspace) -> int:
    """Fold the past once, so that the stream worker knows each user from the first event on."""
    after = serve_from(split_of(workspace))  # all of it: the last slate may follow the last click
    write_stream_history(workspace, after, read_info(workspace.lake).positive_types)
    return seed_states(workspace, after)
