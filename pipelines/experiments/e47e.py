"""E-47e: an estimator that assumes the world's own click model looks better than it is.

Every assumption of click_models.py meets every family of worlds.

Interview: Your debiasing recovers the truth in simulation. Why should it in production?
    It need not: each correction assumes how people look at a list, and recovers the truth where
    they look that way. So test it in worlds that click otherwise, report the whole table of assumed
    against true, and in production check the assumption itself: under a place-only model the click
    rate below a click is what it is below none.
    Trade-off: the wrong assumption may still rank better than none; the table says how much of the
    gain is left, not that the right model has been found.
    Shown by: tests/pipelines/experiments/test_click_models.py::test_by_position_a_cascade_is_misread
"""

import numpy as np

from pipelines.experiments.card import Card, Claim, Direction, Measured, Setting, Tier, half_width
from pipelines.experiments.click_models import ASSUMED
from pipelines.experiments.log import Log, Logged
from pipelines.experiments.measures import by_user, click_ndcg, telling, true_ndcg
from pipelines.experiments.wishes import learn
from pipelines.experiments.world import FAMILIES, logged

SLICE = 0.3
"""Share of traffic in random order: far more than a shop would pay for, so that what is left of an
assumption's error is the assumption and not the luck of a small slice."""

MATCHED = {"position": "position", "trust": "trust", "cascade": "cascade"}
"""Family of worlds -> the assumption that is made of the same formula."""

CARD = Card(
    number="E-47e",
    title="The assumed click model against the true one",
    question="Your debiasing recovers the truth in simulation. Would it in production?",
    sentence=(
        "Only as far as production clicks as the estimator assumes: each assumption is best in the "
        "world made of its own formula, so a simulation with one click model grades itself."
    ),
    varied="the world's click model, and the one that the estimator assumes",
    measured=(
        "mean error, over places 2 to 10, of the estimated curve of how much a place tells (slope of the "
        "true chance of a click over true attraction, first place = 1); true nDCG@10 of the same trees "
        "learning under each assumption"
    ),
    claims=(
        Claim(
            "error_others_minus_matched",
            "the matching assumption estimates the bias of places better than the best other one",
            Direction.more,
            0.02,
            (0.02, 0.5),
            "reasoned; ULTRE reports that estimators sharing the simulation's click model are favoured",
        ),
        Claim(
            "true_matched_minus_naive",
            "debiasing by the matching assumption ranks better than not debiasing",
            Direction.more,
            0.005,
            (0.005, 0.10),
            "pilot world: +0.8 to +13.6 % clicks; a reproducibility study finds naive hard to beat under "
            "strong loggers and few sessions",
        ),
    ),
    observed="logged_matched_minus_naive",
    true="true_matched_minus_naive",
    change_our_mind="an estimator that is best in worlds whose formula it does not share",
    tier=Tier.M,
    families=FAMILIES,
    scale="small",
)


def measure(setting: Setting, seed: int) -> Measured:
    """One row of the cross-table: this world, every assumption."""
    logs = logged(setting, seed, randomised=SLICE)
    true_curve = telling(logs.shuffled)
    errors, per_slate, logged_ndcg = {}, {}, {}
    lines = {
        "true": true_curve.tolist(),
        "looked at": curve(logs.shuffled.examination).tolist(),
        "click rate": curve(logs.test.click).tolist(),
    }
    for name, assumed in ASSUMED.items():
        fitted = assumed(logs.randomised)
        estimated = fitted(logs.randomised.click).curve()
        errors[name] = float(np.abs(estimated - true_curve)[1:].mean())
        lines[name] = estimated.tolist()
        model = learn(logs.past, logs.recent, logs.catalogue, logs.users, fitted, seed)
        score = model.score(logs.test)
        per_slate[name] = true_ndcg(logs.test.attraction, score)
        logged_ndcg[name] = click_ndcg(logs.test.click, score)
    return _row(MATCHED[setting.family], errors, per_slate, logged_ndcg, logs, lines)


def curve(looks: np.ndarray) -> np.ndarray:
    """(S, K) -> (K,) mean by place, the first = 1."""
    mean = looks.mean(axis=0)
    return np.asarray(mean / mean[0])


def _row(
    matched: str,
    errors: dict[str, float],
    per_slate: dict[str, np.ndarray],
    logged_ndcg: dict[str, np.ndarray],
    logs: Logged,
    lines: dict[str, list[float]],
) -> Measured:
    gain = per_slate[matched] - per_slate["naive"]
    seen = logged_ndcg[matched] - logged_ndcg["naive"]
    best_other = min(error for name, error in errors.items() if name != matched)
    values = {
        **{f"curve_error_{name}": error for name, error in errors.items()},
        **{f"true_ndcg_{name}": float(values.mean()) for name, values in per_slate.items()},
        "error_others_minus_matched": best_other - errors[matched],
        "true_matched_minus_naive": float(gain.mean()),
        "logged_matched_minus_naive": float(seen.mean()),
    }
    within = {
        "true_matched_minus_naive": half_width(by_user(gain, logs.test.user_ix)),
        "logged_matched_minus_naive": half_width(by_user(seen, _clicking(logs.test))),
    }
    return Measured(values, within, lines)


def _clicking(log: Log) -> np.ndarray:
    return log.user_ix[log.click.any(axis=1)]
