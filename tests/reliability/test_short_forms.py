"""Each drill at a small size, in the default run; that of C1 is tests/pipelines/test_bench_crash.py.

Times are of a machine that tests share, so the bounds on seconds are left to the long forms.
"""

import json
import sys

import pytest

from infra.local import kafka, redis
from tests.reliability import __main__ as runner
from tests.reliability import c5, c6, c7, d2, d5

pytestmark = pytest.mark.timeout(600)  # half a minute each, on a machine with nothing else to do

SHARE = 0.005
SECONDS = ("rebuild_s_per_million", "lag_back_s")


@pytest.fixture
def needs_redis(tmp_path):
    try:
        redis.command(tmp_path / "absent", 1)
    except kafka.Absent as why:
        pytest.skip(f"absent backend: {why}")


def missed(metrics, drill) -> dict:
    """What was not kept, and is no time."""
    figures = runner.judged(metrics, drill.EXPECTED)
    return {f.name: f.found for f in figures if not f.held and f.name not in SECONDS}


def test_an_emptied_redis_is_rebuilt_from_the_log_under_a_running_api(needs_redis, tmp_path):
    metrics = d2.run(tmp_path, seed=1, share=SHARE)
    assert missed(metrics, d2) == {}
    assert metrics["requests"] > 0
    assert metrics["users"] > 300


def test_no_state_of_feasts_registry_costs_a_rung_and_the_next_run_heals_it(tmp_path):
    metrics = d5.run(tmp_path, seed=1, share=SHARE)
    assert missed(metrics, d5) == {}
    assert metrics["requests"] > 0


def test_retention_that_overtook_the_worker_is_told_at_its_first_look(tmp_path):
    try:
        metrics = c5.run(tmp_path, seed=1, share=SHARE)
    except kafka.Absent as why:
        pytest.skip(f"absent backend: {why}")
    assert missed(metrics, c5) == {}


def test_poison_of_every_kind_is_set_aside_and_every_good_event_applied(tmp_path):
    metrics = c6.run(tmp_path, seed=1, share=0.02)
    assert missed(metrics, c6) == {}
    assert (metrics["embedded"]["bad"], metrics["embedded"]["letters"]) == (200, 200)


def test_clocks_that_jump_cost_no_row_and_no_event(tmp_path):
    metrics = c7.run(tmp_path, seed=1, share=SHARE)
    assert missed(metrics, c7) == {}
    assert metrics["clicks_accepted"] > 0


def test_a_clock_that_believes_every_jump_loses_events_and_rows(tmp_path):
    """What SteadyClock is for: the same jumps, believed."""
    metrics = c7.jumps(tmp_path, 1, c7.HOLD_SHORT_S, believe=lambda wall: wall)
    assert metrics["late_events"] > 0
    assert metrics["negative_ages"] == 0


def test_a_missed_figure_is_told_and_ends_with_1(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(runner, "PROJECT", tmp_path)
    monkeypatch.setattr(runner, "DRILLS", ("c6", "s11"))
    monkeypatch.setattr(c6, "run", lambda folder, seed, share: {"crashes": 1, "kinds": 22})
    monkeypatch.setattr(sys, "argv", ["reliability", "--share", "0.5"])
    with pytest.raises(SystemExit) as ended:
        runner.main()
    assert ended.value.code == 1
    told = json.loads((tmp_path / "var" / "reports" / "reliability.json").read_text())
    drills = told["metrics"]["drills"]
    assert set(drills["C6"]["missed"]) == set(c6.EXPECTED) - {"kinds"}  # absent is not kept either
    assert drills["S11"]["absent"] == "this checkout has no such drill"
    assert {"git", "machine", "started_at"} <= set(told)
    assert "missed" in capsys.readouterr().err


def test_an_unknown_drill_is_refused_with_what_there_is(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["reliability", "--only", "X1"])
    with pytest.raises(SystemExit):
        runner.main()
    assert "no drill x1; there are d2, d5" in capsys.readouterr().err
