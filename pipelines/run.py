"""The line, from a filled lake to a promoted bundle; every caller takes the same steps.

    features -> materialize -> quality -> train -> evaluate -> publish -> promote

The world, the public data sets and a stranger's file differ only before the lake.
"""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

from features.errors import RecommenderError
from infra.spark import LOCAL_MASTER
from infra.workspace import Workspace
from pipelines.days import feature_days, serve_from, split_of
from pipelines.steps import Steps

if TYPE_CHECKING:  # the command line must not wait for what it brings
    from features.point_in_time import Leak


def make_features(
    workspace: Workspace,
    engine: str,
    steps: Steps,
    now: datetime | None = None,
    master: str = LOCAL_MASTER,
    hourly: bool = True,
) -> dict[str, Any]:
    """Batch and streaming features of the needed days, then the online store.

    Args:
        workspace: with a filled lake.
        engine: auto, spark or duckdb.
        steps: prints and times.
        now: when serving reads them; None = the first night after the data.
        master: of Spark.
        hourly: False = a platform at work once a day; what changes by the hour stays at its defaults.
    """
    from pipelines.build_features import build_features
    from pipelines.materialize import materialize

    split = split_of(workspace)
    days, moment = feature_days(split, now), now or serve_from(split)
    with steps.step("features", f"{len(days)} days, 90-day window") as done:
        built = build_features(workspace, days, engine, moment, master, hourly)
        done.append(f"engine {built['engine']}")
    with steps.step("materialize", "offline rows into the online store") as done:
        materialized = materialize(workspace, moment)
        done.append(f"as of {moment:%Y-%m-%d %H:%M} UTC")
    return {"features": built, "materialize": materialized}


def train(
    workspace: Workspace, scale: str, seed: int, steps: Steps, leak: "Leak" = "none"
) -> dict[str, Any]:
    """Retrieval, then the ranker on rows whose labels come after their features.

    Interview: Why does each trainer run in a process of its own?
        torch and LightGBM both bring an OpenMP runtime, and on some systems two of them in one
        process crash. A process per step also returns its memory and leaves serving without torch.
        Trade-off: a few seconds of imports per step, and results pass through files.
        Shown by: tests/pipelines/test_run.py::test_torch_and_lightgbm_never_share_a_process
    """
    from pipelines.check_quality import require_quality

    with steps.step(
        "check data", "the newest days and feature rows, before anything learns"
    ) as done:
        done.append(require_quality(workspace))
    with steps.step("train retrieval", "two-tower, in-batch softmax with logQ") as done:
        retrieval = run_module(
            "pipelines.train_retrieval",
            ["--dataset", workspace.name, "--scale", scale, "--seed", str(seed)],
            {"SHORTLIST_HOME": str(workspace.home)},
        )
        told = retrieval["retrieval-for-bundle"]
        done.append(told.get("absent") or f"{told['positives']} positives with a past")
    return {"retrieval": retrieval, "ranker": rank(workspace, scale, seed, steps, leak)}


def rank(
    workspace: Workspace, scale: str, seed: int, steps: Steps, leak: "Leak" = "none"
) -> dict[str, Any]:
    """The ranker, over the towers that were trained before; stages the bundle."""
    from pipelines.train_ranker import train_ranker

    with steps.step("train ranker", "LightGBM on point-in-time rows") as done:
        ranker = train_ranker(workspace, split_of(workspace), scale, seed, leak=leak)
        done.append(_told(ranker))
    return ranker


def finish(workspace: Workspace, seed: int, steps: Steps) -> dict[str, Any]:
    """Evaluate, publish, promote when the gate lets it pass, and record it in MLflow."""
    from pipelines.tracking import try_follow

    finished = judge(workspace, seed, steps)
    with steps.step("track", "MLflow run, registered version, alias") as done:
        done.append(try_follow(workspace))
    return finished


def judge(
    workspace: Workspace, seed: int, steps: Steps, now: datetime | None = None, because: str = ""
) -> dict[str, Any]:
    """Evaluate what is staged, publish it, and promote when the gate lets it pass.

    Args:
        workspace: with a staged bundle.
        seed: of the evaluation; noted for MLflow.
        steps: prints and times.
        now: as of when the bundle is published; None = the first night after the data.
        because: why it was trained; noted for MLflow.
    """
    from pipelines.evaluate import evaluate
    from pipelines.promote import promote, publish_bundle
    from pipelines.tracking import note

    with steps.step("evaluate", "every baseline beside the models") as done:
        evaluation = evaluate(workspace, split_of(workspace), seed)
        done.append(f"{evaluation['counts']['users']} test users")
    with steps.step("publish", "bundle, manifest, gate, pointer") as done:
        bundle_id = publish_bundle(workspace, now)
        promotion = promote(workspace, bundle_id)
        note(workspace, bundle_id, seed=seed, verdict=promotion["verdict"], because=because)
        done.append(f"{bundle_id}: {promotion['verdict']}")
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
