"""E-12: serving reads other features than training, and no offline metric can see it.

One model, trained once. On the test days it is asked again with each fault in what it reads; offline
evaluation reads the right values and says the same of all of them.

Interview: Offline AUC is unchanged, the click rate is not. Where do you look, and what matters most?
    At what the model reads online against what it is trained on. A wrong value that differs between
    the candidates of a request moves their order and costs clicks. One that is the same for all of
    them moves every probability, and no list of a model that only adds it; trees cross it with the
    items' values, so lists do change, at a fraction of the price. What is built on the probability
    (bids, values, thresholds) breaks in either case.
    Trade-off: a parity check names the fault, not its price: a wrong hour in every row costs next to
    nothing where the hour tells nothing.
    Shown by: tests/pipelines/experiments/test_e12.py::test_what_all_candidates_share_moves_no_order
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import lightgbm as lgb
import numpy as np

from features.definitions import NEVER_DAYS
from monitoring.skew import equal
from pipelines.experiments.card import Card, Claim, Direction, Measured, Setting, Tier, half_width
from pipelines.experiments.counted import (
    AT,
    FEATURES,
    Known,
    count,
    features,
    smoothed,
    totals,
    with_columns,
)  # fmt: skip
from pipelines.experiments.measures import (
    best_first,
    by_user,
    ece,
    expected_auc,
    lists_kept,
    true_ndcg,
)  # fmt: skip
from pipelines.experiments.rehearsal import Day, Rehearsal, rehearse
from pipelines.experiments.world import FAMILIES

COUNTED, TRAINED, TRIED = 30, 10, 10
"""Days that fill the longest window, that give rows to train on, that judge."""

POOL, K = 40, 10

STALE_DAYS = 3
"""Nobody has filled the online store for so long: a long weekend."""

SHARED = ("positives_30d", "user_click_rate_30d", "hour_of_day", "device")
"""The same for every candidate of a request."""

CARD = Card(
    number="E-12",
    title="Training-serving skew",
    question="Offline AUC is what it was, and the click rate fell. What happened?",
    sentence=(
        "Serving reads other values than training, which no offline metric reads: an error that differs "
        "between candidates costs clicks, one that all of them share breaks probabilities only."
    ),
    varied=(
        "what serving reads: a window of 7 d for 30 d, a missing value as 0, clicks counted twice, the "
        "hour shifted by a time zone, rows three days old"
    ),
    measured=(
        "share of equal values by feature, true expected clicks and true nDCG of the lists, calibration "
        "error of the predicted chances, AUC offline and with the values as served"
    ),
    claims=(
        Claim(
            "clicks_lost_window",
            "7 days under the name of 30 costs expected clicks (relative)",
            Direction.more,
            0.005,
            (0.005, 0.15),
            "pilot world: skew that differs across candidates cost ranking, one seed",
        ),
        Claim(
            "clicks_lost_null",
            "a category never clicked, served as clicked just now, costs expected clicks (relative)",
            Direction.more,
            0.005,
            (0.005, 0.25),
            "reasoned: the unknown looks like the hottest; of items, too few are never clicked to matter",
        ),
        Claim(
            "ece_added_double",
            "a user's clicks counted twice break calibration",
            Direction.more,
            0.005,
            (0.005, 0.10),
            "reasoned: the user's click rate about doubles",
        ),
        Claim(
            "lists_kept_apart",
            "and move no list of a model that never crosses them with what differs between candidates",
            Direction.more,
            0.99,
            (0.99, 1.0),
            "arithmetic: an addend that all candidates share cannot change their order",
        ),
        Claim(
            "clicks_kept_double",
            "nor cost more than 1 % of the expected clicks where trees may cross (what is left of it)",
            Direction.more,
            0.002,
            (0.002, 0.01),
            "reasoned from the same arithmetic; a pilot of one seed has it both ways",
        ),
    ),
    observed="offline_auc_lost",
    true="clicks_lost_window",
    change_our_mind=(
        "a world in which a fault that all candidates share costs as many clicks as one that they do not"
    ),
    tier=Tier.S,
    families=FAMILIES,
    scale="tiny",
)

Fault = Callable[["Known", np.ndarray, Day, np.ndarray], np.ndarray]
"""(counts, (S, P, F) right values, the day, (S, P) items) -> what is served instead."""


def measure(setting: Setting, seed: int) -> Measured:
    """Every fault in one world."""
    return judged(rehearse(setting, seed, COUNTED + TRAINED + TRIED, TRIED, POOL), seed)


def judged(world: Rehearsal, seed: int) -> Measured:
    """One model, asked with the right values and with each fault; and one that crosses nothing."""
    known = count(world)
    model, apart = trained(world, known, seed), trained(world, known, seed, cross=False)
    right = _tried(world, known, model, FAULTS["none"])
    users = np.concatenate([stage.day.user_ix for stage in world.stages])
    values = {"offline_auc": right.auc, "offline_auc_lost": 0.0, **_told("none", right)}
    within = {}
    for name in NAMES:
        run = _tried(world, known, model, FAULTS[name])
        lost = (right.clicks - run.clicks) / right.clicks.mean()
        values |= _told(name, run) | {
            f"clicks_lost_{name}": float(lost.mean()),
            f"ndcg_lost_{name}": float((right.ndcg - run.ndcg).mean()),
            f"ece_added_{name}": run.ece - right.ece,
            f"lists_kept_{name}": lists_kept(right.shown, run.shown),
        }
        within[f"clicks_lost_{name}"] = half_width(by_user(lost, users))
    values["clicks_kept_double"] = 0.01 - values["clicks_lost_double"]
    one, other = (_tried(world, known, apart, FAULTS[name]) for name in ("none", "double"))
    values |= {
        "lists_kept_apart": lists_kept(one.shown, other.shown),
        "ece_added_apart": other.ece - one.ece,
    }
    curves = {
        "clicks lost": [values[f"clicks_lost_{name}"] for name in NAMES],
        "calibration error added": [values[f"ece_added_{name}"] for name in NAMES],
    }
    return Measured(values, within, curves)


def _told(name: str, run: "Run") -> dict[str, float]:
    return {
        f"clicks_{name}": float(run.clicks.mean()),
        f"true_ndcg_{name}": float(run.ndcg.mean()),
        f"ece_{name}": run.ece,
        f"served_auc_{name}": run.auc,
        f"parity_{name}": float(run.parity.min()),
    }


@dataclass(frozen=True, slots=True)
class Run:
    """The model with one fault, over all stages."""

    shown: np.ndarray  # (S, K)
    clicks: np.ndarray  # (S,) true expected clicks of the list
    ndcg: np.ndarray  # (S,) true, of the pool in the model's order
    ece: float
    auc: float  # on the slates that were logged, with the values as served
    parity: np.ndarray  # (F,) share of equal values; the least one is that of the fault


def _tried(world: Rehearsal, known: Known, model: lgb.Booster, fault: Fault) -> Run:
    shown, clicks, ndcg, chances, truths, scores, labels, same = [], [], [], [], [], [], [], []
    for stage in world.stages:
        day, pool = stage.day, stage.pool
        right = features(known, day, pool)
        served = fault(known, right, day, pool)
        score = _chance(model, _placed(served, 1))
        order = best_first(score)[:, :K]
        shown.append(np.take_along_axis(pool, order, axis=1))
        truths.append(stage.clicks(shown[-1]))
        clicks.append(truths[-1].sum(axis=1))
        ndcg.append(true_ndcg(stage.attraction, score))
        rows = np.take_along_axis(served, order[:, :, None], axis=1)
        chances.append(_chance(model, _placed(rows, np.arange(1, K + 1))))
        logged = fault(known, features(known, day, day.item_ix), day, day.item_ix)
        places = np.arange(1, day.item_ix.shape[1] + 1)
        scores.append(_chance(model, _placed(logged, places)))
        labels.append(day.click)
        same.append(equal(FEATURES, *(side.reshape(-1, len(AT)) for side in (served, right))))
    return Run(
        np.concatenate(shown),
        np.concatenate(clicks),
        np.concatenate(ndcg),
        ece(np.concatenate(chances).ravel(), np.concatenate(truths).ravel()),
        expected_auc(np.concatenate(scores).ravel(), np.concatenate(labels).ravel().astype(float)),
        np.concatenate(same).mean(axis=0),
    )


def right_values(known: Known, right: np.ndarray, day: Day, items: np.ndarray) -> np.ndarray:
    """No fault."""
    return right


def window(known: Known, right: np.ndarray, day: Day, items: np.ndarray) -> np.ndarray:
    """Counts of the last 7 days under the names of those of 30."""
    clicks, looks = totals(known.item, day.number, 7)
    return with_columns(
        right,
        item_positives_30d=clicks[items],
        item_click_rate_30d=smoothed(clicks, looks)[items],
    )


def null(known: Known, right: np.ndarray, day: Day, items: np.ndarray) -> np.ndarray:
    """Of a category that a user never clicked there is no last click: that null is served as 0 days."""
    idle = right[:, :, AT["category_idle_days"]]
    return with_columns(right, category_idle_days=np.where(idle == NEVER_DAYS, 0.0, idle))


def double(known: Known, right: np.ndarray, day: Day, items: np.ndarray) -> np.ndarray:
    """The consumer of clicks was restarted and took them again; impressions came another way."""
    clicks, looks = totals(known.user, day.number, 30)
    user = day.user_ix[:, None]
    return with_columns(
        right,
        positives_30d=2 * clicks[user],
        user_click_rate_30d=smoothed(2 * clicks, looks)[user],
    )


def zone(known: Known, right: np.ndarray, day: Day, items: np.ndarray) -> np.ndarray:
    """The hour of a server that stands two time zones further east."""
    return with_columns(right, hour_of_day=(right[:, :, AT["hour_of_day"]] + 2) % 24)


def stale(known: Known, right: np.ndarray, day: Day, items: np.ndarray) -> np.ndarray:
    """Rows of an earlier night."""
    return features(known, day, items, day.number - STALE_DAYS)


FAULTS: Mapping[str, Fault] = {
    "none": right_values,
    "window": window,
    "null": null,
    "double": double,
    "zone": zone,
    "stale": stale,
}
NAMES = tuple(name for name in FAULTS if name != "none")


def trained(world: Rehearsal, known: Known, seed: int, cross: bool = True) -> lgb.Booster:
    """Trees on the logged slates of the training days, the place among the inputs.

    Args:
        world: its days.
        known: counts.
        seed: of the trees.
        cross: False = no branch holds both SHARED features and others, so the score is a sum of two.
    """
    shared = [AT[name] for name in SHARED]
    others = [place for place in AT.values() if place not in shared]
    days = world.days[COUNTED : COUNTED + TRAINED]
    places = np.arange(1, days[0].item_ix.shape[1] + 1)
    rows = [_placed(features(known, day, day.item_ix), places) for day in days]
    table = np.concatenate([part.reshape(-1, part.shape[2]) for part in rows])
    click = np.concatenate([day.click.ravel() for day in days]).astype(np.float32)
    parameters = {
        "objective": "binary",
        "interaction_constraints": "" if cross else [shared, others],
        "learning_rate": 0.08,
        "num_leaves": 15,
        "min_data_in_leaf": 60,
        "seed": seed,
        "deterministic": True,
        "force_row_wise": True,
        "num_threads": 1,
        "verbosity": -1,
    }
    return lgb.train(parameters, lgb.Dataset(table, label=click), num_boost_round=80)


def _placed(values: np.ndarray, places: np.ndarray | int) -> np.ndarray:
    return with_columns(values, position=np.broadcast_to(places, values.shape[:2]))


def _chance(model: lgb.Booster, values: np.ndarray) -> np.ndarray:
    """(S, P) predicted chances of a click."""
    flat = values.reshape(-1, values.shape[2])
    return np.asarray(model.predict(flat, num_threads=1)).reshape(values.shape[:2])
