"""One world of a loop, from nothing to its last day: a process of its own.

python -m pipelines.loop.one_world FOLDER PLAN, the plan as JSON with one family and one seed.
"""

import json
import os
import shutil
import sys
from pathlib import Path

from pydantic import TypeAdapter

from infra.workspace import Workspace
from pipelines.bootstrap import fresh_world
from pipelines.lock import only_one
from pipelines.loop.morning import ENGINE
from pipelines.loop.plan import Plan, twins_of
from pipelines.loop.twin import born, live
from pipelines.run import judge, make_features, train
from pipelines.steps import Steps


def main() -> None:
    """Command line of this step; what it makes lies in the folder."""
    folder, told, parent = Path(sys.argv[1]), json.loads(sys.argv[2]), os.getppid()
    plan: Plan = TypeAdapter(Plan).validate_python(told)
    (family, seed), *_ = plan.worlds

    def still_wanted() -> None:
        if os.getppid() != parent:
            sys.exit("whoever asked for this is gone; another loop may begin in this folder")

    place = folder / f"{family}-{seed}"
    with only_one(Workspace(place, "world"), "a loop's world", wait=True):
        seedling = made(place / "world", plan, family, seed)
        for twin in twins_of(folder, plan, family, seed):
            still_wanted()
            born(seedling, twin)
            live(twin, plan.days, still_wanted)


def made(seedling: Path, plan: Plan, family: str, seed: int) -> Path:
    """The world with its logged past, in the lake, and the first bundle; made once."""
    if (seedling / "made").exists():
        return seedling
    shutil.rmtree(seedling, ignore_errors=True)
    workspace, steps = Workspace(seedling, "world"), Steps()
    fresh_world(workspace, plan.scale, seed, family=family, preset=plan.preset)
    make_features(workspace, ENGINE, steps, hourly=False)
    train(workspace, plan.scale, seed, steps)
    judge(workspace, seed, steps)
    (seedling / "made").touch()
    return seedling


if __name__ == "__main__":
    main()
