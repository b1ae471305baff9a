"""The check between ingest and training, through the real steps: what fails blocks, and says why."""

import json
import shutil
from datetime import UTC, date, datetime, timedelta

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from features.definitions import BATCH_VIEWS
from features.schema import EVENTS
from infra.workspace import Workspace
from models.versions import current
from pipelines.bootstrap import fresh_world
from pipelines.build_features import build_features
from pipelines.check_quality import BadBatch, check_quality, failed_batch
from pipelines.cli import app
from pipelines.days import feature_days, serve_from, split_of
from pipelines.promote import promote, publish_popular
from pipelines.run import train
from pipelines.steps import Steps
from tests.pipelines.test_monitor import Clock, Script, count, scripted


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    """A simulated shop's past in a lake, with its features."""
    workspace = Workspace(tmp_path_factory.mktemp("quality"), "world")
    fresh_world(workspace, "tiny", seed=3)
    split = split_of(workspace)
    build_features(workspace, feature_days(split), "duckdb", serve_from(split))
    return workspace


@pytest.fixture
def workspace(shop, tmp_path):
    """A copy of the lake, to break."""
    shutil.copytree(shop.lake, Workspace(tmp_path, "world").lake)
    return Workspace(tmp_path, "world")


def newest_file(workspace):
    return sorted((workspace.lake / "events").rglob("*.parquet"))[-1]


def break_newest(workspace, change) -> date:
    """Change the newest day behind the pipeline's back."""
    path = newest_file(workspace)
    events = change(pq.read_table(path, partitioning=None).to_pandas())
    pq.write_table(pa.Table.from_pandas(events, EVENTS, preserve_index=False), path)
    return date.fromisoformat(path.parent.name.removeprefix("event_date="))


def without_places(events: pd.DataFrame) -> pd.DataFrame:
    return events.assign(position=None)


def test_a_simulated_past_is_healthy(shop):
    checked = check_quality(shop)
    assert checked["passed"], checked["because"]
    assert checked["warned"] == []
    days = [batch for batch in checked["batches"] if batch.startswith("events ")]
    assert len(days) == 7
    assert {*checked["batches"]} - {*days} == {*BATCH_VIEWS}
    report = json.loads((shop.reports / "quality.json").read_text())
    assert report["metrics"] == checked


def test_feature_rows_that_cannot_be_block_too(workspace, shop):
    shutil.copytree(shop.offline, workspace.offline)
    path = sorted((workspace.offline / "item_daily").glob("*.parquet"))[-1]
    rows = pq.read_table(path, partitioning=None).to_pandas()
    rows.loc[:4, "item_click_rate_30d"] = 7.0
    rows.to_parquet(path, index=False)
    (finding,) = check_quality(workspace)["failed"]
    assert (finding["check"], finding["column"]) == ("range", "item_click_rate_30d")
    assert finding["found"] == "5 rows, such as 7.0"
    assert finding["expected"] == "0 … 1 (probability)"


def test_a_failed_batch_blocks_training_and_says_why(workspace):
    """Through the step that `shortlist run`, `train` and the demo take."""
    day = break_newest(workspace, without_places)
    with pytest.raises(BadBatch, match=f"training is blocked: events {day}: nulls of position "
                       "is 1, expected about 0 .*mend it at the source"):  # fmt: skip
        train(workspace, "tiny", 3, Steps())
    assert not workspace.training.exists()


def test_a_failed_batch_blocks_promotion_until_it_is_mended(workspace):
    healthy = newest_file(workspace).read_bytes()
    bundle = publish_popular(workspace)
    break_newest(workspace, lambda events: events.iloc[::40])
    check_quality(workspace)
    refused = promote(workspace, bundle)
    assert not refused["promoted"]
    assert refused["verdict"].startswith("refused: the data is in doubt: events ")
    assert current(workspace.bundles) is None
    newest_file(workspace).write_bytes(healthy)
    check_quality(workspace)
    assert failed_batch(workspace) is None
    assert promote(workspace, bundle)["promoted"]


def test_a_verdict_about_another_lake_blocks_nothing(workspace):
    break_newest(workspace, without_places)
    check_quality(workspace)
    assert failed_batch(workspace)
    break_newest(workspace, lambda events: events.iloc[1:])
    assert failed_batch(workspace) is None


def test_the_monitor_trains_on_nothing_in_doubt(tmp_path):
    script = Script(check_quality={"passed": False, "because": "events 2026-07-14: volume"})
    monitor = scripted(tmp_path, Clock(datetime(2026, 7, 15, 9, 30, tzinfo=UTC)), script)
    assert monitor.round(), "a blocked training is no failure of the monitor"
    assert "check_quality" in script.asked
    assert {"train_retrieval", "challenge"}.isdisjoint(script.asked)
    assert count(monitor, "shortlist_monitor_trainings_total", outcome="blocked") == 1
    assert monitor.memory.outcome == "blocked"
    assert monitor.memory.because == "events 2026-07-14: volume"
    before = len(script.asked)
    monitor.round()
    assert "check_quality" not in script.since(before), "it looks again later"


def test_stale_data_fails_where_the_shop_is_open(shop):
    now = serve_from(split_of(shop))
    assert check_quality(shop, now)["passed"]
    checked = check_quality(shop, now + timedelta(days=4))
    assert {finding["check"] for finding in checked["failed"]} == {"freshness"}
    assert {finding["batch"].split()[0] for finding in checked["failed"]} == {
        "events", *BATCH_VIEWS
    }  # fmt: skip
    check_quality(shop)


def test_the_command_ends_with_one_and_a_day_can_be_accepted(workspace, monkeypatch):
    monkeypatch.setenv("SHORTLIST_HOME", str(workspace.home))
    day = break_newest(workspace, without_places)
    ended = CliRunner().invoke(app, ["quality"])
    assert ended.exit_code == 1
    assert not json.loads((workspace.reports / "quality.json").read_text())["metrics"]["passed"]
    ended = CliRunner().invoke(app, ["quality", "--accept", str(day)])
    assert ended.exit_code == 0, ended.output
    metrics = json.loads((workspace.reports / "quality.json").read_text())["metrics"]
    assert [finding["check"] for finding in metrics["warned"]] == ["nulls"]
