"""Batch features by increments: only what is missing or depends on a change, and equal to all anew."""

import json
import shutil
from datetime import timedelta

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from features.batch import midnight
from features.batch_sql import AGGREGATES
from features.definitions import BATCH_VIEWS
from features.schema import EVENTS
from infra.workspace import Workspace
from pipelines.build_features import build_batch, hours_between
from pipelines.increments import DEFINITION, DONE, LAKE, MISSING, newest
from pipelines.lake import append_events
from tests.features.small_lake import DAY, event, random_lake

DAYS = [(DAY - timedelta(days=back)).date() for back in range(3, -1, -1)]
HOURS = hours_between(midnight(DAYS[0]), DAY + timedelta(hours=2))
NOTHING: dict = {view: {} for view in BATCH_VIEWS}
DAILY = [view for view in BATCH_VIEWS if view != "item_hourly"]


@pytest.fixture
def workspace(tmp_path):
    workspace = Workspace(tmp_path, "small")
    random_lake(workspace.lake)
    return workspace


def built(workspace, days=DAYS, hours=HOURS):
    return build_batch(workspace, days, hours, "duckdb")["computed"]


def rows_of(workspace):
    return {
        view: pq.read_table(sorted(workspace.offline.glob(f"{view}/*.parquet")))
        for view in BATCH_VIEWS
    }


def add(workspace, days_before, **more):
    append_events(workspace.lake, pa.Table.from_pylist([event("new", days_before, **more)], EVENTS))


def equals_all_anew(workspace, tmp_path):
    anew = Workspace(tmp_path / "anew", "small")
    shutil.copytree(workspace.lake, anew.lake)
    built(anew)
    expected = rows_of(anew)
    return are_equal(rows_of(workspace), expected)


def are_equal(got, expected):
    """Integers exactly; sums of floats up to the order in which an engine adds them."""
    for view, table in expected.items():
        pd.testing.assert_frame_equal(got[view].to_pandas(), table.to_pandas(), rtol=1e-12)
    return True


def test_a_second_run_computes_nothing(workspace):
    assert built(workspace) == {v: {MISSING: len(DAYS)} for v in DAILY} | {
        "item_hourly": {MISSING: len(HOURS)}
    }
    files = sorted(workspace.offline.rglob("*"))
    times = [path.stat().st_mtime_ns for path in files if path.suffix == ".parquet"]
    assert built(workspace) == NOTHING
    assert times == [path.stat().st_mtime_ns for path in files if path.suffix == ".parquet"]


def test_a_day_that_is_asked_for_later_is_all_that_is_computed(workspace, tmp_path):
    built(workspace, DAYS[:-1], HOURS[:-5])
    later = built(workspace)
    assert later == {v: {MISSING: 1} for v in DAILY} | {"item_hourly": {MISSING: 5}}
    assert equals_all_anew(workspace, tmp_path)


def test_only_what_depends_on_a_change_is_computed(workspace, tmp_path):
    """An event of the day before yesterday came late."""
    built(workspace)
    add(workspace, 1.5, user_id="u1", item_id="i3")
    computed = built(workspace)
    assert {v: computed[v] for v in DAILY} == {
        v: {LAKE: 2} for v in DAILY
    }  # yesterday's and today's
    midnight_before = DAY - timedelta(days=2)
    assert computed["item_hourly"] == {LAKE: sum(hour > midnight_before for hour in HOURS)}
    assert equals_all_anew(workspace, tmp_path)


def test_a_changed_definition_computes_its_view_anew(workspace, monkeypatch):
    built(workspace)
    before = rows_of(workspace)["item_daily"]["item_positives_7d"]
    monkeypatch.setitem(AGGREGATES, "item_positives_7d", AGGREGATES["item_purchases_30d"])
    assert built(workspace) == NOTHING | {"item_daily": {DEFINITION: len(DAYS)}}
    assert not rows_of(workspace)["item_daily"]["item_positives_7d"].equals(before)
    assert built(workspace) == NOTHING


def test_stale_rows_that_nobody_asks_for_are_dropped(workspace, tmp_path):
    """A join would find them: what is not computed again must not stay."""
    built(workspace)
    add(workspace, 3.5, user_id="u1", item_id="i3")  # before the first day
    computed = built(workspace, DAYS[-1:], HOURS[-1:])
    assert {v: computed[v] for v in DAILY} == {v: {LAKE: 1} for v in DAILY}
    for view, table in rows_of(workspace).items():
        assert set(table["as_of"].to_pylist()) == {HOURS[-1] if view == "item_hourly" else DAY}


def test_a_crash_before_the_record_is_healed_by_a_second_run(workspace, tmp_path):
    built(workspace)
    expected = rows_of(workspace)
    for view in BATCH_VIEWS:  # the files were written, the record was not
        record = workspace.offline / view / DONE
        told = json.loads(record.read_text())
        told["moments"].popitem()
        record.write_text(json.dumps(told))
    assert built(workspace) == {view: {MISSING: 1} for view in BATCH_VIEWS}
    assert are_equal(rows_of(workspace), expected)


def test_the_newest_moment_on_record(workspace, tmp_path):
    assert newest(workspace.offline, "item_hourly") is None, "nobody runs it here"
    built(workspace)
    assert newest(workspace.offline, "item_hourly") == HOURS[-1]
    assert newest(workspace.offline, "item_daily") == DAY
