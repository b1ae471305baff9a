"""Three families: what they like, how they look, and in what they differ."""

import numpy as np
import pytest

from pipelines.world.draws import uniform
from pipelines.world.families import FAMILY, Draws, Match
from pipelines.world.numbers import sigmoid

NAMES = list(FAMILY)
S, K = 30_000, 7


def match(taste=0.5, style=0.0, price=0.3, appeal=0.0):
    return Match(*(np.full((1, 1), value) for value in (taste, style, price, appeal)))


def utility(name, **values):
    return float(FAMILY[name].utility(match(**values))[0, 0])


def draws(slates=S, length=K):
    row, place = np.arange(slates)[:, None], np.arange(length)[None, :]
    return Draws(*(uniform(9, what, row, place) for what in ("look", "like", "trust")))


def looked(name, attraction, device="mobile", trust=0.5):
    device = np.full(len(attraction), device)
    return FAMILY[name].look(
        attraction, device, np.full(len(attraction), trust), draws(*attraction.shape)
    )


@pytest.mark.parametrize("name", NAMES)
def test_more_of_each_good_thing_is_never_worse(name):
    assert utility(name, taste=1) > utility(name, taste=0.05)
    assert utility(name, style=2) > utility(name, style=-2)
    assert utility(name, appeal=2) >= utility(name, appeal=-2)
    assert utility(name, price=0) > utility(name, price=2)


def test_only_the_first_family_is_a_sum_of_effects():
    """Is what a good price is worth the same, whether the category is liked or not?"""

    def interaction(name):
        liked = utility(name, taste=1, style=1, appeal=1, price=0) - utility(
            name, taste=1, style=1, appeal=1, price=1.5
        )
        not_liked = utility(name, taste=0.05, style=-1, appeal=-1, price=0) - utility(
            name, taste=0.05, style=-1, appeal=-1, price=1.5
        )
        return abs(liked - not_liked)

    assert interaction("position") < 1e-9
    assert interaction("trust") > 0.5
    assert interaction("cascade") > 0.5


@pytest.mark.parametrize("name", NAMES)
def test_what_happens_has_the_chance_that_the_truth_says(name):
    attraction = np.tile(np.linspace(0.5, 0.05, K), (S, 1))
    look = looked(name, attraction)
    assert look.examined.mean(axis=0) == pytest.approx(look.examination.mean(axis=0), abs=0.012)
    expected = (look.examination * look.chance).mean(axis=0)
    assert look.click.mean(axis=0) == pytest.approx(expected, abs=0.01)
    assert not (look.click & ~look.examined).any()


@pytest.mark.parametrize("name", NAMES)
def test_the_first_place_is_always_looked_at_and_later_ones_less_on_a_phone(name):
    attraction = np.full((1, K), 0.1)
    desktop, phone = (looked(name, attraction, device) for device in ("desktop", "mobile"))
    for look in (desktop, phone):
        assert look.examination[0, 0] == 1
        assert (np.diff(look.examination, axis=1) < 0).all()
    assert (phone.examination[0, 1:] < desktop.examination[0, 1:]).all()


def test_only_in_the_cascade_what_stands_above_decides_how_far_one_reads():
    poor, rich = np.full((1, K), 0.05), np.full((1, K), 0.05)
    rich[0, 0] = 0.9
    for name in ("position", "trust"):
        assert (looked(name, poor).examination == looked(name, rich).examination).all()
    assert (looked("cascade", rich).examination < looked("cascade", poor).examination)[0, 1:].all()


def test_only_trust_brings_clicks_to_what_does_not_appeal():
    nothing = np.full((S, K), 1e-9)
    for name in ("position", "cascade"):
        assert not looked(name, nothing, trust=1.0).click.any()
    clicks = looked("trust", nothing, trust=1.0).click.mean(axis=0)
    assert clicks[0] > 0.03
    assert clicks[0] > 5 * clicks[-1]
    assert not looked("trust", nothing, trust=0.0).click.any()


@pytest.mark.parametrize("name", NAMES)
def test_chances_stay_chances_at_every_extreme(name):
    best = Match(np.ones((1, 1)), np.full((1, 1), 50.0), np.zeros((1, 1)), np.full((1, 1), 50.0))
    worst = Match(
        np.zeros((1, 1)), np.full((1, 1), -50.0), np.full((1, 1), 9.0), np.full((1, 1), -50.0)
    )
    for extreme in (best, worst):
        chance = sigmoid(FAMILY[name].utility(extreme))
        assert np.isfinite(chance).all()
        assert ((chance >= 0) & (chance <= 1)).all()
