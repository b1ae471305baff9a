"""The monitor: one real first training, and everything around it with steps that only say what they are."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from mlflow import MlflowClient

from features.definitions import BATCH_LAG, HOURLY_LAG
from features.errors import FeaturesUnavailable
from infra.clients import clear_online
from infra.local.process import free_port
from infra.settings import Settings
from infra.workspace import Workspace
from models.bundle import current, load, rollback, version_path
from models.manifest import is_trained, read_manifest
from pipelines import online_probe
from pipelines.bootstrap import bootstrap
from pipelines.days import known_hour
from pipelines.lock import only_one
from pipelines.materialize import materialize
from pipelines.monitor import Memory, Monitor, recall
from pipelines.online_probe import batch_rows_gone
from pipelines.step_process import StepFailed
from pipelines.steps import Steps
from tests.services import OwnRedis

NOW = datetime(2026, 7, 15, 9, 30, tzinfo=UTC)
TOMORROW = datetime(2026, 7, 16, tzinfo=UTC) + BATCH_LAG


def settings_of(home: Path, **more: Any) -> Settings:
    return Settings(home=home, scale="tiny", engine="duckdb", **more)


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A shop that was bootstrapped, and nothing else."""
    home = tmp_path_factory.mktemp("opened")
    bootstrap(Workspace(home, "world"), "tiny", 3, NOW, Steps())
    return home


