"""E-02: on logged clicks the best ranking is the one that made the log.

Interview: Offline nDCG on last week's clicks went down, and you ship the model all the same. Why?
    Because last week's clicks fell where last week's ranker made people look. Such an nDCG pays for
    agreeing with that ranker, so a better model can lose on it. Judge on the few percent of traffic
    that was shown in random order, or by interleaving, or by the propensities that were logged.
    Trade-off: the slice in random order is small and costs clicks; its intervals are wide, and it
    judges the order of what was retrieved, not what was never shown.
    Shown by: tests/pipelines/experiments/test_e02.py::test_the_log_prefers_the_order_that_made_it
"""

import numpy as np

from pipelines.experiments.card import Card, Claim, Direction, Measured, Setting, Tier, half_width
from pipelines.experiments.click_models import naive, position_based
from pipelines.experiments.log import Log, Logged
from pipelines.experiments.measures import by_user, click_ndcg, rank_correlation, true_ndcg
from pipelines.experiments.wishes import learn
from pipelines.experiments.world import FAMILIES, logged

CONTENDERS = ("shown", "naive", "debiased", "random", "oracle")
JUDGES = ("logged", "randomised", "true")

CARD = Card(
    number="E-02",
    title="Logged nDCG rewards copying the logger",
    question="Offline nDCG rose by two percent and the click rate did not move. Why?",
    sentence=(
        "Clicks happen where people look, and they look where the old ranker put things: on its log "
        "even a ranking by the truth loses to it. A small slice in random order, or the truth, "
        "turns the order of the contenders round."
    ),
    varied="the judge: logged clicks, clicks on the same slates in random order, the truth",
    measured="nDCG@10 of the order shown, a naive model, a debiased one, a random and the true order",
    claims=(
        Claim(
            "logged_shown_minus_oracle",
            "on logged clicks the order shown beats the order by true attraction",
            Direction.more,
            0.05,
            (0.05, 0.30),
            "pilot world: 0.75 against 0.56, one seed",
        ),
        Claim(
            "randomised_oracle_minus_shown",
            "on the randomised slice it is the other way round",
            Direction.more,
            0.01,
            (0.01, 0.15),
            "pilot world: the order flips; size not told",
        ),
        Claim(
            "agreement_gained",
            "the randomised slice agrees with the truth on the order of the five better than the log",
            Direction.more,
            0.3,
            (0.3, 1.6),
            "reasoned: rank correlation near 1 on the slice, near 0 on the log",
        ),
    ),
    observed="logged_debiased_minus_shown",
    true="true_debiased_minus_shown",
    change_our_mind=(
        "a world with the stylised click ratio between first and last place in which logged nDCG puts "
        "the true order first"
    ),
    tier=Tier.S,
    families=FAMILIES,
    scale="small",
)


def measure(setting: Setting, seed: int) -> Measured:
    """Five contenders before three judges."""
    logs = logged(setting, seed)
    return judged(logs, contenders(logs, seed))


def contenders(logs: Logged, seed: int) -> dict[str, np.ndarray]:
    """(S, K) scores of the test slates, in the order shown."""
    shape = logs.test.item_ix.shape
    models = {
        name: learn(
            logs.past, logs.recent, logs.catalogue, logs.users, assumed(logs.randomised), seed
        )
        for name, assumed in (("naive", naive), ("debiased", position_based))
    }
    return {
        "shown": np.broadcast_to(-np.arange(shape[1], dtype=float), shape),
        **{name: model.score(logs.test) for name, model in models.items()},
        "random": np.random.default_rng([seed, 202]).random(shape),
        "oracle": logs.test.attraction,
    }


def judged(logs: Logged, scores: dict[str, np.ndarray]) -> Measured:
    """All nDCGs and the differences that the card grades; half widths are over users."""
    per_slate = {}
    for name, score in scores.items():
        shuffled = np.take_along_axis(score, logs.shuffle, axis=1)
        per_slate["logged", name] = click_ndcg(logs.test.click, score)
        per_slate["randomised", name] = click_ndcg(logs.shuffled.click, shuffled)
        per_slate["true", name] = true_ndcg(logs.test.attraction, score)
    values = {f"{judge}_{name}": float(ndcg.mean()) for (judge, name), ndcg in per_slate.items()}
    within = {}
    for effect, (judge, one, other) in DIFFERENCES.items():
        if one in scores and other in scores:
            difference = per_slate[judge, one] - per_slate[judge, other]
            values[effect] = float(difference.mean())
            within[effect] = half_width(by_user(difference, _users(logs, judge)))
    lines = {name: [values[f"{judge}_{name}"] for judge in JUDGES] for name in scores}
    return Measured({**values, **_agreement(values, list(scores))}, within, lines)


def _agreement(values: dict[str, float], names: list[str]) -> dict[str, float]:
    """How far each judge puts the contenders in the true order."""
    order = {judge: np.array([values[f"{judge}_{name}"] for name in names]) for judge in JUDGES}
    logged_, randomised = (rank_correlation(order[j], order["true"]) for j in JUDGES[:2])
    return {
        "logged_agrees": logged_,
        "randomised_agrees": randomised,
        "agreement_gained": randomised - logged_,
    }


DIFFERENCES = {
    # effect -> judge, one contender, minus the other
    "logged_shown_minus_oracle": ("logged", "shown", "oracle"),
    "randomised_oracle_minus_shown": ("randomised", "oracle", "shown"),
    "logged_naive_minus_debiased": ("logged", "naive", "debiased"),
    "true_debiased_minus_naive": ("true", "debiased", "naive"),
    "logged_debiased_minus_shown": ("logged", "debiased", "shown"),
    "true_debiased_minus_shown": ("true", "debiased", "shown"),
}


def _users(logs: Logged, judge: str) -> np.ndarray:
    """Whose slate each nDCG is about."""
    log: Log = logs.shuffled if judge == "randomised" else logs.test
    return log.user_ix if judge == "true" else log.user_ix[log.click.any(axis=1)]
