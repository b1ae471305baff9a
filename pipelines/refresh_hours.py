"""The hourly item features alone, between two daily refreshes.

    event log -> lake -> item_hourly, the hours that are missing or stale -> online store

python -m pipelines.refresh_hours --now 2026-03-02T14:10:00+00:00

A running shop does this every hour; the API notices and reads its items anew (serving/fresh_items.py).
"""

import argparse
import json
from contextlib import closing
from datetime import datetime
from typing import Any

from features.definitions import HOUR, VIEWS
from infra.event_log import open_log
from infra.settings import Settings
from infra.workspace import Workspace
from pipelines.build_features import build_batch, hours_between
from pipelines.ingest import Log, ingest_log
from pipelines.materialize import materialize

HOURS_KEPT_FRESH = 24
"""Hours that a late event still changes; older ones wait for the daily refresh."""


def refresh_hours(workspace: Workspace, log: Log, now: datetime) -> dict[str, Any]:
    """Bring the hourly item features up to `now`; what the daily refresh makes is left alone.

    Args:
        workspace: with a lake, however old.
        log: what serving accepted.
        now: hours that become known later are not computed.

    Returns:
        rows and computed of `build_batch`, and entities written online.
    """
    ingest_log(workspace, log)
    first = now.replace(minute=0, second=0, microsecond=0) - HOURS_KEPT_FRESH * HOUR
    # DuckDB whatever the days are computed by: a minute's work is not worth a start of Spark.
    built = build_batch(workspace, [], hours_between(first, now), "duckdb")
    hourly = [view.name for view in VIEWS.values() if view.source == "batch" and view.every == HOUR]
    return {**built, "online": materialize(workspace, now, hourly)["rows"]}


def main() -> None:
    """Command line of this step; prints the result as one line of JSON."""
    parser = argparse.ArgumentParser(prog="python -m pipelines.refresh_hours", description=__doc__)
    parser.add_argument("--now", type=datetime.fromisoformat, required=True)
    asked = parser.parse_args()
    settings = Settings()
    workspace = Workspace.of(settings)
    with closing(open_log(workspace, settings.partitions)) as log:
        print(json.dumps(refresh_hours(workspace, log, asked.now)))


if __name__ == "__main__":
    main()
