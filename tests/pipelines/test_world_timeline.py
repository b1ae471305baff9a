"""The answer key: what changes, when, and how far it has come."""

import json
from datetime import datetime

import numpy as np
import pytest

from features.request import microseconds
from pipelines.world.behaviour import NOT_TO_BE_HAD, appraise
from pipelines.world.generate import WORLD_END, make
from pipelines.world.numbers import logit
from pipelines.world.planning import at_no_moment
from pipelines.world.population import DAY_US, populate
from pipelines.world.state import fresh_state
from pipelines.world.timeline import novelty_of_change, strength, timeline
from pipelines.world.titles import CATEGORIES
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
    for change in told:
        assert {"kind", "size", "begins_at", "full_at", "ends_at"} <= set(change)
        assert change["begins_at"] <= change["full_at"]
        assert change["ends_at"] is None or change["full_at"] <= change["ends_at"]


def test_every_change_of_the_configuration_is_told_as_it_takes_effect():
    """Nothing before the beginning, all of it when full, nothing after the end."""
    truth = world(
        {"kind": "covariate", "start_day": 1, "size": 0.5, "ramp_days": 2, "days": 6},
        {"kind": "concept", "start_day": 2, "size": 0.6},
        {"kind": "incident", "start_day": 4, "size": 0.4, "days": 1},
    )
    told = {change["kind"]: change for change in timeline(truth)}
    hour = 3_600_000_000
    for kind in ("covariate", "concept", "incident"):
        begins, full, ends = (
            told[kind][key] and microseconds(datetime.fromisoformat(told[kind][key]))
            for key in ("begins_at", "full_at", "ends_at")
        )
        assert strength(truth, kind, begins - hour) == 0
        assert strength(truth, kind, full) == told[kind]["size"]
        assert strength(truth, kind, (ends or END_US + 50 * DAY_US) - hour) == told[kind]["size"]
        assert ends is None or strength(truth, kind, ends) == 0


def test_a_novelty_may_come_slowly_and_be_taken_back():
    truth = world({"kind": "novelty", "start_day": 1, "size": 0.4, "ramp_days": 2, "days": 4})
    at_us = END_US + np.array([0.9, 2.0, 3.0, 4.0, 5.1]) * DAY_US
    later = 0.4 * np.exp(-1 / truth.config.novelty_days)
    assert novelty_of_change(truth, at_us) == pytest.approx([0, 0.2, 0.4, later, 0])


ONLY_ITEMS = ("novelty", "walk", "accidents", "bots", "satiation")


@pytest.mark.parametrize(
    ("kind", "also_off", "first", "then", "falls_by"),
    [
        ("launch", ("hits", "season"), "begins_at", "ends_at", 0.95),
        ("hit", ("lifecycle", "season"), "begins_at", "ends_at", 0.95),
        ("season", ("lifecycle", "hits"), "full_at", "begins_at", 2.0),
    ],
)
def test_what_is_told_of_items_is_what_their_attraction_does(kind, also_off, first, then, falls_by):
    """In sizes of the change: what fades is over when a twentieth is left, a season swings by two."""
    truth = tiny("position", (*ONLY_ITEMS, *also_off), hits=0.3)
    told = [change for change in timeline(truth) if change["kind"] == kind]
    told = [change for change in told if change.get("category", "Toys") == "Toys"]
    for change in told[:20]:
        if truth.items.retires_at[row_of(truth, change)] < at(change, "ends_at"):
            continue
        falls = attraction(truth, change, first) - attraction(truth, change, then)
        assert falls == pytest.approx(falls_by * change["size"], rel=0.01)
    assert told


def test_what_is_retired_cannot_be_had_from_the_moment_that_is_told():
    truth = tiny("position", (*ONLY_ITEMS, "hits", "season"), charm=0.0)
    told = [change for change in timeline(truth) if change["kind"] == "retirement"]
    for change in told[:20]:
        falls = attraction(truth, change, "begins_at", -1) - attraction(truth, change, "begins_at")
        assert falls == pytest.approx(NOT_TO_BE_HAD)
    assert told


def at(change, moment):
    return microseconds(datetime.fromisoformat(change[moment]))


def row_of(truth, change):
    """The item, or the longest lived of the category."""
    if "item_id" in change:
        return int(np.flatnonzero(truth.items.ids == change["item_id"])[0])
    of_category = truth.items.category == list(CATEGORIES).index(change["category"])
    return int(np.argmax(np.where(of_category, truth.items.retires_at, 0)))


def attraction(truth, change, moment, seconds=0):
    """Logits of one user's click on the item at a moment that is told."""
    visits = at_no_moment(truth, np.array([3]), at(change, moment) + seconds * 1_000_000)
    item_ix = np.array([[row_of(truth, change)]])
    return float(logit(appraise(truth, fresh_state(truth), visits, item_ix).attraction)[0, 0])
