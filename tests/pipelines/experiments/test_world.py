"""The experiments' view of the world: paired twins, and directions that hold at the smallest scale."""

from dataclasses import fields

import numpy as np
import pytest

from pipelines.experiments import e02, e04, e47a, e47b, e47e
from pipelines.experiments.card import Setting
from pipelines.experiments.log import Log
from pipelines.experiments.measures import expected_auc
from pipelines.experiments.world import FAMILIES, logged

SETTING = Setting("position", "tiny")


@pytest.fixture(scope="module")
def logs():
    return logged(SETTING, 0)


def test_the_same_setting_and_seed_give_the_same_log(logs):
    again = logged(SETTING, 0)
    for field in fields(Log):
        assert np.array_equal(getattr(logs.test, field.name), getattr(again.test, field.name))
    other = logged(SETTING, 1)
    assert not np.array_equal(logs.test.user_ix, other.test.user_ix)


def test_twins_are_the_same_visits_with_the_same_items_elsewhere(logs):
    test, twin = logs.test, logs.shuffled
    assert np.array_equal(test.user_ix, twin.user_ix)
    assert np.array_equal(np.take_along_axis(test.item_ix, logs.shuffle, axis=1), twin.item_ix)
    assert (logs.shuffle != np.arange(test.item_ix.shape[1])).mean() > 0.8


def test_twins_share_their_luck(logs):
    """An item that was clicked, and stands higher now where nothing else changed, is clicked again."""
    fixed = logs.shuffle == np.arange(logs.test.item_ix.shape[1])[None, :]
    first_day = np.arange(len(fixed)) < 60  # before memories part
    same = fixed & first_day[:, None]
    agree = (logs.test.click == logs.shuffled.click)[same].mean()
    assert same.sum() > 20
    assert agree > 0.97


def test_the_parts_follow_each_other_and_the_slice_is_apart(logs):
    parts = (logs.past, logs.recent, logs.test)
    assert len(logs.past) > len(logs.recent) > 0
    assert len(logs.shuffled) == len(logs.test)
    assert 0.01 < len(logs.randomised) / sum(map(len, parts[:2])) < 0.15
    assert all(part.item_ix.max() < len(logs.catalogue.price) for part in parts)


def test_chances_are_what_clicks_are_drawn_from(logs):
    chance, click = logs.test.chance, logs.test.click
    error = np.sqrt((chance * (1 - chance)).sum())
    assert abs(click.sum() - chance.sum()) < 4 * error
    assert expected_auc(chance.ravel(), chance.ravel()) > 0.7
    assert (logs.test.chance <= 1).all()


@pytest.mark.parametrize("family", FAMILIES)
def test_the_log_flatters_the_order_that_made_it(family):
    values = e02.measure(Setting(family, "tiny"), 0).values
    assert values["logged_shown"] > values["randomised_shown"] + 0.03
    assert (
        values["randomised_oracle_minus_shown"] > values["logged_oracle"] - values["logged_shown"]
    )
    assert values["logged_debiased_minus_shown"] < values["true_debiased_minus_shown"]


@pytest.mark.parametrize("one", [e02, e04, e47a, e47b, e47e], ids=lambda one: one.CARD.number)
def test_an_experiment_measures_what_its_card_grades(one):
    measured = one.measure(SETTING, 0)
    named = {claim.effect for claim in one.CARD.claims} | {one.CARD.observed, one.CARD.true}
    assert named <= set(measured.values)
    assert set(measured.within) <= set(measured.values)
