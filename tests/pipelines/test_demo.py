"""`make demo` at its smallest, as a user runs it: one command, and the report that it leaves."""

import json
import os
import socket
import subprocess
import sys
from contextlib import closing
from itertools import product

from infra.event_log import SqliteEventLog
from infra.settings import Settings
from infra.workspace import Workspace
from tests.pipelines.oracle_words import cells_of, columns_of, keys_of, leaks


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_the_demo_measures_a_lift_and_retrains_on_evidence(tmp_path):
    command = [
        sys.executable,
        "-m",
        "pipelines.cli",
        "demo",
        "--scale",
        "tiny",
        "--engine",
        "duckdb",
    ]
    ended = subprocess.run(
        [*command, "--port", str(free_port())],
        env={**os.environ, "SHORTLIST_HOME": str(tmp_path), "OMP_NUM_THREADS": "1"},
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=290,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    written = json.loads((tmp_path / "reports" / "demo.json").read_text())
    metrics = written["metrics"]

    lift = metrics["lift_over_popular"]
    assert lift["low"] <= lift["mean"] <= lift["high"]
    assert lift["mean"] > 0
    # Who gives up waiting leaves the session, and its last pages are never asked for.
    assert 980 <= lift["full_slates"] + lift["popular_slates"] <= 1000

    assert not metrics["drift"]["day_1"]["decision"]["retrain"], "a quiet day must not retrain"
    assert metrics["drift"]["day_2"]["decision"]["retrain"]
    assert metrics["retrained_because"] == metrics["drift"]["day_2"]["decision"]["because"]
    retrained = metrics["retrained"]
    if retrained["promotion"]["promoted"]:
        assert retrained["serving"] == retrained["bundle"] != metrics["bundle"]
    else:
        assert retrained["serving"] == metrics["bundle"]
    assert set(metrics["seconds_by_step"]) >= {
        "world",
        "features",
        "train ranker",
        "evaluate",
        "serve",
        "day 1",
    }
    assert "Lift over popular" in ended.stderr
    the_truth_is_nowhere_but_with_the_world(tmp_path)


def the_truth_is_nowhere_but_with_the_world(home):
    """After two days of users: in what was served and posted, folded, stored and recorded."""
    workspace, names = Workspace(home, "world"), set[str]()
    with closing(SqliteEventLog(workspace.event_log, Settings().partitions)) as log:
        for topic, partition in product(("events", "served"), range(log.partitions)):
            for record in log.read(topic, partition, 0, 10**6):
                context = (
                    record.value.get("context") or {}
                )  # JSON in an event, an object in a slate
                told = json.loads(context) if isinstance(context, str) else context
                names |= keys_of(record.value) | keys_of(told)
    assert {"features", "scores", "session_id", "device"} <= names, "slates and clicks are there"
    names |= cells_of(home / "mlflow.db")
    for folder in ("lake", "offline", "feast", "state", "bundles", "quarantine"):
        names |= columns_of(workspace.root / folder)
    assert leaks(names) == []
    assert "true_utility" in leaks(columns_of(home / "truth")), "where it is, it is found"


def test_a_taken_port_is_said_before_any_work(tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        ended = subprocess.run(
            [sys.executable, "-m", "pipelines.cli", "demo", "--port", str(port)],
            env={**os.environ, "SHORTLIST_HOME": str(tmp_path)},
            capture_output=True, text=True, timeout=60,
        )  # fmt: skip
    assert ended.returncode == 2
    told = " ".join(ended.stderr.split())
    assert f"port {port} on 127.0.0.1 is taken" in told
    assert "--port or SHORTLIST_PORT" in told
    assert not list(tmp_path.iterdir())
