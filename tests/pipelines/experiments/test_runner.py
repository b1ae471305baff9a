"""Killed, resumed, changed: what was measured stays with the question it was measured for."""

import functools
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import pytest

from features.errors import ContractError
from infra.settings import PROJECT
from pipelines.experiments.card import Measured
from pipelines.experiments.identity import identity, reached
from pipelines.experiments.runner import registered_at, run
from pipelines.experiments.verdict import Verdict
from tests.pipelines.experiments.toy import CARD, TOY, measure


def files(home):
    return {path.name: path.read_bytes() for path in home.rglob("*-*.json")}


def count_calls(experiment):
    calls = []

    @functools.wraps(experiment.measure)  # what is hashed stays the experiment's own function
    def counting(setting, seed):
        calls.append((setting.family, seed))
        return experiment.measure(setting, seed)

    return replace(experiment, measure=counting), calls


def test_the_toy_comes_out_as_it_was_put_in(tmp_path):
    outcome = run(TOY, tmp_path, "tiny", range(5), resume=False)
    assert outcome.verdict == Verdict.confirmed
    assert outcome.holds("gain") == "2 of 2"
    gain, gap = outcome.metrics["left"]["gain"], outcome.metrics["left"]["gap"]
    assert gain.low < 1 < gain.high
    assert gain.within == pytest.approx(0.1)
    assert gap.mean == pytest.approx(3 - 1, abs=0.1)
    assert outcome.metrics["left"]["true"] == replace(gain, within=None)


def test_a_run_killed_in_the_middle_ends_as_one_that_was_not(tmp_path):
    whole = run(TOY, tmp_path / "whole", "tiny", range(5), resume=False)
    home = tmp_path / "killed"
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.pipelines.experiments.toy", str(home)],
        cwd=PROJECT, env={**os.environ, "PYTHONPATH": str(PROJECT)},
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    until = time.monotonic() + 60
    while len(files(home)) < 3 and time.monotonic() < until:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, "it was in the middle"
    before = files(home)
    assert 3 <= len(before) < 10
    counted, calls = count_calls(TOY)
    resumed = run(counted, home, "tiny", range(5), resume=True)
    assert len(calls) == 10 - len(before), "finished seeds are not measured again"
    assert resumed == whole
    assert files(home).items() >= before.items()


def test_without_resume_everything_is_measured_anew(tmp_path):
    counted, calls = count_calls(TOY)
    for resume in (False, True, False):
        run(counted, tmp_path, "tiny", range(2), resume=resume)
    assert len(calls) == 2 * 4


def test_more_seeds_reuse_the_ones_that_are_there(tmp_path):
    counted, calls = count_calls(TOY)
    run(counted, tmp_path, "tiny", range(2), resume=True)
    run(counted, tmp_path, "tiny", range(3), resume=True)
    assert calls[4:] == [("left", 2), ("right", 2)]


def test_a_changed_card_has_no_results(tmp_path, capsys):
    counted, calls = count_calls(TOY)
    run(counted, tmp_path, "tiny", range(2), resume=True)
    claim = replace(CARD.claims[0], minimum=0.7)  # asking for another size after seeing the result
    changed = replace(counted, card=replace(CARD, claims=(claim, CARD.claims[1])))
    run(changed, tmp_path, "tiny", range(2), resume=True)
    assert len(calls) == 2 * 4
    assert "has changed since the last run" in " ".join(capsys.readouterr().err.split())


def test_the_card_is_on_disk_before_the_first_number(tmp_path):
    seen = []

    def looking(setting, seed):
        seen.append([path.name for path in tmp_path.rglob("*.json")])
        return measure(setting, seed)

    experiment = replace(TOY, measure=looking)
    outcome = run(experiment, tmp_path, "tiny", range(1), resume=False)
    assert seen[0] == ["card.json"]
    first = registered_at(outcome, tmp_path)
    time.sleep(1.1)
    assert (
        registered_at(run(experiment, tmp_path, "tiny", range(2), resume=True), tmp_path) == first
    )


