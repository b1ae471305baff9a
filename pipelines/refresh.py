"""What happened goes into the lake, and what follows from it into the stores.

    event log -> lake -> batch and streaming features -> online store

python -m pipelines.refresh --now 2026-03-02T02:00:00+00:00 [--only-online]

A running shop does this once a day, when the day's rows are known, and before every training.
"""

import argparse
import json
from contextlib import closing
from datetime import datetime
from typing import Any

from infra.event_log import open_log
from infra.settings import Settings
from infra.workspace import Workspace
from pipelines.days import split_of
from pipelines.ingest import Log, ingest_log
from pipelines.materialize import materialize
from pipelines.run import make_features
from pipelines.steps import Steps
from pipelines.tell import rows_told


def refresh(
    workspace: Workspace, log: Log, engine: str, now: datetime, steps: Steps, hourly: bool = True
) -> dict[str, Any]:
    """Bring lake, offline store and online store up to `now`.

    Args:
        workspace: with a lake, however old.
        log: what serving accepted.
        engine: auto, spark or duckdb.
        now: nothing that becomes known later is served or trained on.
        steps: prints and times.
        hourly: as in `make_features`.

    Returns:
        rows as `ingest_log` counts them, and `data_until`, the newest positive's time (ISO).
    """
    with steps.step("log to lake", "what was served and what users did") as done:
        ingested = ingest_log(workspace, log)
        done.append(rows_told(ingested))
    made = make_features(workspace, engine, steps, now, hourly=hourly)
    return {
        "rows": ingested["rows"],
        "engine": made["features"]["engine"],
        "data_until": split_of(workspace).end.isoformat(),
    }


def main() -> None:
    """Command line of this step; prints the result as one line of JSON."""
    parser = argparse.ArgumentParser(prog="python -m pipelines.refresh", description=__doc__)
    parser.add_argument("--now", type=datetime.fromisoformat, required=True)
    parser.add_argument("--engine", choices=["auto", "spark", "duckdb"], default="auto")
    parser.add_argument("--only-online", action="store_true", help="the offline rows are there")
    asked = parser.parse_args()
    settings = Settings()
    workspace = Workspace.of(settings)
    if asked.only_online:
        print(json.dumps(materialize(workspace, asked.now)))
        return
    with closing(open_log(workspace, settings.partitions)) as log:
        print(json.dumps(refresh(workspace, log, asked.engine, asked.now, Steps())))


if __name__ == "__main__":
    main()
