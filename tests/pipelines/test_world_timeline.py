"""The answer key: what changes, when, and how far it has come."""

import json

import numpy as np
import pytest

from pipelines.world.generate import WORLD_END, make
from pipelines.world.population import DAY_US, populate
from pipelines.world.timeline import novelty_of_change, strength, timeline
from tests.pipelines.world_kit import END_US, tiny


def world(*shifts):
    return populate(tiny().config.but(shifts=shifts), WORLD_END)


def test_a_shift_ramps_up_lasts_and_ends():
    truth = world({"kind": "incident", "start_day": 2, "size": 0.4, "ramp_days": 2, "days": 5})
    days = np.array([1.9, 2, 3, 4, 6.9, 7])
    told = [strength(truth, "incident", END_US + round(day * DAY_US)) for day in days]
    assert told == pytest.approx([0, 0, 0.2, 0.4, 0.4, 0])
    assert strength(truth, "concept", END_US + 4 * DAY_US) == 0


def test_novelty_fades():
    truth = world({"kind": "novelty", "start_day": 1, "size": 0.4})
    at_us = END_US + np.array([0.5, 1.0, 1.0 + truth.config.novelty_days]) * DAY_US
    assert novelty_of_change(truth, at_us) == pytest.approx([0, 0.4, 0.4 / np.e])


def test_the_timeline_is_written_beside_the_truth_in_order(tmp_path):
    config = tiny().config.but(
        hits=0.5,
        shifts=[
            {"kind": "concept", "start_day": 9, "size": 0.5, "ramp_days": 3},
            {"kind": "covariate", "start_day": 4, "size": 0.2, "days": 2},
        ],
    )
    made = make(config, tmp_path)
    told = json.loads((tmp_path / "truth" / "world" / "timeline.json").read_text())
    assert told == timeline(made.truth)
    assert [change["begins_at"] for change in told] == sorted(c["begins_at"] for c in told)
    kinds = {change["kind"]: change for change in told}
    assert kinds["concept"]["begins_at"] == "2026-03-10T00:00:00+00:00"
    assert kinds["concept"]["full_at"] == "2026-03-13T00:00:00+00:00"
    assert kinds["concept"]["ends_at"] is None
    assert kinds["covariate"]["ends_at"] == "2026-03-07T00:00:00+00:00"
    assert kinds["hit"]["item_id"] in set(made.truth.items.ids)
