"""From nothing to a shop that answers, once, twice, and after a crash at any step."""

import json
import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pandas as pd
import pytest

import pipelines.bootstrap as module
from features.errors import ContractError
from infra.settings import Settings
from infra.workspace import Workspace
from models.bundle import current, load, version_path
from pipelines.bootstrap import bootstrap, world_end
from pipelines.days import split_of
from pipelines.lake import read_events, read_items
from pipelines.lock import only_one
from pipelines.materialize import SEED
from pipelines.steps import Steps
from pipelines.tracking import waiting
from pipelines.world.generate import open_world
from tests.serving.conftest import Shop, running

NOW = datetime(2026, 7, 15, 9, 30, tzinfo=UTC)
MIDNIGHT = datetime(2026, 7, 15, tzinfo=UTC)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("home")
    bootstrap(Workspace(home, "world"), "tiny", 3, NOW, Steps())
    return home


@pytest.fixture
def workspace(home: Path) -> Workspace:
    return Workspace(home, "world")


def test_the_past_ends_at_the_last_midnight_whose_rows_are_known(workspace: Workspace) -> None:
    newest = read_events(workspace.lake, columns=["event_at"])["event_at"].max()
    assert MIDNIGHT - timedelta(hours=2) < newest < MIDNIGHT
    # Half past one is before the lag of two hours: yesterday's rows are not known yet.
    assert world_end(datetime(2026, 7, 15, 1, 30, tzinfo=UTC)) == MIDNIGHT - timedelta(days=1)


def test_what_was_not_trained_is_absent_with_the_reason(workspace: Workspace) -> None:
    bundle_id = current(workspace.bundles)
    assert bundle_id is not None
    bundle = load(version_path(workspace.bundles, bundle_id))
    assert set(bundle.absent) == {"ranker", "two_tower", "covisitation"}
    assert set(bundle.absent.values()) == {"not trained yet"}
    assert bundle.ranker is bundle.tower is bundle.covisitation is None
    assert len(json.loads(workspace.sample_users.read_text())) == 50
    events = read_events(workspace.lake, MIDNIGHT - timedelta(days=1.3))
    wanted = events[events["event_type"].isin(bundle.info.positive_types)]["item_id"]
    top = bundle.catalogue.item_ids[bundle.popular[:3]]
    assert wanted.isin(top).sum() > 3 * len(wanted) / len(bundle.popular)


def test_the_api_answers_and_says_what_is_missing(home: Path) -> None:
    settings = Settings(home=home, dataset="world", deadline_ms=1000, features_timeout_ms=1000)
    with running(Shop(settings)) as client:
        user_id = client.get("/v1/users").json()["users"][0]["user_id"]
        told = client.post("/v1/recommendations", json={"user_id": user_id, "k": 10}).json()
    assert len(told["items"]) == 10
    assert told["rung"] >= 1
    assert {item["source"] for item in told["items"]} == {"popular"}
    assert set(told["degraded"]) & {"ranker", "features"}
    assert told["reasons"]


def test_the_stream_worker_takes_users_up_where_the_past_left_them(workspace: Workspace) -> None:
    with closing(sqlite3.connect(workspace.state / SEED)) as seeds:
        states = dict(seeds.execute("SELECT user_id, state FROM states"))
    events = read_events(workspace.lake, columns=["user_id", "event_type", "item_id"])
    clicks = events[events["event_type"] == "click"]
    user = clicks["user_id"].iloc[-1]
    assert clicks["item_id"].iloc[-1] in json.loads(states[user])["history_items"]


def test_a_second_run_changes_nothing(workspace: Workspace) -> None:
    before = tree(workspace.root)
    again = bootstrap(workspace, "small", 99, NOW + timedelta(days=9), Steps())
    assert again == {"bundle": current(workspace.bundles), "made": False}
    assert tree(workspace.root) == before


@pytest.mark.parametrize(
    "crashes_at", ["ingest", "write_stream_history", "publish_popular", "promote"]
)
def test_a_crash_at_any_step_is_healed_by_another_run(
    crashes_at: str, workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = Workspace(tmp_path, "world")

    def crash(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(module, crashes_at, crash)
        with pytest.raises(KeyboardInterrupt):
            bootstrap(broken, "tiny", 3, NOW, Steps())
    assert current(broken.bundles) is None
    healed = bootstrap(broken, "tiny", 3, NOW + timedelta(minutes=1), Steps())
    assert healed == {"bundle": current(workspace.bundles), "made": True}


def test_a_half_filled_lake_is_completed(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A crash inside of ingest: some days are written, the description of the data set is not."""
    broken = Workspace(tmp_path, "world")
    from pipelines import lake

    def crash(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(lake, "write_info", crash)
        with pytest.raises(KeyboardInterrupt):
            bootstrap(broken, "tiny", 3, NOW, Steps())
    days = sorted((broken.lake / "events").iterdir())
    for day in days[3:]:
        (day / "part.parquet").unlink()
        day.rmdir()
    bootstrap(broken, "tiny", 3, NOW, Steps())
    assert current(broken.bundles) == current(workspace.bundles)
    assert split_of(broken) == split_of(workspace)


def test_a_half_made_shop_of_another_kind_does_not_mix(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace = Workspace(tmp_path, "world")

    def crash(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("pipelines.lake.write_info", crash)
        with pytest.raises(KeyboardInterrupt):
            bootstrap(workspace, "tiny", 3, NOW, Steps())
    bootstrap(workspace, "tiny", 4, NOW, Steps())
    truth = open_world(tmp_path).truth
    assert truth.seed == 4
    titles = read_items(workspace.lake).set_index("item_id")["title"]
    expected = pd.Series(truth.items.titles, index=truth.items.ids)
    assert titles.to_dict() == expected[titles.index].to_dict()


def test_it_is_noted_for_the_registry(workspace: Workspace) -> None:
    assert [path.stem for path in waiting(workspace)] == [current(workspace.bundles)]


def test_only_the_simulated_shop_can_be_made(tmp_path: Path) -> None:
    with pytest.raises(ContractError, match=r"only 'world' can be made.*run --name sales"):
        bootstrap(Workspace(tmp_path, "sales"), "tiny", 0, NOW, Steps())


def test_the_command_waits_for_its_twin_and_then_has_nothing_to_do(home: Path) -> None:
    workspace = Workspace(home, "world")
    pointer = workspace.bundles / "current"
    kept = pointer.read_bytes()
    with only_one(workspace, "a twin"):
        pointer.unlink()
        second = subprocess.Popen(
            [sys.executable, "-m", "pipelines.cli", "bootstrap", "--scale", "tiny"],
            env={**os.environ, "SHORTLIST_HOME": str(home)}, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        with pytest.raises(subprocess.TimeoutExpired):
            second.wait(10)
        pointer.write_bytes(kept)
    _, told = second.communicate(timeout=60)
    assert second.returncode == 0
    assert "bundle" in told


def tree(folder: Path) -> dict[str, int]:
    return {str(path): path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}
