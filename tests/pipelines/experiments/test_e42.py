"""E-42: what the card's numbers are made of; the drill itself is in tests/pipelines/test_forget.py."""

import pytest

from pipelines.experiments import e42
from pipelines.forget_drill import PLACES, Drilled

EVERYWHERE = {**dict.fromkeys(PLACES, 10), "other": 10}
NOWHERE = dict.fromkeys(EVERYWHERE, 0)
RECEIPT = {"seconds_by_step": {"states": 0.1, "online": 0.4}}


def values(naive=EVERYWHERE, after=NOWHERE, later=NOWHERE):
    return e42.measured(Drilled("u", EVERYWHERE, naive, after, later, 0, 0.5, RECEIPT)).values


def test_what_comes_back_later_counts_as_left():
    assert values()["share_removed"] == 1
    came_back = values(later=NOWHERE | {"online": 6})
    assert (came_back["left_forgotten"], came_back["share_removed"]) == (6, 0.9)
    assert came_back["forgotten_online"] == 6


def test_the_naive_share_is_of_all_traces():
    found = values(naive=EVERYWHERE | {"online": 1})
    assert found["left_naive"] == 51
    assert found["naive_share_left"] == pytest.approx(0.85)


def test_every_step_has_its_seconds_and_the_card_its_measurements():
    found = values()
    assert (found["seconds"], found["seconds_to_spare"]) == (0.5, e42.LIMIT_S - 0.5)
    assert (found["seconds_states"], found["seconds_online"]) == (0.1, 0.4)
    assert {claim.effect for claim in e42.CARD.claims} <= set(found)
    assert {e42.CARD.observed, e42.CARD.true} <= set(found)
