"""What MLflow remembers of a bundle: its run, its version in the registry, and which is champion.

    note      a bundle was published, and what the gate said -> training/untracked/<id>.json
    follow    notes -> runs and versions; the alias `champion` -> what the pointer names
    try_follow   the same for who must go on when MLflow is away

A note is written before MLflow is asked and removed when it has answered, so that a registry that is
away delays the record and loses none of it.

python -m pipelines.tracking --dataset world
"""

import argparse
import json
import logging
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

from features.errors import ContractError
from infra.reports import write_json
from infra.settings import Settings
from infra.workspace import Workspace
from models.manifest import read_manifest
from models.versions import current, version_path

# Before the import: no telemetry, no catalogue download, no git binary needed; and whoever waits for
# a server that is away waits for seconds, not for its four minutes.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_MODEL_CATALOG_URI", "")
os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "15")

VERSIONS_READ = 1_000
"""Newest registered versions among which a bundle is looked for."""


def note(workspace: Workspace, bundle_id: str, **facts: Any) -> None:
    """Remember that a bundle is to be recorded; `facts` (seed, verdict, ...) become parameters."""
    write_json(_notes(workspace) / f"{bundle_id}.json", {"bundle": bundle_id, **facts})


def waiting(workspace: Workspace) -> list[Path]:
    """Notes that MLflow does not have yet, oldest first."""
    return sorted(_notes(workspace).glob("[0-9a-f]*.json"), key=lambda path: path.stat().st_mtime)


def follow(workspace: Workspace) -> dict[str, Any]:
    """Record what was noted, and point `champion` at what serving was told to use.

    The registered model is named after the data set; a version's tags say which bundle it is and
    where it lies. `challenger` points at the newest bundle that was noted. A bundle that the registry
    has already is not recorded twice, so this may be repeated at any time.

    Returns:
        recorded: ids that were new; champion: the pointer's id, or None before the first one.

    Raises:
        Exception: whatever MLflow's client raises when it gets no answer; what is left is retried.

    Interview: Registry and serving pointer: which one is the truth?
        The pointer file beside the bundles is what serving reads; the registry is the record of
        why. Serving must start and answer while MLflow is down, so nothing on the request path
        asks the registry.
        Trade-off: two places can disagree for a moment; the pointer wins, and the alias is
        written after it.
        Shown by: tests/pipelines/test_tracking.py::test_the_champion_alias_follows_promotion_and_rollback
    """
    registry = _Registry(workspace)
    recorded = []
    for path in waiting(workspace):
        facts = json.loads(path.read_text())
        with suppress(ContractError):  # the bundle was removed since: there is nothing to record
            version, is_new = registry.version_of(facts.pop("bundle"), facts)
            recorded += [path.stem] if is_new else []
            registry.point("challenger", version)
        path.unlink()
    champion = current(workspace.bundles)
    if champion is not None:
        version, is_new = registry.version_of(champion, {})
        recorded += [champion] if is_new else []
        registry.point("champion", version)
    return {"recorded": recorded, "champion": champion}


def try_follow(workspace: Workspace) -> str:
    """`follow`, and one sentence about it; a registry that is away is told, not raised."""
    try:
        told = follow(workspace)
    except Exception as error:  # its client raises many kinds; none may cost a promotion
        return (
            f"not recorded: {workspace.tracking_uri} gave {type(error).__name__}; "
            "the monitor or the next command repeats it"
        )
    return f"champion {told['champion']}" if told["champion"] else "nothing promoted yet"


class _Registry:
    """One data set's experiment and registered model."""

    def __init__(self, workspace: Workspace) -> None:
        import mlflow
        from mlflow import MlflowClient

        for chatty in ("mlflow", "alembic"):
            logging.getLogger(chatty).setLevel(logging.WARNING)
        workspace.home.mkdir(parents=True, exist_ok=True)
        mlflow.set_tracking_uri(workspace.tracking_uri)
        self._client, self._bundles = MlflowClient(), workspace.bundles
        self._name = f"shortlist-{workspace.name}"
        # A server has its own place for artifacts; the embedded database must be told, or it takes
        # the folder that somebody happened to start from.
        self._artifacts = None if workspace.services else (workspace.home / "mlflow").as_uri()

    def version_of(self, bundle_id: str, facts: dict[str, Any]) -> tuple[str, bool]:
        """Number of the version that is this bundle, and whether it had to be recorded."""
        found = self._client.search_model_versions(
            f"name = '{self._name}'", max_results=VERSIONS_READ
        )
        known = [int(v.version) for v in found if v.tags.get("bundle") == bundle_id]
        return (str(max(known)), False) if known else (self._record(bundle_id, facts), True)

    def point(self, alias: str, version: str) -> None:
        """Set the alias, unless it points there already."""
        aliases = self._client.get_registered_model(self._name).aliases
        if str(aliases.get(alias)) != version:
            self._client.set_registered_model_alias(self._name, alias, version)

    def _record(self, bundle_id: str, facts: dict[str, Any]) -> str:
        """A run with parameters and metrics, and a version that leads to the bundle.

        A server refuses a path of its machine as source: it would serve any file that somebody
        names. So the source is the run, and the tag `path` says where the bundle lies.
        """
        path = version_path(self._bundles, bundle_id)
        manifest = read_manifest(path)
        tags = {
            "bundle": bundle_id,
            "path": str(path),
            **{key: str(manifest[key]) for key in ("as_of", "trained_until", "items")},
            **{f"absent.{part}": why for part, why in manifest["absent"].items()},
        }
        run = self._client.create_run(self._experiment(), run_name=bundle_id, tags=tags)
        run_id: str = run.info.run_id
        for key, value in facts.items():
            if value not in (None, ""):
                self._client.log_param(run_id, key, value)
        for metric, mean in _means(manifest["metrics"].get("models", {})):
            self._client.log_metric(run_id, metric, mean)
        self._client.set_terminated(run_id)
        self._ensure_model()
        version = self._client.create_model_version(
            self._name, source=f"runs:/{run_id}/bundle", run_id=run_id, tags=tags
        )
        return str(version.version)

    def _experiment(self) -> str:
        known = self._client.get_experiment_by_name(self._name)
        if known is not None:
            return str(known.experiment_id)
        return str(self._client.create_experiment(self._name, artifact_location=self._artifacts))

    def _ensure_model(self) -> None:
        from mlflow.exceptions import MlflowException

        try:
            self._client.create_registered_model(self._name)
        except MlflowException as known:  # every run after the first
            if known.error_code != "RESOURCE_ALREADY_EXISTS":
                raise


def _means(models: dict[str, dict[str, Any]]) -> list[tuple[str, float]]:
    """(model.metric, mean) of all that have a value."""
    found = [
        (f"{model}.{metric}", value["mean"] if isinstance(value, dict) else value)
        for model, metrics in models.items()
        for metric, value in metrics.items()
    ]
    return [(name, float(mean)) for name, mean in found if mean is not None and mean == mean]


def _notes(workspace: Workspace) -> Path:
    return workspace.training / "untracked"


def main() -> None:
    """Command line of this step; prints the result as one line of JSON."""
    parser = argparse.ArgumentParser(prog="python -m pipelines.tracking", description=__doc__)
    parser.add_argument("--dataset", default=None)
    asked = parser.parse_args()
    settings = Settings(dataset=asked.dataset) if asked.dataset else Settings()
    try:
        print(json.dumps(follow(Workspace.of(settings))))
    except ContractError as error:
        raise SystemExit(str(error)) from error


if __name__ == "__main__":
    main()
