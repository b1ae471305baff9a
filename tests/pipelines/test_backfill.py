"""A feature that is new today is there for every day of the past, and moves nothing else."""

from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest

from features import definitions
from features.batch import AS_OF, midnight
from features.batch_sql import AGGREGATES
from features.definitions import BATCH_VIEWS, BY_COLUMN, FEATURES, RETIRED, Feature
from features.point_in_time import item_matrix
from features.store import OnlineStore
from infra.clients import open_feast
from infra.workspace import Workspace
from pipelines.build_features import build_batch, hours_between
from pipelines.increments import DEFINITION
from pipelines.lake import read_events
from pipelines.materialize import apply_views, materialize
from tests.features.small_lake import DAY, random_lake
from tests.pipelines.test_increments import NOTHING, rows_of

DAYS = [(DAY - timedelta(days=back)).date() for back in range(3, -1, -1)]
HOURS = hours_between(DAY, DAY + timedelta(hours=4))
NOW = DAY + timedelta(hours=5)
ITEMS = [f"i{number}" for number in range(10)]

CLICKS = Feature("item_clicks_7d", "item_daily", "int", "events", 0.0, timedelta(days=7), "clicks")
OLD = BY_COLUMN["item_positives_7d"]
NEW = replace(OLD, version=2, meaning="purchases alone")


@pytest.fixture
def workspace(tmp_path):
    workspace = Workspace(tmp_path, "small")
    random_lake(workspace.lake)
    assert built(workspace) != NOTHING
    return workspace


def built(workspace):
    return build_batch(workspace, DAYS, HOURS, "duckdb")["computed"]


def files(workspace):
    """When each file of rows was written."""
    return {
        path: path.stat().st_mtime_ns
        for view in BATCH_VIEWS
        for path in workspace.offline.glob(f"{view}/*.parquet")
    }


def test_a_new_feature_is_backfilled_over_history_and_old_columns_stay(workspace, monkeypatch):
    before, written = rows_of(workspace), files(workspace)
    monkeypatch.setattr(definitions, "FEATURES", (*FEATURES, CLICKS))
    monkeypatch.setitem(AGGREGATES, CLICKS.column, AGGREGATES["item_purchases_30d"].replace(
        "purchases", "clicks"))  # fmt: skip
    assert built(workspace) == NOTHING | {"item_daily": {DEFINITION: len(DAYS)}}
    assert built(workspace) == NOTHING

    after = rows_of(workspace)
    for view, table in before.items():
        assert after[view].select(table.column_names).equals(table), view
    anew = {path for path, at in files(workspace).items() if written[path] != at}
    assert {path.parent.name for path in anew} == {"item_daily"}

    rows = after["item_daily"].select(["item_id", AS_OF, CLICKS.column]).to_pylist()
    assert {row[AS_OF].date() for row in rows} == set(DAYS)
    clicks = read_events(workspace.lake).query("event_type == 'click'")
    for row in rows:  # by hand, as of each day of the past
        since = row[AS_OF] - timedelta(days=7)
        inside = (clicks["event_at"] >= since) & (clicks["event_at"] < row[AS_OF])
        counted = (inside & (clicks["item_id"] == row["item_id"])).sum()
        assert row[CLICKS.column] == counted, row
    assert any(row[CLICKS.column] for row in rows)

    store = open_feast(workspace)
    apply_views(store, workspace.offline)
    moments = [midnight(day) + timedelta(hours=3) for day in DAYS]
    past = item_matrix(store, ITEMS, moments, [CLICKS])  # as a training set reads it
    told = {(row["item_id"], row[AS_OF]): row[CLICKS.column] for row in rows}
    for day, moment in zip(DAYS, moments, strict=True):
        expected = [told.get((item, midnight(day)), CLICKS.default) for item in ITEMS]
        assert past[moment][:, 0].tolist() == expected
    materialize(workspace, NOW)
    online = OnlineStore(open_feast(workspace)).read_items(ITEMS, NOW, [CLICKS]).matrix
    np.testing.assert_array_equal(online, past[moments[-1]])


def test_a_new_version_stands_beside_the_old_one_in_every_row_of_the_past(workspace, monkeypatch):
    before = rows_of(workspace)
    others = [f for f in FEATURES if f != OLD]
    monkeypatch.setattr(definitions, "FEATURES", (*others, NEW))
    monkeypatch.setattr(definitions, "RETIRED", (*RETIRED, OLD))
    monkeypatch.setitem(AGGREGATES, NEW.column, AGGREGATES["item_purchases_30d"])
    assert built(workspace) == NOTHING | {"item_daily": {DEFINITION: len(DAYS)}}
    after = rows_of(workspace)["item_daily"]
    assert after.select(before["item_daily"].column_names).equals(before["item_daily"])
    assert after[NEW.column].to_pylist() != after[OLD.column].to_pylist()
    materialize(workspace, NOW)
    online = OnlineStore(open_feast(workspace)).read_items(ITEMS, NOW, [OLD, NEW]).matrix
    newest = after.filter(after[AS_OF].to_numpy() == np.datetime64(DAY.replace(tzinfo=None)))
    stored = {row["item_id"]: row for row in newest.to_pylist()}
    for place, item in enumerate(ITEMS):
        if item in stored:
            assert online[place].tolist() == [stored[item][f.column] for f in (OLD, NEW)]
