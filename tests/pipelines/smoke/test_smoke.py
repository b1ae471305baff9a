"""`shortlist smoke` against a real API process, with and without the worker behind it.

One API for the whole file, since starting it is what takes the time; the worker joins it half-way.
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from infra.local.process import free_port
from infra.settings import Settings
from pipelines.smoke import run, shop
from pipelines.smoke.stack import Given, Stack
from tests.serving.conftest import Shop, settings_of, shop_parts, until
from tests.serving.processes import served, streaming

EMBEDDED_LACKS = {
    "replicas_agree", "mlflow_champion", "prometheus_targets", "prometheus_metrics",
    "visitors_arrive",
}  # fmt: skip


@pytest.fixture(scope="module")
def stall(furnished: Path, tmp_path_factory: pytest.TempPathFactory) -> Shop:
    """The tiny shop, one for all tests here."""
    home = tmp_path_factory.mktemp("stall") / "home"
    shutil.copytree(furnished, home)
    return Shop(settings_of(home))


@pytest.fixture(scope="module")
def address(stall: Shop) -> Iterator[str]:
    with served(stall) as (address, _):
        yield address


@pytest.fixture(scope="module")
def worker(stall: Shop, address: str) -> Iterator[None]:
    """Works, and has caught up with a first event: on a busy machine its start takes its time."""
    first = {"event_id": "first", "event_type": "click", "user_id": "zoe", "item_id": "i1"}
    with streaming(stall):
        assert httpx.post(f"{address}/v1/events", json=first).status_code == 202
        until(lambda: httpx.get(f"{address}/v1/users/zoe").json()["history"], timeout_s=120)
        yield


def tried(address: str, **given) -> dict[str, run.Result]:
    stack = Stack(Given(address, **given), Settings())
    return {result.name: result for result in run.run(stack)}


def verdicts(results: dict[str, run.Result], ok: bool | None) -> set[str]:
    return {name for name, result in results.items() if result.ok is ok}


def test_without_the_worker_no_click_arrives(address, monkeypatch):
    monkeypatch.setattr(shop, "FEATURE_SECONDS", 2.0)
    monkeypatch.setattr(shop, "LIST_SECONDS", 2.0)
    results = tried(address)
    assert results["ready"].ok
    assert verdicts(results, False) == {"event_to_feature", "list_follows"}
    assert "0 of 5 clicks in the user's history" in results["event_to_feature"].seen
    assert "stream worker" in results["event_to_feature"].remedy
    assert "the same list as before the clicks" in results["list_follows"].seen


def test_a_whole_embedded_stack_passes_and_what_it_lacks_is_named(
    address, worker, tmp_path, monkeypatch
):
    ended = subprocess.run(
        [sys.executable, "-m", "pipelines.cli", "smoke", "--url", address],
        env={**os.environ, "SHORTLIST_HOME": str(tmp_path), "COLUMNS": "200"},
        capture_output=True, text=True, timeout=200,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    checks = json.loads((tmp_path / "reports" / "smoke.json").read_text())["metrics"]
    assert {name for name, check in checks.items() if check["ok"] is None} == EMBEDDED_LACKS
    assert all(check["ok"] for name, check in checks.items() if name not in EMBEDDED_LACKS)
    assert "mode embedded" in checks["ready"]["seen"]
    assert "5 clicks of" in checks["event_to_feature"]["seen"]
    assert f"{len(checks) - 5} passed, 0 failed, 5 skipped" in ended.stderr


def test_what_is_named_has_to_be_there(address, worker):
    nowhere = f"http://127.0.0.1:{free_port()}"
    results = tried(address, mlflow=nowhere, prometheus=nowhere, stream=nowhere)
    assert verdicts(results, False) == EMBEDDED_LACKS - {"replicas_agree"}
    assert "refused" in results["mlflow_champion"].seen


def test_a_popular_list_is_not_taken_for_a_trained_bundle(address, worker, stall):
    stall.promote(replace(shop_parts(), ranker=None, tower=None, item_vectors=None))
    monitor = Stack(Given(address, wait_s=1.0), Settings())
    shop.within(30, lambda: None if monitor.ready()["trained"] else True, lambda: "no swap")
    with pytest.raises(shop.Failed, match="nothing in it was trained"):
        shop.trained(monitor)


def test_where_nothing_answers_every_check_fails_and_the_command_ends_with_1(tmp_path):
    ended = subprocess.run(
        [sys.executable, "-m", "pipelines.cli", "smoke", "--url", f"http://127.0.0.1:{free_port()}"],
        env={**os.environ, "SHORTLIST_HOME": str(tmp_path), "COLUMNS": "200"},
        capture_output=True, text=True, timeout=200,
    )  # fmt: skip
    assert ended.returncode == 1
    checks = json.loads((tmp_path / "reports" / "smoke.json").read_text())["metrics"]
    assert not any(check["ok"] for check in checks.values())
    assert "refused" in checks["page"]["seen"]
    assert "does the stack run?" in ended.stderr