@pytest.fixture(scope="module")
def trained(opened: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The same after one real round of the monitor; and the popular bundle that it began with."""
    home = tmp_path_factory.mktemp("trained") / "home"
    shutil.copytree(opened, home)
    popular = current(Workspace(home, "world").bundles)
    assert popular is not None
    assert Monitor(settings_of(home), lambda: NOW).round()
    return home, popular


class Clock:
    """Stands where it is put."""

    def __init__(self, now: datetime) -> None:
        self.now = now

    def __call__(self) -> datetime:
        return self.now


class Script:
    """Takes the place of the steps: says what they would, and which were asked for, in order."""

    def __init__(self, **answers: Any) -> None:
        self.answers, self.asked, self.arguments = answers, [], []

    def __call__(self, module: str, arguments: list[str] = (), keep: int | None = None) -> Any:
        name = module.removeprefix("pipelines.")
        self.asked.append(name)
        self.arguments.append(list(arguments))
        usual = {"data_until": NOW.isoformat(), "champion": None, "passed": True}
        even = {"blocked": False, "because": "no feature is skewed", "requests": 1000}
        answer = self.answers.get(name, even if name == "skew" else usual)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def since(self, count: int) -> list[str]:
        return self.asked[count:]


def scripted(home: Path, clock: Callable[[], datetime], script: Script, **more: Any) -> Monitor:
    monitor = Monitor(settings_of(home, **more), clock)
    monitor.runner.run = script  # type: ignore[method-assign]
    return monitor


def count(monitor: Monitor, name: str, **labels: str) -> float:
    value = monitor.metrics.registry.get_sample_value(name, labels)
    assert value is not None, name
    return value


def drift(retrain: bool, because: str = "76% of the input columns drifted") -> dict[str, Any]:
    decision = {"retrain": retrain, "because": because, "blocked": False}
    return {"bundle": "b", "drift": {"share": 0.76}, "decision": decision}


def test_the_first_round_replaces_the_popular_list_by_a_trained_bundle(
    trained: tuple[Path, str],
) -> None:
    home, popular = trained
    workspace = Workspace(home, "world")
    champion = current(workspace.bundles)
    assert champion not in (None, popular)
    bundle = load(version_path(workspace.bundles, str(champion)))
    assert bundle.absent == {}
    assert bundle.manifest["as_of"] == NOW.isoformat()
    memory = recall(workspace)
    assert (memory.outcome, memory.because) == ("promoted", "no trained bundle yet")
    assert (memory.champion, memory.features_day) == (champion, "2026-07-15")
    assert not batch_rows_gone(workspace, NOW)


def test_the_registry_knows_both_and_which_is_champion(trained: tuple[Path, str]) -> None:
    home, popular = trained
    workspace = Workspace(home, "world")
    client = MlflowClient(workspace.tracking_uri)
    champion = client.get_model_version_by_alias("shortlist-world", "champion")
    assert champion.tags["bundle"] == current(workspace.bundles)
    assert len(client.search_model_versions("name = 'shortlist-world'")) == 2
    run = client.get_run(champion.run_id)
    assert run.data.params["because"] == "no trained bundle yet"
    assert run.data.params["verdict"] == (
        f"promoted: {popular} is a popular list, nothing in it was trained"
    )


def test_a_second_round_of_the_same_day_has_nothing_to_do(trained: tuple[Path, str]) -> None:
    home, _ = trained
    script = Script(check_drift=drift(False, "12 rows were served, too few to judge"))
    monitor = scripted(home, Clock(NOW + timedelta(minutes=1)), script)
    assert monitor.round()
    assert script.asked == ["check_drift", "tracking"]  # looks once after a start
    monitor._recorded = current(monitor.workspace.bundles)
    assert monitor.round()
    assert script.since(2) == []
    assert count(monitor, "shortlist_monitor_champion_trained") == 1
    assert count(monitor, "shortlist_monitor_data_age_seconds") > 9 * 3600


def test_a_new_day_is_computed_once_as_soon_as_its_rows_are_known(
    trained: tuple[Path, str], tmp_path: Path
) -> None:
    home = tmp_path / "home"
    shutil.copytree(trained[0], home)
    clock = Clock(TOMORROW - timedelta(seconds=1))
    script = Script(check_drift=drift(False, ""))
    monitor = scripted(home, clock, script, drift_every_s=10**6)
    assert monitor.round()
    assert "refresh" not in script.asked
    clock.now = TOMORROW
    assert monitor.round()
    assert script.asked.count("refresh") == 1
    assert script.arguments[script.asked.index("refresh")][:2] == ["--now", TOMORROW.isoformat()]
    clock.now = TOMORROW + timedelta(hours=20)
    assert monitor.round()
    assert script.asked.count("refresh") == 1
    # A monitor that starts again that day knows it from its file.
    again = scripted(home, clock, Script())
    assert again.memory.features_day == "2026-07-16"


def test_a_new_hour_is_computed_once_as_soon_as_its_rows_are_known(
    trained: tuple[Path, str], tmp_path: Path
) -> None:
    home = tmp_path / "home"
    shutil.copytree(trained[0], home)
    clock, script = Clock(NOW), Script(check_drift=drift(False, ""))
    monitor = scripted(home, clock, script, drift_every_s=10**6)
    hour = known_hour(NOW) + timedelta(hours=1)
    clock.now = hour + HOURLY_LAG - timedelta(seconds=1)
    assert monitor.round()
    assert "refresh_hours" not in script.asked
    clock.now = hour + HOURLY_LAG
    assert monitor.round()
    assert monitor.round()
    assert script.asked.count("refresh_hours") == 1
    assert scripted(home, clock, Script()).memory.features_hour == hour.isoformat()


def test_a_real_new_day_keeps_the_rows_young(trained: tuple[Path, str], tmp_path: Path) -> None:
    home = tmp_path / "home"
    shutil.copytree(trained[0], home)
    later = TOMORROW + timedelta(days=1)
    monitor = Monitor(settings_of(home), Clock(later))
    monitor._keep_fresh(later)
    assert not batch_rows_gone(monitor.workspace, later + timedelta(days=1, hours=20))
    assert monitor.memory.features_day == "2026-07-17"


def test_an_emptied_store_is_filled_again(trained: tuple[Path, str], tmp_path: Path) -> None:
    home = tmp_path / "home"
    shutil.copytree(trained[0], home)
    for path in (home / "datasets" / "world" / "feast").glob("online.sqlite*"):
        path.unlink()
    monitor = Monitor(settings_of(home), Clock(NOW))
    assert batch_rows_gone(monitor.workspace, NOW)
    monitor._keep_filled(NOW)
    assert not batch_rows_gone(monitor.workspace, NOW)


def test_an_emptied_redis_is_told_from_one_that_is_away(
    trained: tuple[Path, str], own_redis: OwnRedis, tmp_path: Path
) -> None:
    home = tmp_path / "home"
    shutil.copytree(trained[0], home)
    workspace = Workspace(home, "world", own_redis.services)
    assert batch_rows_gone(workspace, NOW)
    materialize(workspace, NOW)
    assert not batch_rows_gone(workspace, NOW)
    clear_online(workspace)
    assert batch_rows_gone(workspace, NOW)
    own_redis.kill()
    with pytest.raises(FeaturesUnavailable):
        batch_rows_gone(workspace, NOW)


def test_drift_trains_on_the_newest_events_and_a_pause_follows(
    trained: tuple[Path, str], tmp_path: Path
) -> None:
    home = tmp_path / "home"
    shutil.copytree(trained[0], home)
    champion = current(Workspace(home, "world").bundles)
    clock = Clock(NOW + timedelta(hours=2))
    told = {"promoted": False, "bundle": champion, "verdict": "refused: surely worse"}
    script = Script(check_drift=drift(True), challenge=told)
    monitor = scripted(home, clock, script, drift_every_s=1, retrain_pause_s=3600)
    assert monitor.round()
    assert script.asked[0] == "refresh_hours"
    wanted = ["check_drift", "refresh", "check_quality", "skew", "train_retrieval", "challenge"]
    assert script.asked[1:7] == wanted
    assert "76% of the input columns drifted" in script.arguments[6]
    assert count(monitor, "shortlist_monitor_trainings_total", outcome="refused") == 1
    assert count(monitor, "shortlist_monitor_drift_share") == 0.76
    assert recall(monitor.workspace).outcome == "refused"

    clock.now += timedelta(minutes=59)
    monitor._drift_checked = -float("inf")
    before = len(script.asked)
    assert monitor.round()
    assert "challenge" not in script.since(before)
    clock.now += timedelta(minutes=2)
    monitor._drift_checked = -float("inf")
    assert monitor.round()
    assert "challenge" in script.since(before)


def test_a_failing_part_is_counted_and_stops_no_other(opened: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    shutil.copytree(opened, home)
    clock = Clock(NOW)
    away = StepFailed("python -m pipelines.refresh ended with 1: no broker at 127.0.0.1:9092")
    script = Script(refresh=away, tracking=StepFailed("MLflow is away"))
    monitor = scripted(home, clock, script)
    assert not monitor.round()
    assert script.asked == ["refresh", "refresh", "tracking"]  # the training needs it as well
    for step in ("features", "train", "track"):
        assert count(monitor, "shortlist_monitor_failures_total", step=step) == 1, step
    assert count(monitor, "shortlist_monitor_trainings_total", outcome="failed") == 1
    assert count(monitor, "shortlist_monitor_champion_trained") == 0

    script.answers = {
        "refresh": {"data_until": NOW.isoformat()},
        "challenge": {
            "promoted": True,
            "bundle": current(monitor.workspace.bundles),
            "verdict": "promoted",
        },
        "tracking": {"champion": "b"},
    }
    before = len(script.asked)
    assert monitor.round()
    # A training that failed is not tried at once again, everything else is.
    assert script.since(before) == ["refresh", "tracking"]
    monitor._train_again = -float("inf")
    assert monitor.round()
    assert "challenge" in script.since(before)


def test_a_rollback_to_the_popular_list_is_kept(trained: tuple[Path, str], tmp_path: Path) -> None:
    home = tmp_path / "home"
    shutil.copytree(trained[0], home)
    workspace = Workspace(home, "world")
    popular = rollback(workspace.bundles)
    assert not is_trained(read_manifest(version_path(workspace.bundles, popular)))
    script = Script(tracking={"champion": popular})
    monitor = scripted(home, Clock(NOW + timedelta(hours=9)), script)
    assert monitor.round()
    assert script.asked == [
        "refresh_hours",
        "tracking",
    ]  # the alias follows; nobody trains against the rollback


def test_who_finds_the_lock_taken_waits_for_another_round(opened: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    shutil.copytree(opened, home)
    told = {"promoted": False, "bundle": "b", "verdict": "refused: surely worse"}
    script = Script(challenge=told)
    monitor = scripted(home, Clock(NOW), script)
    with only_one(monitor.workspace, "shortlist run"):
        assert monitor.round()
    assert script.asked == ["tracking"]
    assert monitor.round()
    wanted = ["refresh", "check_quality", "skew", "train_retrieval", "challenge"]
    assert script.since(1)[:5] == wanted


def test_a_store_that_does_not_answer_is_a_failure_and_not_an_empty_one(
    trained: tuple[Path, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise ConnectionError("no Redis at 127.0.0.1:6379")

    monkeypatch.setattr(online_probe, "open_feast", refuse)
    script = Script(check_drift=drift(False, ""))
    monitor = scripted(trained[0], Clock(NOW), script)
    assert not monitor.round()
    assert "refresh" not in script.asked
    assert count(monitor, "shortlist_monitor_failures_total", step="online") == 1


def test_a_torn_memory_is_no_memory(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path, "world")
    assert recall(workspace) == Memory()
    workspace.monitoring.mkdir(parents=True)
    (workspace.monitoring / "loop.json").write_text('{"features_day": "2026-')
    assert recall(workspace) == Memory()


def test_sigterm_ends_the_monitor_and_the_step_that_runs(opened: Path, tmp_path: Path) -> None:
    home, port = tmp_path / "home", free_port()
    shutil.copytree(opened, home)
    monitor = subprocess.Popen(
        [sys.executable, "-m", "pipelines.monitor"],
        env={
            **os.environ,
            **settings_of(home).environment(),
            "SHORTLIST_METRICS_PORT": str(port),
        },
        stderr=subprocess.DEVNULL,
    )
    try:
        until = time.monotonic() + 60
        while not (children := psutil.Process(monitor.pid).children(recursive=True)):
            assert time.monotonic() < until
            time.sleep(0.05)
        text = httpx.get(f"http://127.0.0.1:{port}/metrics").text
        assert 'shortlist_monitor_trainings_total{outcome="promoted"} 0.0' in text
    finally:
        monitor.send_signal(signal.SIGTERM)
    assert monitor.wait(30) == 0
    _, alive = psutil.wait_procs(children, timeout=10)
    assert not alive
