"""The presets that change something on a day: they move what their name says, and nothing else.

Each is played beside the base with the same luck. Slates are drawn by the visit alone, so that no
policy passes on what users do: what is left is the shift.
"""

from dataclasses import dataclass

import numpy as np
import pytest

from pipelines.world.behaviour import appraise
from pipelines.world.config import FAMILIES, configure
from pipelines.world.draws import uniform
from pipelines.world.generate import WORLD_END
from pipelines.world.happenings import happenings
from pipelines.world.numbers import logit
from pipelines.world.planning import plan_day
from pipelines.world.play import Played, play_day
from pipelines.world.population import DAY_US, NEW_DEVICE, NEW_LOCATION, populate
from pipelines.world.state import begin_day, fresh_state
from pipelines.world.timeline import novelty_of_change
from pipelines.world.truth import State, Truth
from tests.pipelines.world_kit import END_US

STARTS = 3
"""Day on which all four presets begin."""

DAYS = 6


@dataclass(frozen=True)
class Day:
    played: Played
    morning: State
    arrived: np.ndarray  # µs at which what users did that day, or bought later, was seen


def days_of(family: str, preset: str) -> tuple[Truth, list[Day]]:
    config = configure("tiny", 5, family, preset, users=1_200, slates_a_day=1_500)
    truth = populate(config, WORLD_END)
    state, days = fresh_state(truth), []
    for number in range(DAYS):
        start_us = END_US + number * DAY_US
        begin_day(truth, state, start_us // DAY_US)
        morning, visits = state.copy(), plan_day(truth, state, start_us)
        every = np.arange(truth.config.items)[None, :]
        slates = np.argsort(uniform(visits.luck[:, None], "any", every), axis=1)[:, :10]
        played = play_day(truth, state, visits, slates.__getitem__)
        happened = happenings(truth, played.visits, played.item_ix, played.reaction)
        days.append(Day(played, morning, happened.seen_us))
    return truth, days


@pytest.fixture(scope="module", params=FAMILIES)
def worlds(request):
    """The base and the four presets, in one family."""
    presets = ("base", "covariate_drift", "concept_drift", "incident", "novelty")
    return {preset: days_of(request.param, preset) for preset in presets}


def variation(ones: np.ndarray, others: np.ndarray) -> float:
    """Total variation between two samples: 0 = the same mix, 1 = nothing in common."""
    values = np.unique(np.concatenate([ones, others]))
    shares = [(np.searchsorted(values, part), len(part)) for part in (ones, others)]
    first, second = (np.bincount(rows, minlength=len(values)) / n for rows, n in shares)
    return float(np.abs(first - second).sum() / 2)


def inputs(truth: Truth, days: list[Day]) -> dict[str, np.ndarray]:
    """What a platform knows before anybody reacts."""
    visits = [day.played.visits for day in days]
    who = np.concatenate([v.user_ix for v in visits])
    shown = np.concatenate([day.played.item_ix for day in days])
    return {
        "device": np.concatenate([v.device for v in visits]),
        "location": truth.users.location[who],
        "hour": np.concatenate([v.at_us for v in visits]) // 3_600_000_000 % 24,
        "category": truth.items.category[shown].ravel(),
        "price": np.digitize(truth.items.price[shown].ravel(), [10, 30, 100]),
    }


def moved(worlds, preset: str, first: int = STARTS) -> dict[str, float]:
    """How far each input moved between the base and the preset, from the start on."""
    (base, ours), (truth, theirs) = worlds["base"], worlds[preset]
    before, after = inputs(base, ours[first:]), inputs(truth, theirs[first:])
    return {name: variation(before[name], after[name]) for name in before}


def same(ours: Played, theirs: Played) -> bool:
    return (
        np.array_equal(ours.visits.luck, theirs.visits.luck)
        and np.array_equal(ours.item_ix, theirs.item_ix)
        and np.array_equal(ours.reaction.utility, theirs.reaction.utility)
        and np.array_equal(ours.reaction.click, theirs.reaction.click)
    )


@pytest.mark.parametrize("preset", ["covariate_drift", "concept_drift", "incident", "novelty"])
def test_before_its_day_a_shift_changes_nothing(worlds, preset):
    for ours, theirs in zip(worlds["base"][1][:STARTS], worlds[preset][1][:STARTS], strict=True):
        assert same(ours.played, theirs.played)
        start_us = END_US + STARTS * DAY_US
        assert np.array_equal(
            *(np.sort(day.arrived[day.arrived < start_us]) for day in (ours, theirs))
        )


def test_a_covariate_shift_moves_who_comes(worlds):
    told = moved(worlds, "covariate_drift")
    assert told["device"] == pytest.approx(0.5, abs=0.06)  # its size: the share of all visits
    assert told["location"] == pytest.approx(0.5, abs=0.06)
    truth, days = worlds["covariate_drift"]
    visits = days[STARTS].played.visits
    new = truth.users.segment[visits.user_ix] == 1
    assert set(visits.device[new]) == {NEW_DEVICE}
    assert set(truth.users.location[visits.user_ix[new]]) == {NEW_LOCATION}


def test_a_covariate_shift_moves_nobodys_mind(worlds):
    """Whoever came before comes as before, and clicks what he clicked, to the last digit."""
    truth, theirs = worlds["covariate_drift"]
    for ours, day in zip(worlds["base"][1], theirs, strict=True):
        known = truth.users.segment[day.played.visits.user_ix] == 0
        assert np.array_equal(ours.played.visits.luck, day.played.visits.luck[known])
        assert np.array_equal(ours.played.reaction.utility, day.played.reaction.utility[known])
        assert np.array_equal(ours.played.reaction.click, day.played.reaction.click[known])


def test_a_concept_shift_moves_no_input(worlds):
    first_day = worlds["concept_drift"][1][STARTS].played.visits
    assert np.array_equal(first_day.luck, worlds["base"][1][STARTS].played.visits.luck)
    # Later a little: who is less content comes less often.
    for name, distance in moved(worlds, "concept_drift").items():
        assert distance < 0.04, name


def favourite_lift(truth: Truth, played: Played, who: np.ndarray) -> float:
    """Chance of a click on what used to be users' favourite category, over that of all else."""
    mine = who[played.visits.user_ix]
    favourite = truth.users.taste.argmax(axis=1)[played.visits.user_ix]
    liked = truth.items.category[played.item_ix] == favourite[:, None]
    chance = played.reaction.utility
    return float(chance[mine[:, None] & liked].mean() / chance[mine[:, None] & ~liked].mean())


def test_a_concept_shift_turns_its_share_of_users_and_only_those(worlds):
    base, ours = worlds["base"]
    truth, theirs = worlds["concept_drift"]
    turned = (theirs[STARTS].morning.taste != truth.users.taste).any(axis=1)
    assert turned.mean() == pytest.approx(0.6, abs=4 * np.sqrt(0.6 * 0.4 / len(turned)))
    before, after = ours[STARTS].played, theirs[STARTS].played
    stayed = ~turned[after.visits.user_ix]
    assert np.array_equal(before.reaction.utility[stayed], after.reaction.utility[stayed])
    assert favourite_lift(base, before, turned) > 1.5
    assert favourite_lift(truth, after, turned) < 1.15
    assert favourite_lift(truth, after, ~turned) > 1.5


def test_an_incident_loses_events_of_its_day_and_changes_nobody(worlds):
    ours, theirs = worlds["base"][1], worlds["incident"][1]
    assert all(same(one.played, other.played) for one, other in zip(ours, theirs, strict=True))
    seen, kept = (
        np.bincount(np.concatenate([day.arrived for day in days]) // DAY_US - END_US // DAY_US)
        for days in (ours, theirs)
    )
    hit = np.arange(len(seen)) == STARTS
    assert np.array_equal(kept[~hit], seen[~hit])
    lost = 1 - kept[hit][0] / seen[hit][0]
    assert lost == pytest.approx(0.4, abs=4 * np.sqrt(0.24 / seen[hit][0]))


def test_a_novelty_adds_its_logits_to_everything_and_fades(worlds):
    base, ours = worlds["base"]
    truth, theirs = worlds["novelty"]
    for number in range(DAYS):
        played, morning = theirs[number].played, theirs[number].morning
        some = np.arange(min(300, len(played.visits)))
        visits, item_ix = played.visits.take(some), played.item_ix[some]
        with_it = appraise(truth, morning, visits, item_ix).attraction
        without = appraise(base, morning, visits, item_ix).attraction
        added = np.broadcast_to(novelty_of_change(truth, visits.at_us)[:, None], item_ix.shape)
        assert logit(with_it) - logit(without) == pytest.approx(added, abs=1e-6)
        assert (added.max() > 0) == (number >= STARTS)
    first = theirs[STARTS].played
    assert np.array_equal(first.visits.luck, ours[STARTS].played.visits.luck), "nobody else comes"
    rates = [day.played.reaction.utility.mean() for day in (ours[STARTS], theirs[STARTS])]
    assert 1.1 < rates[1] / rates[0] < 1.5
    for name, distance in moved(worlds, "novelty").items():
        assert distance < 0.04, name
