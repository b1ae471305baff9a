"""What the platform of one arm does at two in the night: yesterday into the lake, rows, a new model.

It is at work once a day: what changes by the hour (`item_hourly`) stands at its defaults, in training
as in serving.

yesterday's log and today's catalogue -> lake -> the day's batch rows
full      and, by the policy: features of all days -> train -> evaluate -> gate -> pointer
popular   counts again what was wanted
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, Literal

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from features.batch import Wanted, rows_duckdb
from features.definitions import ITEM_VIEWS, Feature
from features.errors import NotReady
from features.streaming import State
from infra.clients import open_feast
from infra.duck import open_duckdb
from infra.event_log import Record
from infra.workspace import Workspace
from models.bundle import load
from models.versions import current, point_to, version_path
from monitoring.shown import Records
from pipelines.build_features import build_features
from pipelines.check_drift import check_drift
from pipelines.days import feature_days, known_day, split_of
from pipelines.ingest import ingest
from pipelines.known_rows import newest
from pipelines.lake import read_info
from pipelines.loaders.tables import Tables
from pipelines.loop.shop import BatchRows, Shop
from pipelines.materialize import apply_views
from pipelines.position_curves import curves_of
from pipelines.promote import Daily, publish_popular, refresh_bundle
from pipelines.run import judge, train
from pipelines.steps import Steps
from pipelines.stream_history import STATES
from pipelines.world.generate import INFO, World

Retrain = Literal["daily", "never", "policy"]

Views = Mapping[str, pa.Table]
"""Batch view -> rows with the schema of features/batch.py."""

ENGINE = "duckdb"
"""Equal to Spark's rows by test, and quicker where a day has thousands of events."""


def take_in(workspace: Workspace, world: World, events: pd.DataFrame, now: datetime) -> None:
    """Yesterday's log, and items and users as the platform knows them now; repeating adds nothing."""
    ingest(workspace, Tables(events, world.items(now), world.users(now), INFO), now=now)


def batch_rows(workspace: Workspace, now: datetime) -> Views:
    """The newest batch rows that are known by now; the same SQL as in every night of the platform."""
    positive_types = read_info(workspace.lake).positive_types
    wanted = Wanted(positive_types, [known_day(now)])
    wanted = replace(wanted, curves=curves_of(workspace, wanted.weeks))
    with open_duckdb() as connection:
        return rows_duckdb(connection, workspace.lake, wanted)


def renew(
    workspace: Workspace,
    arm: str,
    retrain: Retrain,
    since: datetime,
    now: datetime,
    views: Views,
    served: Records,
    scale: str,
    seed: int,
) -> dict[str, Any]:
    """Let the arm take in what it can of its own log; its pointer moves.

    Args:
        workspace: of the arm; its lake holds everything up to `now`.
        arm: full or popular.
        retrain: daily, never, or policy = when the drift report of yesterday says so.
        since: when yesterday began.
        now: when the day begins.
        views: from `batch_rows`.
        served: yesterday's slates with the features that were read.
        scale: of epochs and queries.
        seed: of the training.

    Returns:
        because, retrained, promoted, verdict, bundle (what answers today).
    """  # fmt: skip
    if arm == "popular":
        point_to(workspace.bundles, publish_popular(workspace))
        told = {"because": "every night", "retrained": False, "promoted": True}
        return {**told, "verdict": "counted anew", "bundle": current(workspace.bundles)}
    because, wanted = _decision(workspace, retrain, since, now, served)
    told = {"because": because, "retrained": wanted, "promoted": False}
    verdict = "the same weights over today's data"
    if wanted:
        judged = _challenge(workspace, now, because, scale, seed)
        told["promoted"], verdict = judged["promoted"], judged["verdict"]
    if not told["promoted"]:
        point_to(workspace.bundles, refresh_bundle(workspace, now, _items(views, now)))
    return {**told, "verdict": verdict, "bundle": current(workspace.bundles)}


def opened(workspace: Workspace, views: Views, states: dict[str, State], now: datetime) -> Shop:
    """The shop of the day: the bundle that the pointer names, and the batch rows known by now."""
    bundle_id = current(workspace.bundles)
    assert bundle_id is not None, f"{workspace.bundles} has no bundle; the loop begins with one"
    bundle = load(version_path(workspace.bundles, bundle_id))
    return Shop(bundle, BatchRows.known(views, now), states)


def first_states(workspace: Workspace) -> dict[str, State]:
    """Where the stream worker would take every user up after the logged past."""
    table = pq.read_table(workspace.offline / f"{STATES}.parquet")
    states = zip(table["user_id"].to_pylist(), table["state"].to_pylist(), strict=True)
    return {user_id: json.loads(state) for user_id, state in states}


def moved(workspace: Workspace) -> None:
    """Tell Feast where a copied workspace's offline store lies now."""
    apply_views(open_feast(workspace), workspace.offline)


def _items(views: Views, now: datetime) -> Daily:
    """Item features from this night's rows, as the feature store would join them."""
    rows = {view: newest(views, view, now) for view in ITEM_VIEWS if view in views}

    def daily(item_ids: Sequence[str], columns: Sequence[Feature]) -> np.ndarray:
        values = np.tile([f.default for f in columns], (len(item_ids), 1)).astype(np.float64)
        for place, feature in enumerate(columns):
            for row, item_id in enumerate(item_ids):
                if found := rows.get(feature.view, {}).get((item_id,)):
                    values[row, place] = found[1][feature.column]
        return values

    return daily


def _decision(
    workspace: Workspace, retrain: Retrain, since: datetime, now: datetime, served: Records
) -> tuple[str, bool]:
    if retrain == "never":
        return "never, as asked", False
    if retrain == "daily":
        return "every day", True
    try:
        checked = check_drift(workspace, _Served(served), since, now)
    except NotReady as nothing:
        return str(nothing), False
    return checked["decision"]["because"], checked["decision"]["retrain"]


def _challenge(
    workspace: Workspace, now: datetime, because: str, scale: str, seed: int
) -> dict[str, Any]:
    """The line after the lake, as of now; the gate decides."""
    steps = Steps()
    build_features(workspace, feature_days(split_of(workspace), now), ENGINE, hourly=False)
    moved(workspace)
    train(workspace, scale, seed, steps)
    found: dict[str, Any] = judge(workspace, seed, steps, now, because)["promotion"]
    return found


class _Served:
    """Yesterday's `served` records where the drift check looks for the event log's topic."""

    partitions = 1

    def __init__(self, records: Records) -> None:
        self._records = records

    def end_offset(self, topic: str, partition: int) -> int:
        """How many there are."""
        return len(self._records)

    def read(self, topic: str, partition: int, offset: int, limit: int) -> list[Record]:
        """Some of them."""
        some = self._records[offset : offset + limit]
        return [Record(offset + place, key, value) for place, (key, value) in enumerate(some)]
