"""`shortlist smoke` against a real API process, with and without the worker behind it."""

import json
import os
import subprocess
import sys
from dataclasses import replace

import pytest

from infra.local.process import free_port
from tests.serving.conftest import Shop, shop_parts
from tests.serving.processes import served, streaming

EMBEDDED_LACKS = {
    "replicas_agree", "mlflow_champion", "prometheus_targets", "prometheus_metrics",
    "visitors_arrive",
}  # fmt: skip


def smoke(shop: Shop, address: str, *options: str) -> tuple[int, dict[str, dict], str]:
    """Exit code, the report's checks, and what was printed."""
    ended = subprocess.run(
        [sys.executable, "-m", "pipelines.cli", "smoke", "--url", address, *options],
        env={**os.environ, "SHORTLIST_HOME": str(shop.settings.home), "COLUMNS": "200"},
        capture_output=True, text=True, timeout=200,
    )  # fmt: skip
    report = shop.settings.home / "reports" / "smoke.json"
    checks = json.loads(report.read_text())["metrics"] if report.exists() else {}
    return ended.returncode, checks, " ".join(ended.stderr.split())


def verdicts(checks: dict[str, dict], ok: bool | None) -> set[str]:
    return {name for name, check in checks.items() if check["ok"] is ok}


def test_a_whole_embedded_stack_passes_and_what_it_lacks_is_named(shop):
    with served(shop) as (address, _), streaming(shop):
        code, checks, told = smoke(shop, address)
    assert code == 0, told
    assert verdicts(checks, False) == set()
    assert verdicts(checks, None) == EMBEDDED_LACKS
    assert "mode embedded" in checks["ready"]["seen"]
    assert "5 clicks of" in checks["event_to_feature"]["seen"]
    assert all(check["seconds"] >= 0 for check in checks.values())
    assert f"{len(checks) - 5} passed, 0 failed, 5 skipped" in told


def test_without_the_stream_worker_the_click_that_never_arrives_is_the_check_that_fails(
    shop,
):
    with served(shop) as (address, _):
        code, checks, told = smoke(shop, address)
    assert code == 1
    assert verdicts(checks, False) == {"event_to_feature", "list_follows"}
    assert "0 of 5 clicks in the user's history" in checks["event_to_feature"]["seen"]
    assert "the same list as before the clicks" in checks["list_follows"]["seen"]
    assert "stream worker" in told  # the remedy


def test_a_popular_list_is_not_taken_for_a_trained_bundle(shop):
    shop.promote(replace(shop_parts(), ranker=None, tower=None, item_vectors=None))
    with served(shop) as (address, _), streaming(shop):
        code, checks, _ = smoke(shop, address, "--wait", "1")
    assert code == 1
    assert not checks["trained_bundle"]["ok"]
    assert "nothing in it was trained" in checks["trained_bundle"]["seen"]
    assert checks["event_to_feature"]["ok"]


def test_where_nothing_answers_every_check_that_applies_fails(shop):
    code, checks, told = smoke(shop, f"http://127.0.0.1:{free_port()}")
    assert code == 1
    assert verdicts(checks, True) == set()
    assert "refused" in checks["page"]["seen"]
    assert "does the stack run?" in told


@pytest.mark.parametrize(
    ("option", "check"),
    [
        ("--mlflow", "mlflow_champion"),
        ("--prometheus", "prometheus_targets"),
        ("--stream", "visitors_arrive"),
    ],
)
def test_what_is_named_has_to_be_there(shop, option, check):
    with served(shop) as (address, _), streaming(shop):
        code, checks, _ = smoke(shop, address, option, f"http://127.0.0.1:{free_port()}")
    assert code == 1
    assert check in verdicts(checks, False)
    assert "refused" in checks[check]["seen"]
