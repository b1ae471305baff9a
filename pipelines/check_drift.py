"""Served features and scores against the bundle's reference; the evidence on which to retrain.

python -m pipelines.check_drift
"""

import json
from contextlib import closing
from dataclasses import asdict
from datetime import datetime
from typing import Any

import pandas as pd

from features.errors import NotReady
from infra.event_log import Reader, open_log
from infra.settings import Settings
from infra.workspace import Workspace
from models.versions import current, version_path
from monitoring.policy import decide

NEWEST = 1_000
"""Slates per partition that a running monitor looks at: more rows than the report compares."""


def check_drift(
    workspace: Workspace,
    log: Reader,
    since: datetime | None = None,
    until: datetime | None = None,
    newest: int | None = None,
) -> dict[str, Any]:
    """The drift report of what was served in [since, until), and the decision that it leads to.

    Args:
        workspace: with a promoted bundle.
        log: its topic `served` is read.
        since: None = from the beginning; slates of other bundles never count.
        until: None = to the end.
        newest: at most so many slates per partition, the newest; None = all.

    Raises:
        NotReady: no bundle has been promoted, or it has no ranker: then no features were served and
            there is no reference.
    """
    from monitoring.drift import SCORE, drift_report, served_frame

    bundle_id = current(workspace.bundles)
    if bundle_id is None:
        raise NotReady(
            f"data set '{workspace.name}' has no bundle; make one with: "
            f"shortlist run --dataset {workspace.name}"
        )
    path = version_path(workspace.bundles, bundle_id) / "reference.parquet"
    if not path.exists():
        raise NotReady(f"bundle {bundle_id} has no ranker, so there is nothing to compare with")
    reference = pd.read_parquet(path)
    columns = [name for name in reference.columns if name != SCORE]
    served = served_frame(log, since, until, bundle_id, newest, columns)
    drift = drift_report(reference, served, workspace.monitoring)
    return {"bundle": bundle_id, "drift": drift, "decision": asdict(decide(drift))}


def main() -> None:
    """Command line of this step; prints the result as one line of JSON."""
    settings = Settings()
    workspace = Workspace.of(settings)
    with closing(open_log(workspace, settings.partitions)) as log:
        try:
            print(json.dumps(check_drift(workspace, log, newest=NEWEST)))
        except NotReady as nothing:
            decision = {"retrain": False, "because": str(nothing), "blocked": False}
            print(json.dumps({"bundle": None, "drift": None, "decision": decision}))


if __name__ == "__main__":
    main()
