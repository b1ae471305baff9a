"""`shortlist load` as it is used: whom it may load, what it costs, and a stack of its own."""

import asyncio
import json
import os
import sqlite3
from contextlib import closing
from dataclasses import replace

import psutil
import pytest
from typer.testing import CliRunner

from features.errors import ContractError, RecommenderError
from features.schema import DatasetInfo
from infra.local.process import free_port
from infra.workspace import Workspace
from models import versions
from monitoring.metrics import Metrics
from pipelines.cli import app
from pipelines.load.embedded import copy, cores, known_users, own_stack
from pipelines.load.generator import session
from pipelines.load.run import Asked, measure
from pipelines.load.target import Process, _process, cpu_ms_per_request, origin, processes
from tests.pipelines.load_target import running_target
from tests.serving.conftest import Shop, furnished, settings_of  # noqa: F401  # a fixture
from tests.serving.conftest import shop as served_shop  # noqa: F401  # a fixture
from tests.serving.processes import served
from tests.worlds import filled, purchases


@pytest.mark.parametrize(
    ("url", "own_host", "message"),
    [
        ("http://8.8.8.8:80", False, "8.8.8.8: a load test of a stranger's host is an attack"),
        ("http://8.8.8.8:80", True, "run it inside that network"),
        ("http://192.168.1.7:8000", False, "if it is yours, say --i-own-this-host"),
        ("http://169.254.169.254", True, "a stranger's host"),
        ("http://[2001:4860:4860::8888]", True, "a stranger's host"),
        ("http://0x08080808", True, "a stranger's host"),
        ("ftp://127.0.0.1", True, "expected an address such as"),
        ("127.0.0.1:8000", True, "expected an address such as"),
    ],
)
def test_a_strangers_host_is_not_loaded(url, own_host, message):
    with pytest.raises(ContractError, match=message.replace(".", r"\.")):
        origin(url, own_host)


def test_loopback_is_loaded_and_a_private_host_if_it_is_said_to_be_ones_own():
    assert origin("http://127.0.0.1:8000/v1/x?y#z", own_host=False) == "http://127.0.0.1:8000"
    assert origin("http://localhost:8000", own_host=False) == "http://localhost:8000"
    assert origin("http://192.168.1.7:8000/", own_host=True) == "http://192.168.1.7:8000"


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (Asked(rate=0.0), "rate is 0, expected 0.1 to 2000"),
        (Asked(rate=1e9), "rate is 1e"),
        (Asked(rate=2000.0, seconds=3600.0), r"rate times seconds is 7.2e\+06"),
        (Asked(events_share=1.5), "events-share is 1.5, expected 0 to 1"),
        (Asked(timeout_s=float("nan")), "timeout is nan"),
    ],
)
def test_a_load_without_end_is_refused(asked, message):
    with pytest.raises(ContractError, match=message):
        asked.check()


def test_an_api_that_is_away_is_said_in_one_line():
    with pytest.raises(RecommenderError, match="is the API up and ready"):
        measure(f"http://127.0.0.1:{free_port()}", Asked())


def test_cpu_by_request_is_given_only_where_one_process_answers():
    before = [Process(10.0, 1.0), Process(10.0, 1.01)]
    after = [Process(10.0, 1.51), Process(10.0, 1.52)]
    assert cpu_ms_per_request(before, after, 100) == (5.0, None)
    other = [Process(11.0, 0.5)]
    assert cpu_ms_per_request(before, other, 100)[0] is None
    assert "several processes" in (cpu_ms_per_request(before, [*after, *other], 100)[1] or "")
    assert cpu_ms_per_request("no /metrics", after, 100) == (None, "no /metrics")
    assert cpu_ms_per_request(before, after, 0) == (None, "no request was answered")


@pytest.mark.skipif(not os.path.exists("/proc/self/stat"), reason="absent: /proc")
def test_the_apis_own_metrics_say_what_its_process_spends():
    said, spent = _process(Metrics().text().decode()), psutil.Process().cpu_times()
    assert said.cpu_s == pytest.approx(spent.user + spent.system, abs=1.0)
    assert said.started_s == pytest.approx(psutil.Process().create_time(), abs=2.0)


def test_an_address_without_metrics_is_said_to_have_none(tmp_path):
    async def read(url: str):
        async with session(url, 5.0) as client:
            return await processes(client)

    with running_target(tmp_path) as url:
        assert asyncio.run(read(url)) == "/metrics is not to be had here (status 404)"


def load(url: str, *more: str):
    return CliRunner().invoke(app, ["load", "--url", url, "--rate", "40", "--seconds", "2", *more])


