"""The line, from a filled lake to a promoted bundle; every caller takes the same steps.

    features -> materialize -> train -> evaluate -> publish -> promote

The world, the public data sets and a stranger's file differ only before the lake.
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

from features.errors import RecommenderError
from infra.workspace import Workspace
from pipelines.days import feature_days, serve_from, split_of
from pipelines.ingest import ingest
from pipelines.steps import Steps
from pipelines.world.generate import WORLD_END, World, make_world


def fresh_world(
    workspace: Workspace, scale: str, seed: int, **named: str
) -> tuple[World, dict[str, Any]]:
    """A new simulated shop in an empty lake: two worlds in one lake would be no world at all.

    `named` are family and preset, as `make_world` has them.
    """
    for stale in (workspace.root, workspace.home / "truth" / workspace.name):
        shutil.rmtree(stale, ignore_errors=True)
    world = make_world(workspace.home, scale, seed, WORLD_END, **named)
    return world, ingest(workspace, world.history(), now=WORLD_END)


def make_features(workspace: Workspace, engine: str, steps: Steps) -> dict[str, Any]:
    """Batch and streaming features of the needed days, then the online store."""
    from pipelines.build_features import build_features
    from pipelines.materialize import materialize

    split = split_of(workspace)
    days = feature_days(split)
    with steps.step("features", f"{len(days)} days, 90-day window") as done:
        built = build_features(workspace, days, engine)
        done.append(f"engine {built['engine']}")
    with steps.step("materialize", "offline rows into the online store") as done:
        materialized = materialize(workspace, serve_from(split))
        done.append(f"as of {serve_from(split):%Y-%m-%d %H:%M} UTC")
    return {"features": built, "materialize": materialized}


def train(workspace: Workspace, scale: str, seed: int, steps: Steps) -> dict[str, Any]:
    """Retrieval, then the ranker on rows whose labels come after their features.

    Interview: Why does each trainer run in a process of its own?
        torch and LightGBM both bring an OpenMP runtime, and on some systems two of them in one
        process crash. A process per step also returns its memory and leaves serving without torch.
        Trade-off: a few seconds of imports per step, and results pass through files.
        Shown by: tests/pipelines/test_run.py::test_torch_and_lightgbm_never_share_a_process
    """
    from pipelines.train_ranker import train_ranker

    split = split_of(workspace)
    with steps.step("train retrieval", "two-tower, in-batch softmax with logQ") as done:
        retrieval = run_module(
            "pipelines.train_retrieval",
            ["--dataset", workspace.name, "--scale", scale, "--seed", str(seed)],
            {"SHORTLIST_HOME": str(workspace.home)},
        )
        told = retrieval["retrieval-for-bundle"]
        done.append(told.get("absent") or f"{told['positives']} positives with a past")
    with steps.step("train ranker", "LightGBM on point-in-time rows") as done:
        ranker = train_ranker(workspace, split, scale, seed)
        done.append(_told(ranker))
    return {"retrieval": retrieval, "ranker": ranker}


def finish(workspace: Workspace, seed: int, steps: Steps, force: bool = False) -> dict[str, Any]:
    """Evaluate, publish, and promote when the gate lets it pass."""
    from pipelines.evaluate import evaluate
    from pipelines.promote import promote, publish_bundle
    from pipelines.tracking import log_bundle

    with steps.step("evaluate", "every baseline beside the models") as done:
        evaluation = evaluate(workspace, split_of(workspace), seed)
        done.append(f"{evaluation['counts']['users']} test users")
    with steps.step("publish", "bundle, manifest, gate, pointer") as done:
        bundle_id = publish_bundle(workspace)
        promotion = promote(workspace, bundle_id, force=force)
        done.append(f"{bundle_id}: {promotion['verdict']}")
    with steps.step("track", "MLflow run, registered version, alias"):
        log_bundle(workspace, bundle_id, evaluation, promotion, seed)
    return {"evaluation": evaluation, "bundle": bundle_id, "promotion": promotion}


def run_line(
    workspace: Workspace, scale: str, seed: int, engine: str, steps: Steps
) -> dict[str, Any]:
    """All steps after the lake is filled."""
    made = make_features(workspace, engine, steps)
    trained = train(workspace, scale, seed, steps)
    return {**made, **trained, **finish(workspace, seed, steps)}


def run_module(module: str, arguments: list[str], environment: Mapping[str, str]) -> dict[str, Any]:
    """Run one step as `python -m`; its progress is shown as it comes.

    Returns:
        The JSON of the last line that it printed.

    Raises:
        RecommenderError: the step failed; it has printed why.
    """
    ended = subprocess.run(
        [sys.executable, "-m", module, *arguments],
        env={**os.environ, **environment}, stdout=subprocess.PIPE, text=True, check=False,
    )  # fmt: skip
    if ended.returncode:
        raise RecommenderError(f"python -m {module} ended with {ended.returncode}; see above")
    result: dict[str, Any] = json.loads(ended.stdout.splitlines()[-1])
    return result


def _told(result: Mapping[str, Any]) -> str:
    return "; ".join(
        f"{key} {value}" for key, value in result.items() if not isinstance(value, dict | list)
    )[:120]
