"""The drill for `forget-user`: a shop that runs, a user who leaves, and all that could bring them back.

    past -> lake -> features -> online store -> bundle; live events -> log -> worker -> online store
    forget; then: replay of the log, a rebuilt store, features again, the next bundle, a rollback

Every part is the real one. What is left is counted by bytes (pipelines/traces.py), not by the code that
removes them.
"""

import json
import shutil
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pandas as pd

from features.schema import DatasetInfo
from infra.event_log import EventLog, open_log
from infra.reports import write_json
from infra.spool import Spool
from infra.workspace import Workspace
from models.versions import current
from pipelines.build_features import build_features
from pipelines.days import feature_days, serve_from, split_of
from pipelines.forget import forget
from pipelines.ingest import ingest, ingest_log
from pipelines.lake import OFFSETS
from pipelines.loaders.tables import Tables
from pipelines.materialize import materialize
from pipelines.promote import promote, publish_popular, rollback
from pipelines.rebuild import rebuild
from pipelines.stream_thread import worked_off
from pipelines.traces import traces

PARTITIONS = 2
USERS, ITEMS, DAYS = 24, 12, 6
PAST_EVENTS, LIVE_EVENTS = 900, 120
END = datetime(2026, 3, 1, tzinfo=UTC)
KINDS = ("impression", "click", "purchase")
POSITIVE = ("click", "purchase")

PLACES = {
    "online": ("feast", "redis"),
    "offline": ("lake", "offline"),
    "bundle": ("bundles", "training", "sample_users.json"),
    "state": ("state",),
    "log": ("log", "spool"),
}
"""What is counted together, by the first part of a path in the workspace; `other` is the rest."""


@dataclass(frozen=True, slots=True)
class Drilled:
    """What the drill found."""

    user_id: str
    before: Mapping[str, int]  # place -> traces while they were a user
    naive: Mapping[str, int]  # after removing their online rows alone, and a rebuild
    after: Mapping[str, int]  # after forget-user
    later: Mapping[str, int]  # after everything that could bring them back
    others: int  # rows of other users that forgetting changed
    seconds: float  # of forget-user
    receipt: Mapping[str, Any]


def drill(workspace: Workspace, seed: int) -> Drilled:
    """Run it in an empty workspace."""
    victim = f"leaver-{seed:04d}-{np.random.default_rng(seed).integers(16**8):08x}"
    opened(workspace, seed, victim)
    before = by_place(traces(workspace, victim), workspace)
    with closing(open_log(workspace, PARTITIONS)) as log:
        naive = _naive(workspace, victim)
        rows = _rows_of_others(workspace, victim)
        receipt = forget(workspace, victim, PARTITIONS, END, settle_s=0.0)
        others = abs(rows - _rows_of_others(workspace, victim))
        after = by_place(traces(workspace, victim), workspace)
        what_could_bring_him_back(workspace, log, seed, victim)
    later = by_place(traces(workspace, victim), workspace)
    return Drilled(victim, before, naive, after, later, others, receipt["seconds"], receipt)


def opened(workspace: Workspace, seed: int, victim: str) -> None:
    """A shop with a past, a bundle and an hour of live events; `victim` is one of its users."""
    rng = np.random.default_rng(seed)
    users = [f"u{number:02d}" for number in range(USERS)] + [victim]
    past = _events(rng, users, PAST_EVENTS, END - timedelta(days=DAYS), END, "past")
    info = DatasetInfo(workspace.name, POSITIVE, has_impressions=True)
    known = pd.DataFrame({"user_id": users})
    ingest(workspace, Tables(pd.DataFrame(past), _items(), known, info), now=END)
    _features(workspace)
    promote(workspace, publish_popular(workspace))
    live = _events(rng, users, LIVE_EVENTS, END, END + timedelta(hours=1), "live")
    live += [{**live[0], "user_id": victim, "event_id": f"live-by-{kind}"} for kind in "abc"]
    late = {**live[-1], "event_id": "live-late", "event_at": (END - timedelta(days=1)).isoformat()}
    with closing(open_log(workspace, PARTITIONS)) as log:
        log.append("events", [(e["user_id"], e) for e in [*live, live[-1], late]])
        log.append("events", [(victim, {"user_id": victim, "event_type": "nonsense"})])
        log.append("served", [(e["user_id"], _served(e)) for e in live if e["position"]])
        worked_off(workspace, log, POSITIVE)
        ingest_log(workspace, log)
    _features(workspace)
    write_json(workspace.reports / "recount.json", {"metrics": {"examples": [{"id": victim}]}})
    if workspace.services is not None:
        with closing(Spool(workspace.spool / "api.sqlite", 10**6)) as spool:
            spool.append("events", [(victim, {**live[-1], "event_id": "waits"})])


