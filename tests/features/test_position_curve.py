"""The position curve: recovered from a log that a ranking wrote, where the plain rate is not."""

import numpy as np
import pytest

from features.position_curve import FLAT, MAX_POSITION, SHOWN_MIN, UNKNOWN_POSITION, fit, version_of

PULL = 1 / np.arange(1, 9) ** 0.8
"""The truth: how much each of eight places is looked at."""


def log_of(rng, attraction, noise):
    """Slates of the best items first, shaken by `noise`; counts per item and place."""
    items, places = len(attraction), len(PULL)
    shown, clicks = np.zeros((items, places + 1)), np.zeros((items, places + 1))
    for _ in range(12_000):
        slate = np.argsort(-(attraction + noise * rng.normal(size=items)))[:places]
        shown[slate, np.arange(1, places + 1)] += 1
        clicks[slate, np.arange(1, places + 1)] += rng.random(places) < attraction[slate] * PULL
    item, position = np.nonzero(shown)
    return item, position, shown[item, position], clicks[item, position]


def relative(curve):
    return np.array([curve[place] for place in range(1, len(PULL) + 1)]) / curve[1]


def test_good_items_on_top_do_not_bend_the_curve():
    rng = np.random.default_rng(3)
    item, position, shown, clicks = log_of(rng, rng.uniform(0.05, 0.6, 24), noise=0.15)
    ours = relative(fit(item, position, shown, clicks))
    plain = np.bincount(position, clicks)[1:] / np.bincount(position, shown)[1:]
    assert np.abs(np.log(ours / PULL)).max() < 0.1
    assert np.abs(np.log(plain / plain[0] / PULL)).max() > 0.3  # the naive curve is too steep


def test_on_a_randomised_log_it_is_the_click_rate_by_place():
    """Every item stood everywhere equally often: nothing is to be taken out."""
    item, position = np.divmod(np.arange(6 * 5), 5)
    shown, clicks = np.full(30, 200.0), 10.0 * (5 - position) + item
    curve = fit(item, position + 1, shown, clicks)
    plain = np.bincount(position, clicks) / np.bincount(position, shown)
    np.testing.assert_allclose([curve[place] for place in range(1, 6)], plain, rtol=1e-9)


def test_expected_clicks_sum_to_the_clicks_seen():
    rng = np.random.default_rng(4)
    item, position, shown, clicks = log_of(rng, rng.uniform(0.05, 0.6, 24), noise=0.3)
    position[:3] = UNKNOWN_POSITION  # shown, but nobody wrote down where
    curve = fit(item, position, shown, clicks)
    expected = sum(curve[place] * n for place, n in zip(position, shown, strict=True))
    assert expected == pytest.approx(clicks.sum())


def test_a_place_that_was_hardly_shown_takes_the_one_above_it():
    shown = np.array([1000.0, 1000.0, SHOWN_MIN - 1])
    curve = fit(np.array([0, 0, 0]), np.array([1, 2, 3]), shown, np.array([100.0, 50.0, 40.0]))
    assert curve[2] == pytest.approx(curve[1] / 2)
    assert curve[3] == curve[2] == curve[MAX_POSITION]


def test_too_few_clicks_correct_nothing_yet():
    curve = fit(np.array([0, 1]), np.array([1, 2]), np.array([900.0, 900.0]), np.array([50.0, 9.0]))
    assert curve == FLAT


def test_another_curve_is_another_version():
    assert version_of(FLAT) != version_of({**FLAT, 3: 0.04})
