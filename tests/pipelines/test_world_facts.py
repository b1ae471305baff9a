"""The facts: each measures what it says, and the default world keeps all of them."""

from dataclasses import replace

import numpy as np
import pytest

from pipelines.world import facts
from pipelines.world.check import check_switches, unmet
from pipelines.world.config import configure
from pipelines.world.facts import FACTS
from pipelines.world.logs import simulated


@pytest.fixture(scope="module")
def log():
    return simulated(configure("small", 0))


@pytest.mark.parametrize("name", FACTS)
def test_the_demo_world_looks_like_published_logs(log, name):
    value = FACTS[name].measure(log)
    assert FACTS[name].holds(value), f"{value} is not within {FACTS[name].low} … {FACTS[name].high}"


def with_clicks(log, click):
    return replace(log, reaction=replace(log.reaction, click=click))


def test_counts_are_counts(log):
    click = np.zeros_like(log.clicks)
    click[:100, 0], click[:20, 9] = True, True
    few = with_clicks(log, click)
    assert facts.slot_ratio(few) == 5
    assert facts.click_rate(few) == pytest.approx(120 / click.size)


def test_head_share_of_one_item_and_of_all(log):
    one = log.item_ix == log.item_ix[0, 0]
    assert facts.top_items_share(with_clicks(log, one)) == 1
    everything = facts.top_items_share(with_clicks(log, np.ones_like(log.clicks)))
    shown = np.sort(np.bincount(log.item_ix.ravel()))[::-1]
    assert everything == pytest.approx(shown[:10].sum() / shown.sum())


def test_auc_is_scikit_learns(log):
    from sklearn.metrics import roc_auc_score

    expected = roc_auc_score(log.clicks.ravel(), log.reaction.utility.ravel())
    assert facts.perfect_auc(log) == pytest.approx(expected)


def test_the_coin_is_not_between_users(log):
    shuffled = np.random.default_rng(0).permutation(log.reaction.utility)
    alike = replace(log, reaction=replace(log.reaction, utility=shuffled))
    assert facts.user_variance_share(alike) < 0.02
    by_user = np.repeat(log.visits.user_ix[:, None] % 7 / 10, 10, axis=1)
    apart = replace(log, reaction=replace(log.reaction, utility=by_user))
    assert facts.user_variance_share(apart) > 0.99


def test_clicks_at_random_know_neither_repeats_nor_topics_nor_prices(log):
    rate = log.clicks.mean(axis=0)
    click = np.random.default_rng(1).random(log.clicks.shape) < rate
    plain = with_clicks(log, click)
    assert facts.repeat_decay(plain) == pytest.approx(1, abs=0.1)
    assert facts.topic_lift(plain) == pytest.approx(1, abs=0.2)
    assert abs(facts.price_consistency(plain)) < 0.05


def test_geometric_sessions_are_geometric_and_fixed_ones_are_not(log):
    assert facts.pages_off_geometric(log) < 0.05
    fixed = replace(
        log.visits, session=np.arange(len(log.visits)) // 4, user_ix=log.visits.user_ix * 0
    )
    assert facts.pages_off_geometric(replace(log, visits=fixed)) > 0.4


def test_a_switch_off_moves_the_fact_that_it_carries():
    told = check_switches([0, 1], "small", only=("satiation", "churn"), times=1)
    assert {switch: row["ok"] for switch, row in told.items()} == {"satiation": True, "churn": True}
    assert told["satiation"]["off"]["mean"] > 0.85 > told["satiation"]["on"]["mean"]


def test_what_is_not_met_is_told_by_name():
    fact = {"value": 0.5, "low": 0, "high": 0.4, "ok": False, "values": [0.5]}
    switch = {"fact": "retention", "moved": 0.01, "seed_to_seed": 0.02, "ok": False}
    metrics = {
        "facts": {"trust": {"click_rate": fact}},
        "switches": {"churn": switch},
        "slates_per_minute": 99_000.0,
        "full_week": {"impressions": 2_900_000},
        "full_peak_gib": 4.5,
    }
    told = unmet(metrics)
    assert told[0] == "trust: click_rate is [0.5], expected 0 … 0.4"
    assert told[1].startswith("without churn, retention moves by 0.010, no further than between")
    assert len(told) == 5
    assert told[3] == "2,900,000 impressions in the full week"
    metrics |= {"facts": {}, "switches": {}, "slates_per_minute": 1e6, "full_peak_gib": 0.3}
    metrics["full_week"] = {"impressions": 3_000_000}
    assert unmet(metrics) == []
