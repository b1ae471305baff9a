"""E-12 on a short world: which faults move lists, which move probabilities, and what parity says."""

import numpy as np
import pytest

from pipelines.experiments import counted, e12
from pipelines.experiments.card import Setting
from pipelines.experiments.rehearsal import rehearse

SHORT = e12.COUNTED + e12.TRAINED + 1


@pytest.fixture(scope="module")
def world():
    return rehearse(Setting("trust", "tiny"), 0, SHORT, 1, 20)


@pytest.fixture(scope="module")
def judged(world):
    return e12.judged(world, 0)


def test_what_all_candidates_share_moves_no_order(judged):
    """Where nothing is crossed: exactly none. Trees that may cross move lists all the same."""
    assert judged.values["lists_kept_apart"] == 1
    assert judged.values["ece_added_apart"] > 0.002
    assert judged.values["lists_kept_double"] < 0.9
    assert judged.values["lists_kept_window"] < 0.1


def test_offline_nothing_is_seen(judged):
    assert judged.values["offline_auc"] == judged.values["served_auc_none"] > 0.6
    assert judged.values["served_auc_window"] != judged.values["offline_auc"]


def test_parity_sees_every_fault_and_not_its_price(judged):
    assert judged.values["parity_none"] == 1
    assert all(judged.values[f"parity_{name}"] < 0.999 for name in e12.NAMES)
    assert judged.values["parity_zone"] == 0, "each hour is wrong"
    assert abs(judged.values["ece_added_zone"]) < judged.values["ece_added_double"]


def test_counts_are_those_of_the_days_before(world):
    """Against a plain reading of the log: nothing of the day itself."""
    known, day = counted.count(world), world.stages[0].day
    rows = counted.features(known, day, day.item_ix)
    user, item = int(day.user_ix[0]), int(day.item_ix[0, 3])
    clicks, looks, own, idle = 0, 0, 0, np.inf
    for past in world.days[day.number - 30 : day.number]:
        here = past.item_ix == item
        clicks += int((past.click & here).sum())
        looks += int(here.sum())
        same = world.catalogue.category[past.item_ix] == world.catalogue.category[item]
        theirs = past.click & same & (past.user_ix == user)[:, None]
        own += int(theirs.sum())
    for past in world.days[: day.number]:
        for hour in past.hour[(past.click & (past.item_ix == item)).any(axis=1)]:
            idle = min(idle, day.number - past.number - hour / 24)
    found = {name: float(rows[0, 3, place]) for name, place in e12.AT.items()}
    assert found["item_positives_30d"] == clicks
    assert found["category_positives_30d"] == own
    assert found["item_click_rate_30d"] == pytest.approx((min(clicks, looks) + 1) / (looks + 20))
    assert found["item_idle_days"] == pytest.approx(min(idle, 90))


def test_the_stage_is_the_same_whoever_plays(world):
    stage = world.stages[0]
    first = stage.clicks(stage.pool[:, :10])
    assert np.array_equal(stage.clicks(stage.pool[:, :10]), first)
    assert all(len(set(pool)) == len(pool) for pool in stage.pool.tolist())
