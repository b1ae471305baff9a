"""What MLflow remembers of a bundle: its run, its version in the registry, and which is champion."""

import logging
import os
from typing import Any

from infra.workspace import Workspace

# Before the import: no telemetry, no catalogue download, no git binary needed.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_MODEL_CATALOG_URI", "")
os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")


def log_bundle(
    workspace: Workspace,
    bundle_id: str,
    evaluation: dict[str, Any],
    promotion: dict[str, Any],
    seed: int,
) -> str:
    """Log one bundle with its evaluation; returns the run id.

    The registered model is named after the data set and carries the bundle's folder as source.
    `challenger` points at the newest version, `champion` at the one that serving was told to use.

    Interview: Registry and serving pointer: which one is the truth?
        The pointer file beside the bundles is what serving reads; the registry is the record of
        why. Serving must start and answer while MLflow is down, so nothing on the request path
        asks the registry.
        Trade-off: two places can disagree for a moment; the pointer wins, and the alias is
        written after it.
        Shown by: tests/pipelines/test_tracking.py::test_the_champion_alias_follows_the_promotion
    """
    import mlflow
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    for chatty in ("mlflow", "alembic"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    workspace.home.mkdir(parents=True, exist_ok=True)
    mlflow.set_tracking_uri(workspace.tracking_uri)
    client = MlflowClient()
    name = f"shortlist-{workspace.name}"
    experiment = client.get_experiment_by_name(name)
    experiment_id = (
        experiment.experiment_id
        if experiment
        else client.create_experiment(name, artifact_location=(workspace.home / "mlflow").as_uri())
    )
    run = client.create_run(experiment_id, run_name=bundle_id, tags={"bundle": bundle_id})
    run_id: str = run.info.run_id
    client.log_param(run_id, "seed", seed)
    for model, metrics in evaluation["models"].items():
        for metric, value in metrics.items():
            mean = value["mean"] if isinstance(value, dict) else value
            if mean is not None and mean == mean:
                client.log_metric(run_id, f"{model}.{metric}", float(mean))
    client.set_terminated(run_id)

    try:
        client.create_registered_model(name)
    except MlflowException as known:  # every run after the first
        if known.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    folder = workspace.bundles / "versions" / bundle_id
    version = client.create_model_version(name, source=folder.as_uri(), run_id=run_id)
    client.set_registered_model_alias(name, "challenger", version.version)
    if promotion["promoted"]:
        client.set_registered_model_alias(name, "champion", version.version)
    return run_id
