"""The line on a tiny world, once, and what it promises."""

import json
import os
import signal
import socket
import subprocess
import sys
import time

import httpx
import pandas as pd
import psutil
import pytest

from infra.workspace import Workspace
from models.bundle import current, load, version_path
from pipelines.bootstrap import fresh_world
from tests.pipelines.oracle_words import cells_of, columns_of, leaks

MODELS = {"random", "popular", "recent_popular", "own_history", "item_knn", "two_tower", "full"}


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A home in which `shortlist run` made everything, as a user would."""
    home = tmp_path_factory.mktemp("home")
    command = [
        sys.executable,
        "-m",
        "pipelines.cli",
        "run",
        "--scale",
        "tiny",
        "--engine",
        "duckdb",
    ]
    environment = {**os.environ, "SHORTLIST_HOME": str(home), "OMP_NUM_THREADS": "1"}
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=280)
    assert ended.returncode == 0, ended.stderr
    return home


def test_the_report_holds_every_model_with_its_interval(home):
    metrics = json.loads((home / "reports" / "run-world.json").read_text())["metrics"]
    assert set(metrics["ndcg_at_10"]) == MODELS
    for model, value in metrics["ndcg_at_10"].items():
        assert 0 <= value["low"] <= value["mean"] <= value["high"] <= 1, model
    rows = metrics["rows"]
    assert rows["read"] == rows["accepted"] + rows["quarantined"] > 0


def test_no_column_anywhere_in_the_platform_is_the_oracles(home):
    """Lake, quarantine, offline and online views, bundles, reports, MLflow: all a learner could open."""
    workspace = Workspace(home, "world")
    names = columns_of(workspace.root)
    assert names >= {"item_id", "position", "propensity", "category_share_90d", "event_at"}
    assert "user_click_rate_30d" in columns_of(workspace.feast), "online views are looked into"
    assert {"row", "reason"} <= columns_of(workspace.quarantine)
    tracked = cells_of(home / "mlflow.db")
    assert {"full.ndcg_at_10", "bundle"} <= tracked
    reported = columns_of(home / "reports")
    assert "ndcg_at_10" in reported
    assert leaks(names | tracked | reported) == []


def test_the_published_bundle_is_the_evaluated_one(home):
    workspace = Workspace(home, "world")
    bundle = load(version_path(workspace.bundles, current(workspace.bundles)))
    report = json.loads((home / "reports" / "run-world.json").read_text())["metrics"]
    assert bundle.id == report["bundle"]
    assert bundle.absent == {}
    reference = pd.read_parquet(bundle.path / "reference.parquet")
    assert len(reference) > 100
    assert "score" in reference


def test_state_lies_under_home_only(home):
    assert {path.name for path in home.iterdir()} <= {
        "datasets",
        "truth",
        "reports",
        "mlflow.db",
        "mlflow",
    }


@pytest.mark.parametrize(
    ("modules", "absent"),
    [
        ("pipelines.train_ranker, pipelines.evaluate, pipelines.promote", "torch"),
        ("pipelines.train_retrieval, models.two_tower", "lightgbm"),
    ],
)
def test_torch_and_lightgbm_never_share_a_process(modules, absent):
    loaded = subprocess.run(
        [sys.executable, "-c", f"import {modules}, sys; print(*sys.modules)"],
        capture_output=True, text=True, check=True,
    ).stdout.split()  # fmt: skip
    assert absent not in loaded


def test_a_new_world_never_mixes_with_the_old_one(tmp_path):
    workspace = Workspace(tmp_path, "world")
    _, first = fresh_world(workspace, "tiny", seed=1)
    _, second = fresh_world(workspace, "tiny", seed=2)
    assert second["rows"]["new"] == second["rows"]["accepted"]
    assert first["rows"]["accepted"] != second["rows"]["accepted"]


def test_serve_is_up_in_time_and_a_plain_kill_leaves_no_child(home):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    serve = subprocess.Popen(
        [sys.executable, "-m", "pipelines.cli", "serve", "--port", str(port)],
        env={**os.environ, "SHORTLIST_HOME": str(home)}, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        _wait_for(f"http://127.0.0.1:{port}/readyz", seconds=45)
        children = psutil.Process(serve.pid).children(recursive=True)
        assert len(children) >= 2, "the API and the stream worker"
    finally:
        serve.terminate()
    assert serve.wait(timeout=25) == 128 + signal.SIGTERM
    _, alive = psutil.wait_procs(children, timeout=5)
    assert not alive


def _wait_for(url: str, seconds: float) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        try:
            if httpx.get(url, timeout=1).status_code == 200:
                return
        except httpx.HTTPError:
            time.sleep(0.1)
    pytest.fail(f"{url} did not answer within {seconds} s")