def test_the_command_reports_and_ends_with_1_on_errors(tmp_path, monkeypatch):
    monkeypatch.setenv("SHORTLIST_HOME", str(tmp_path))
    with running_target(tmp_path) as url:
        assert load(url).exit_code == 0
    metrics = json.loads((tmp_path / "reports" / "load.json").read_text())["metrics"]
    assert metrics["errors"] == 0
    assert metrics["asked_rate"] == 40
    assert metrics["stages"]["rank"]["budget_ms"] == 20
    assert metrics["events"]["requests"] > 0
    assert metrics["cpu_ms_per_request"] is None
    assert "status 404" in metrics["cpu_unknown"]
    if metrics["latency_withheld"] is None:  # a busy machine may make the generator late
        assert metrics["p50_ms"] <= metrics["p99_ms"] <= metrics["max_ms"]
        assert (tmp_path / "reports" / "load.png").stat().st_size > 10_000
    with running_target(tmp_path, "fails") as url:
        assert load(url).exit_code == 1
    metrics = json.loads((tmp_path / "reports" / "load.json").read_text())["metrics"]
    assert metrics["errors"] == metrics["errors_by_kind"]["status 500"] > 0


def test_the_real_api_takes_a_low_rate_without_an_error(served_shop):  # noqa: F811
    with served(served_shop) as (url, _):
        metrics, latencies = measure(url, Asked(rate=20.0, seconds=4.0, users=20))
    assert metrics["errors"] == 0
    assert sum(metrics["rungs"].values()) == len(latencies["reads"])
    for name in ("features", "retrieve", "rank", "rerank", "total", "outside"):
        assert metrics["stages"][name]["p50_ms"] > 0, name
    if os.path.exists("/proc/self/stat"):
        assert metrics["cpu_ms_per_request"] > 0
    clicks = [e for e in served_shop.logged("events") if e["event_type"] == "click"]
    shown = {(e["request_id"], e["position"], e["item_id"], e["user_id"])
             for e in served_shop.logged("events") if e["event_type"] == "impression"}  # fmt: skip
    assert len({e["event_id"] for e in clicks}) == len(clicks) >= len(latencies["events"])
    assert {(e["request_id"], e["position"], e["item_id"], e["user_id"]) for e in clicks} <= shown


def test_a_stack_of_its_own_leaves_the_workspace_as_it_was(served_shop):  # noqa: F811
    workspace = served_shop.workspace
    filled(workspace, purchases(), DatasetInfo("tiny", positive_types=("purchase",)))
    before = files_of(workspace)
    _, rest, placement = cores()
    with own_stack(served_shop.settings, workspace) as (url, said):
        assert said == placement
        if rest:
            (api,) = (
                p for p in psutil.Process().children() if "serving.app:create_app" in p.cmdline()
            )
            assert not set(api.cpu_affinity()) & os.sched_getaffinity(0)  # the core is the API's
            assert os.sched_getaffinity(0) == rest
        metrics, _ = measure(url, Asked(rate=20.0, seconds=2.0), known=known_users(workspace))
    assert metrics["errors"] == 0
    assert metrics["users"]["known"] > 0
    assert files_of(workspace) == before
    assert not workspace.event_log.exists()  # the clicks went elsewhere
    assert cores()[1] == rest  # and this process may use all its cores again


def files_of(workspace: Workspace) -> list[str]:
    """Without what SQLite keeps beside a database that somebody reads."""
    found = (str(path) for path in workspace.home.rglob("*"))
    return sorted(path for path in found if not path.endswith(("-wal", "-shm")))


def test_a_copied_database_has_what_was_not_yet_checkpointed(tmp_path):
    workspace = Workspace(tmp_path / "home", "tiny")
    for folder in (workspace.feast, workspace.bundles):
        folder.mkdir(parents=True)
    with closing(sqlite3.connect(workspace.feast / "online.sqlite")) as open_still:
        open_still.execute("PRAGMA journal_mode=WAL")
        open_still.execute("CREATE TABLE t (x)")
        open_still.execute("INSERT INTO t VALUES (7)")
        open_still.commit()
        copied = copy(workspace, tmp_path / "copy")
    with closing(sqlite3.connect(copied.feast / "online.sqlite")) as there:
        assert there.execute("SELECT x FROM t").fetchall() == [(7,)]
    assert copied == replace(workspace, home=tmp_path / "copy")


def test_kafka_and_redis_are_not_loaded_behind_ones_back(tmp_path):
    settings = settings_of(tmp_path).model_copy(update={"mode": "services"})
    with (
        pytest.raises(ContractError, match="name the API with --url"),
        own_stack(settings, Workspace.of(settings)),
    ):
        pass


def test_without_a_bundle_the_remedy_is_named(tmp_path):
    settings = settings_of(tmp_path)
    assert versions.current(Workspace.of(settings).bundles) is None
    with (
        pytest.raises(ContractError, match="make one with: shortlist run --dataset tiny"),
        own_stack(settings, Workspace.of(settings)),
    ):
        pass
