"""E-04 where the answer can be written down."""

import numpy as np
import pytest

from pipelines.experiments.e04 import aucs, ndcg_range, scaled
from pipelines.experiments.log import Log
from pipelines.experiments.own_tables import share_of
from tests.pipelines.experiments.oracle import world


def two_places(attraction: float) -> Log:
    """Two places, looked at with 1 and 1/2; every item attracts alike."""
    wanted = np.full((3, 2), attraction)
    looked = np.broadcast_to([1.0, 0.5], (3, 2))
    nobody = np.zeros(3, int)
    return Log(
        nobody,
        nobody,
        np.zeros((3, 2), int),
        np.eye(3, 2, dtype=bool),
        wanted,
        looked,
        wanted * looked,
    )


def test_where_items_are_alike_place_is_all_there_is():
    got = aucs(two_places(0.2))
    first, second = 0.2, 0.1  # chances of a click
    right = first * (1 - second) + (first * (1 - first) + second * (1 - second)) / 2
    assert got["place"] == got["perfect"] == pytest.approx(right / (0.3 * 1.7))
    assert got["attraction"] == 0.5


def test_where_all_is_looked_at_place_is_nothing():
    wanted = np.array([[0.1, 0.3], [0.3, 0.1]])
    nobody = np.zeros(2, int)
    log = Log(nobody, nobody, np.zeros((2, 2), int), wanted > 0.2, wanted, np.ones((2, 2)), wanted)
    got = aucs(log)
    assert got["place"] == 0.5
    assert (
        got["attraction"]
        == got["perfect"]
        == pytest.approx((0.3 * 0.9 + (0.3 * 0.7 + 0.1 * 0.9) / 2) / (0.4 * 1.6))
    )


def test_place_alone_beats_all_that_items_tell():
    got = aucs(world().test)
    assert got["place"] > got["attraction"] > 0.5
    assert got["perfect"] > got["place"]
    assert got["perfect"] < 0.85, "and what knows every chance does not pass the gate"
    picky = aucs(world(spread=4.0).test)
    assert picky["attraction"] > picky["place"], "a fact about a world, and no law"


def test_rarer_clicks_leave_places_and_items_as_they_stand_to_each_other():
    log = two_places(0.2)
    rare = scaled(log, 0.5)
    assert rare.chance == pytest.approx(log.chance / 2)
    assert aucs(rare)["attraction"] == 0.5


def test_more_slots_make_place_alone_look_better():
    log = world().test
    assert aucs(log.top(6))["place"] > aucs(log.top(3))["place"]


def test_the_best_order_of_logged_clicks_is_above_the_random_one():
    log = world().test
    random, best = ndcg_range(log, 0)
    assert 0 < random.mean() < best.mean() < 1


@pytest.mark.parametrize(
    ("gate", "told"),
    [(0.65, "50%"), (0.85, "117% (out of reach)"), (0.5, "0% (passed by chance)")],
)
def test_a_gate_is_told_as_a_share_of_what_can_be_reached(gate, told):
    assert share_of(gate, 0.5, 0.8) == told