def what_could_bring_him_back(workspace: Workspace, log: EventLog, seed: int, victim: str) -> None:
    """Replay, second ingest, rebuild, backfill, next bundle, rollback, and an event of their own."""
    shutil.rmtree(workspace.state)
    (workspace.lake / OFFSETS).unlink()
    log.append("events", [(victim, {"user_id": victim, "event_id": "comes-back"})])
    worked_off(workspace, log, POSITIVE)
    ingest_log(workspace, log)
    source = _events(np.random.default_rng(seed), [victim, "u00"], 20, END, END, "file")
    tables = Tables(pd.DataFrame(source), None, None, DatasetInfo(workspace.name, POSITIVE))
    ingest(workspace, tables, now=END)
    shutil.rmtree(workspace.offline)
    _features(workspace)
    rebuild(workspace, serve_from(split_of(workspace)), PARTITIONS, empty=True)
    first = current(workspace.bundles)
    promote(workspace, publish_popular(workspace), force=True)
    assert rollback(workspace)["bundle"] == first


def by_place(found: Mapping[str, int], workspace: Workspace) -> dict[str, int]:
    """Traces by the names of PLACES, and `other`; 0 where there are none."""
    counts = dict.fromkeys([*PLACES, "other"], 0)
    root = str(workspace.root.relative_to(workspace.home)) + "/"
    for path, count in found.items():
        top = path.removeprefix(root).split("/")[0]
        counts[next((p for p, tops in PLACES.items() if top in tops), "other")] += count
    return counts


def _naive(workspace: Workspace, victim: str) -> dict[str, int]:
    """What is left when somebody deletes the rows that are online, and the store is filled again."""
    from infra.erase import erase_online

    erase_online(workspace, victim)
    rebuild(workspace, serve_from(split_of(workspace)), PARTITIONS)
    return by_place(traces(workspace, victim), workspace)


def _features(workspace: Workspace) -> None:
    split = split_of(workspace)
    days = feature_days(split)[-2:]
    build_features(workspace, days, "duckdb", hourly=False)
    materialize(workspace, serve_from(split))


def _rows_of_others(workspace: Workspace, victim: str) -> int:
    """Events in the lake that are not theirs."""
    files = (workspace.lake / "events").rglob("*.parquet")
    return sum(int((pd.read_parquet(p, columns=["user_id"]) != victim).sum().sum()) for p in files)


def _events(
    rng: np.random.Generator, users: list[str], n: int, start: datetime, end: datetime, name: str
) -> list[dict[str, Any]]:
    """Impressions, clicks and purchases, evenly over users and time."""
    spans = np.sort(rng.uniform(0, 1, n))
    kinds = rng.choice(KINDS, n, p=(0.6, 0.3, 0.1))
    return [
        {
            "event_id": f"{name}-{number}",
            "event_type": str(kinds[number]),
            "user_id": users[number % len(users)],
            "item_id": f"i{rng.integers(ITEMS):02d}",
            "session_id": None,
            "request_id": f"{number:08x}",
            "position": 1 + number % 5 if kinds[number] == "impression" else None,
            "event_at": (start + spans[number] * (end - start)).isoformat(),
            "seen_at": (start + spans[number] * (end - start)).isoformat(),
            "value": 9.5 if kinds[number] == "purchase" else None,
            "context": json.dumps({"device": "web"}),
        }
        for number in range(n)
    ]


def _items() -> pd.DataFrame:
    ids = [f"i{number:02d}" for number in range(ITEMS)]
    category = ["books" if number % 2 else "games" for number in range(ITEMS)]
    return pd.DataFrame({"item_id": ids, "title": ids, "category": category, "price": 9.5})


def _served(event: Mapping[str, Any]) -> dict[str, Any]:
    """What monitoring/shown.py writes of a slate."""
    return {
        "request_id": event["request_id"], "served_at": event["event_at"],
        "user_id": event["user_id"], "bundle": "none", "arm": "full", "rung": 0,
        "item_ids": [event["item_id"]], "scores": [0.5], "features": [[0.1, 0.2]],
    }  # fmt: skip