def test_a_half_written_seed_is_no_seed(tmp_path):
    counted, calls = count_calls(TOY)
    run(counted, tmp_path, "tiny", range(1), resume=True)
    done = next(tmp_path.rglob("left-0.json"))
    done.rename(done.with_name(".left-0.json.123"))  # what a kill during the write leaves
    run(counted, tmp_path, "tiny", range(1), resume=True)
    assert calls[-1] == ("left", 0)


@pytest.mark.parametrize("seeds", [[], [1, 1]])
def test_seeds_that_cannot_be_paired_are_refused(tmp_path, seeds):
    with pytest.raises(ContractError, match="expected distinct ones, as in --seeds 0-4"):
        run(TOY, tmp_path, "tiny", seeds, resume=False)


def test_a_measurement_that_is_no_number_stops_the_run(tmp_path):
    broken = replace(TOY, measure=lambda setting, seed: Measured({"gain": float("nan")}))
    with pytest.raises(ContractError, match="world left, seed 0: gain is no number"):
        run(broken, tmp_path, "tiny", [0], resume=False)
    assert not files(tmp_path)


SOURCE = '''"""About."""
import numpy as np
from pipelines.experiments import card

LIMIT = 0.5
"""A limit."""


def measure(setting, seed):
    """Say."""
    return LIMIT  # a comment
'''


@pytest.mark.parametrize(
    ("before", "after", "same"),
    [
        ("About.", "About something else.", True),
        ("# a comment", "# another", True),
        ("A limit.", "The limit.", True),
        ("0.5", "0.6", False),
        ("card\n", "verdict\n", False),
    ],
)
def test_prose_is_free_and_numbers_are_not(tmp_path, monkeypatch, before, after, same):
    def identity_of(text, name):
        path = tmp_path / name / "toy_source.py"
        path.parent.mkdir()
        path.write_text(text)
        code = compile(text, str(path), "exec")
        space = {"__name__": name}
        exec(code, space)
        return identity(CARD, "tiny", space["measure"])

    one = identity_of(SOURCE, "one")
    assert (one == identity_of(SOURCE.replace(before, after), "two")) == same


def test_what_is_hashed_is_what_measures_and_the_world_and_not_what_draws():
    files = {path.name for path in reached(PROJECT / "pipelines" / "experiments" / "e02.py")}
    assert files >= {
        "e02.py",
        "card.py",
        "wishes.py",
        "click_models.py",
        "families.py",
        "metrics.py",
    }
    assert not files & {
        "charts.py",
        "page.py",
        "board.py",
        "catalogue.py",
        "own_tables.py",
        "cli.py",
    }


def test_a_step_that_runs_as_a_process_of_its_own_is_hashed_too():
    folder = PROJECT / "pipelines" / "experiments"
    paths = reached(folder / "e11.py")
    needed = ("experiments/line.py", "loop/day.py", "train_retrieval.py", "world/families.py")
    assert paths >= {PROJECT / "pipelines" / name for name in needed}
    assert PROJECT / "models" / "two_tower.py" in paths
    drawn = ("charts.py", "page.py", "board.py", "catalogue.py", "own_tables.py", "cli.py")
    assert not paths & {folder / name for name in drawn}


def test_scale_is_part_of_the_identity():
    assert identity(CARD, "tiny", measure) != identity(CARD, "small", measure)


def test_a_seed_file_holds_what_was_measured(tmp_path):
    run(TOY, tmp_path, "tiny", [3], resume=False)
    content = json.loads(next(tmp_path.rglob("right-3.json")).read_text())
    assert set(content) == {"values", "within", "curves", "seconds"}
    assert set(content["values"]) == {"gain", "cost", "seen"}


def test_the_duration_is_told_beforehand(tmp_path, capsys):
    def told():
        return " ".join(capsys.readouterr().err.split())

    run(TOY, tmp_path, "tiny", range(2), resume=False)
    assert "4 of 4 measurements to make, at most 120 s by tier S" in told()
    run(TOY, tmp_path, "tiny", range(3), resume=True)
    assert "2 of 6 measurements to make, about 0 s" in told()
    changed = replace(TOY, card=replace(CARD, title="Another"))
    run(changed, tmp_path, "tiny", range(2), resume=True)
    assert "4 of 4 measurements to make, about 0 s" in told(), "an earlier version tells"
    run(changed, tmp_path, "small", range(1), resume=True)
    assert "at most 120 s" in told(), "another scale does not"
