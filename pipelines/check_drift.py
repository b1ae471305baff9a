"""Served features and scores against the bundle's reference; the evidence on which to retrain."""

from dataclasses import asdict
from datetime import datetime
from typing import Any

import pandas as pd

from features.errors import NotReady
from infra.event_log import EventLog
from infra.workspace import Workspace
from models.bundle import current
from monitoring.policy import decide


def check_drift(
    workspace: Workspace,
    log: EventLog,
    since: datetime | None = None,
    until: datetime | None = None,
) -> dict[str, Any]:
    """The drift report of what was served in [since, until), and the decision that it leads to.

    Raises:
        NotReady: no bundle has been promoted, so nothing was served and there is no reference.
    """
    from monitoring.drift import drift_report, served_frame

    bundle_id = current(workspace.bundles)
    if bundle_id is None:
        raise NotReady(
            f"data set '{workspace.name}' has no bundle; make one with: "
            f"shortlist run --dataset {workspace.name}"
        )
    reference = pd.read_parquet(workspace.bundles / "versions" / bundle_id / "reference.parquet")
    drift = drift_report(
        reference, served_frame(log, since, until, bundle_id), workspace.monitoring
    )
    return {"bundle": bundle_id, "drift": drift, "decision": asdict(decide(drift))}
