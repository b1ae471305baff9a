"""The rule that grades, on cases whose grade is plain."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitoring.estimate import Estimate, over_seeds
from pipelines.experiments.card import Claim, Direction
from pipelines.experiments.verdict import Verdict, as_expected, grade, together

MORE, LESS = Direction.more, Direction.less
CONFIRMED, REFUTED, NOT_POWERED = Verdict.confirmed, Verdict.refuted, Verdict.not_powered
NUMBERS = st.floats(-100, 100)


@pytest.mark.parametrize(
    ("low", "high", "direction", "word"),
    [
        (0.5, 0.9, MORE, CONFIRMED),  # the limit itself counts
        (0.4, 0.9, MORE, NOT_POWERED),  # straddles the limit
        (-0.1, 0.9, MORE, NOT_POWERED),  # may be nothing, may be a lot
        (0.1, 0.4, MORE, REFUTED),  # surely there, surely too small
        (-0.9, -0.6, MORE, REFUTED),  # the other way round
        (-0.9, -0.5, LESS, CONFIRMED),
        (-0.9, -0.4, LESS, NOT_POWERED),
        (-0.4, 0.1, LESS, REFUTED),
        (0.6, 0.9, LESS, REFUTED),
    ],
)
def test_the_rule_on_constructed_intervals(low, high, direction, word):
    assert grade(Estimate((low + high) / 2, low, high, 5), direction, 0.5) == word


def test_sure_but_small_is_refuted_and_wide_is_not():
    sure_and_small = over_seeds([0.10, 0.11, 0.10, 0.09, 0.10])
    assert sure_and_small.low > 0, "it does exclude zero"
    assert grade(sure_and_small, MORE, 0.5) == REFUTED
    wide = over_seeds([-2.0, 3.0, 1.0, -1.0, 2.0])
    assert grade(wide, MORE, 0.5) == NOT_POWERED


@pytest.mark.parametrize("n", [1, 2, 4])
def test_fewer_than_five_seeds_may_not_speak(n):
    assert grade(over_seeds([1.0, 1.01, 1.02, 1.0][:n]), MORE, 0.5) == NOT_POWERED


@given(NUMBERS, NUMBERS, st.floats(1e-3, 50))
def test_mirroring_claim_and_effect_changes_nothing(a, b, minimum):
    low, high = sorted((a, b))
    here = grade(Estimate((low + high) / 2, low, high, 5), MORE, minimum)
    there = grade(Estimate(-(low + high) / 2, -high, -low, 5), LESS, minimum)
    assert here == there


@given(NUMBERS, NUMBERS, st.floats(1e-3, 50), st.floats(0, 1), st.floats(0, 1))
def test_a_tighter_interval_never_takes_a_word_back(a, b, minimum, s, t):
    low, high = sorted((a, b))
    inner = sorted((low + s * (high - low), low + t * (high - low)))
    before = grade(Estimate(0, low, high, 5), MORE, minimum)
    after = grade(Estimate(0, *inner, 5), MORE, minimum)
    assert before in (NOT_POWERED, after)


@given(NUMBERS, NUMBERS, st.floats(1e-3, 50), st.floats(0, 50))
def test_asking_for_more_never_turns_a_refutation_into_a_confirmation(a, b, minimum, more):
    effect = Estimate(0, *sorted((a, b)), 5)
    order = [REFUTED, NOT_POWERED, CONFIRMED]
    asked, asked_more = grade(effect, MORE, minimum), grade(effect, MORE, minimum + more)
    assert order.index(asked_more) <= order.index(asked)


@pytest.mark.parametrize(
    ("words", "word"),
    [
        ([CONFIRMED, CONFIRMED], CONFIRMED),
        ([CONFIRMED, NOT_POWERED], NOT_POWERED),
        ([CONFIRMED, REFUTED, NOT_POWERED], REFUTED),
    ],
)
def test_all_must_confirm_and_one_can_refute(words, word):
    assert together(words) == word


def test_pairing_by_seed_sees_what_groups_hide():
    rng = np.random.default_rng(1)
    world = rng.normal(0, 1, 5)  # what makes worlds differ
    one, other = world + rng.normal(0, 0.02, 5), world + 0.3 + rng.normal(0, 0.02, 5)
    assert grade(over_seeds(other - one), MORE, 0.2) == CONFIRMED
    alone = [over_seeds(one), over_seeds(other)]
    assert alone[0].high > alone[1].low, "the two intervals overlap and say nothing"


def test_the_expected_range_is_told_apart_from_the_verdict():
    claim = Claim("x", "x", MORE, 0.1, (0.2, 0.4), "nowhere")
    large = over_seeds([0.9, 0.9, 0.9, 0.9, 0.9])
    assert grade(large, claim.direction, claim.minimum) == CONFIRMED
    assert not as_expected(large, claim)


@pytest.mark.parametrize(
    ("direction", "minimum", "expected", "message"),
    [
        (MORE, 0.0, (0.1, 0.2), "not worth claiming"),
        (MORE, 0.1, (0.3, 0.2), "upside down"),
        (MORE, 0.5, (0.1, 0.2), "less than it calls worthwhile"),
        (LESS, 0.5, (-0.2, 0.9), "less than it calls worthwhile"),
    ],
)
def test_a_claim_that_cannot_be_graded_is_refused(direction, minimum, expected, message):
    with pytest.raises(AssertionError, match=message):
        Claim("x", "x", direction, minimum, expected, "nowhere")
