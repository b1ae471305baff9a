"""Each assumption recovers the truth where it is true, and fails where it is not."""

import numpy as np
import pytest

from pipelines.experiments.click_models import cascade, naive, position_based, trust
from pipelines.experiments.log import Log
from pipelines.experiments.measures import telling, true_ndcg
from pipelines.experiments.wishes import features, learn
from tests.pipelines.experiments.oracle import THETA, K, world

TRUST = 0.2 / np.arange(1, K + 1)


@pytest.fixture(scope="module")
def plain():
    return world()


@pytest.fixture(scope="module")
def trusting():
    return world(seed=1, trust=TRUST)


def error(assumed, logs):
    reading = assumed(logs.randomised)(logs.randomised.click)
    return np.abs(reading.curve() - telling(logs.shuffled))[1:].mean()


def test_how_much_a_place_tells_is_looking_without_the_clicks_that_come_anyway(plain, trusting):
    assert telling(plain.shuffled) == pytest.approx(THETA)
    slope = THETA * (1 - TRUST)
    assert telling(trusting.shuffled) == pytest.approx(slope / slope[0])


def test_position_based_recovers_how_places_are_looked_at(plain):
    assert error(position_based, plain) < 0.02


def test_the_logged_click_curve_is_too_steep():
    logs = world(leaning=4.0, whim=0.0)  # a logger that knows well what is wanted
    rate = logs.test.click.mean(axis=0)
    assert (rate / rate[0])[1:].mean() < THETA[1:].mean() - 0.04
    assert error(position_based, logs) < 0.02, "the slice in random order is not"


def test_who_does_not_know_of_trust_reads_it_as_looking(trusting):
    reading = trust(trusting.randomised)(trusting.randomised.click)
    assert error(trust, trusting) < error(position_based, trusting) / 2
    expected = THETA * TRUST  # what is clicked at each place although it is not wanted
    assert reading.floor[0] == pytest.approx(expected, abs=0.05)
    assert (np.diff(reading.floor[0]) < 0).all()


def test_without_trust_its_reading_falls_back_to_places(plain):
    reading = trust(plain.randomised)(plain.randomised.click)
    assert reading.floor.max() < 0.03
    assert error(trust, plain) < 0.03


def test_an_item_of_one_half_of_the_slice_alone_is_no_trouble(plain):
    few = plain.randomised.rows(np.arange(201))  # a copy
    few.item_ix[-2, 0] = few.item_ix.max() + 5  # only in the half that is not grouped
    assert np.isfinite(trust(few)(few.click).curve()).all()


def reading_down(on, on_after_click, wanted, shape=(40_000, K)):
    """Slates read from the top; everything attracts alike, so all is known about them."""
    rng = np.random.default_rng(5)
    looked, click = np.ones(shape, bool), np.zeros(shape, bool)
    for k in range(shape[1]):
        click[:, k] = looked[:, k] & (rng.random(shape[0]) < wanted)
        if k + 1 < shape[1]:
            go = np.where(click[:, k], on_after_click, on)
            looked[:, k + 1] = looked[:, k] & (rng.random(shape[0]) < go)
    zeros, nobody = np.zeros(shape), np.zeros(shape[0], int)
    return Log(nobody, nobody, zeros.astype(int), click, zeros, looked.astype(float), zeros)


def test_cascade_recovers_how_far_is_read():
    log = reading_down(on=0.8, on_after_click=0.5, wanted=0.15)
    reading = cascade(log)(log.click)
    assert reading.curve() == pytest.approx(log.examination.mean(axis=0), abs=0.02)
    below = reading.slope[:, 1:][log.click[:, :-1]]
    assert below == pytest.approx(0.5, abs=0.06), "what stands below a click"
    first_passed = reading.slope[:, 1][~log.click[:, 0]]
    assert first_passed == pytest.approx(0.8, abs=0.05), "what stands below none"


def test_by_position_a_cascade_is_misread():
    log = reading_down(on=0.95, on_after_click=0.1, wanted=0.3)
    after, after_none = log.click[:, 1:][log.click[:, :-1]], log.click[:, 1:][~log.click[:, :-1]]
    assert after.mean() < after_none.mean() / 2, "what a place-only model says cannot be"
    by_place = position_based(log)(log.click).slope
    below = log.click[:, :-1]
    seen = log.examination[:, 1:][below].mean()
    assert by_place[:, 1:][below].mean() > seen + 0.2
    assert cascade(log)(log.click).slope[:, 1:][below].mean() == pytest.approx(seen, abs=0.05)


def test_naive_reads_all_places_alike(plain):
    assert naive(plain.randomised)(plain.test.click).curve().tolist() == [1.0] * K


def ndcg_of(assumed, logs, seed=0):
    fitted = assumed(logs.randomised)
    model = learn(logs.past, logs.recent, logs.catalogue, logs.users, fitted, seed)
    return true_ndcg(logs.test.attraction, model.score(logs.test)).mean()


def test_reading_clicks_rightly_ranks_better_than_naively():
    logs = world(count=4000, leaning=4.0)  # a logger with whims: its order is not what users want
    assert ndcg_of(position_based, logs) > ndcg_of(naive, logs) + 0.005


def test_a_model_of_wishes_does_not_see_the_place(plain):
    fitted = naive(plain.randomised)
    model = learn(plain.past.rows(slice(500)), plain.recent.rows(slice(500)), plain.catalogue,
                  plain.users, fitted, 0)  # fmt: skip
    shown, shuffled = model.score(plain.test), model.score(plain.shuffled)
    assert np.take_along_axis(shown, plain.shuffle, axis=1) == pytest.approx(shuffled)


def test_the_past_gives_the_counts_and_knows_no_later_click(plain):
    fitted = naive(plain.randomised)
    known = learn(plain.past, plain.recent, plain.catalogue, plain.users, fitted, 0).known
    item = 7
    shown, clicked = (plain.past.item_ix == item), plain.past.click[plain.past.item_ix == item]
    mean = plain.past.click.mean()
    assert known.item_rate[item] == pytest.approx((clicked.sum() + 20 * mean) / (shown.sum() + 20))
    assert features(known, plain.test).shape[:2] == plain.test.item_ix.shape
