"""E-04: what an absolute gate on AUC or nDCG means in a world whose ceiling is known."""

from dataclasses import replace

import numpy as np

from pipelines.experiments.card import Card, Claim, Direction, Measured, Setting, Tier, half_width
from pipelines.experiments.log import Log
from pipelines.experiments.measures import by_user, click_ndcg, expected_auc
from pipelines.experiments.world import FAMILIES, judging

AUC_TO_SHIP, AUC_TO_WAKE, NDCG_TO_SHIP = 0.85, 0.80, 0.45
"""Gates as production playbooks print them: ship above, alarm below, ship above."""

SLOTS = (5, 10, 20)
RATES = (0.5, 1.0, 2.0)
"""Times the world's own click rate."""

CARD = Card(
    number="E-04",
    title="What 0.85, 0.45 and 0.80 mean here",
    question="Your gate says AUC above 0.85. Is a model with 0.79 bad?",
    sentence=(
        "Without the ceiling an absolute AUC says nothing: the place alone scores higher than all "
        "that is true about the items, and the perfect click model cannot pass the gate."
    ),
    varied="the world, the number of slots (5, 10, 20), the base click rate (half, one, two times)",
    measured=(
        "AUC over logged impressions, exact from the true chances, of place alone, of true "
        "attraction alone, and of the perfect click model; nDCG@10 of a random and of the best order "
        "on logged clicks"
    ),
    claims=(
        Claim(
            "place_minus_attraction",
            "place alone has a higher AUC than true attraction alone",
            Direction.more,
            0.02,
            (0.05, 0.25),
            "pilot world: 0.78 against 0.64, one seed",
        ),
        Claim(
            "gate_minus_perfect",
            "the perfect click model stays below the gate of 0.85",
            Direction.more,
            0.01,
            (0.01, 0.10),
            "pilot world: 0.81; the stylised facts ask for 0.75 to 0.85",
        ),
        Claim(
            "random_minus_gate",
            "a random order passes the gate of nDCG@10 0.45 on logged clicks",
            Direction.more,
            0.005,
            (0.005, 0.10),
            "pilot world: 0.47, one seed",
        ),
    ),
    observed="auc_place",
    true="auc_attraction",
    change_our_mind=(
        "a world that meets the stylised facts in which true attraction beats place, or in which the "
        "perfect click model passes 0.85 with room to spare"
    ),
    tier=Tier.S,
    families=FAMILIES,
    scale="small",
)


def measure(setting: Setting, seed: int) -> Measured:
    """Ceilings of one world: all but the click nDCG are exact."""
    log = judging(setting, seed).test
    values = {f"auc_{name}": value for name, value in aucs(log).items()}
    floor, ceiling = ndcg_range(log, seed)
    values |= {
        "ndcg_random": float(floor.mean()),
        "ndcg_best": float(ceiling.mean()),
        "click_rate": float(log.chance.mean()),
        "place_minus_attraction": values["auc_place"] - values["auc_attraction"],
        "gate_minus_perfect": AUC_TO_SHIP - values["auc_perfect"],
        "random_minus_gate": float(floor.mean()) - NDCG_TO_SHIP,
    }
    users = log.user_ix[log.click.any(axis=1)]
    longest = judging(setting, seed, slots=SLOTS[-1]).test
    by_slots = [aucs(longest.top(slots)) for slots in SLOTS]
    by_rate = [aucs(scaled(log, times)) for times in RATES]
    return Measured(
        values,
        {"ndcg_random": half_width(by_user(floor, users))},
        {
            **{f"{name}_by_slots": [one[name] for one in by_slots] for name in by_slots[0]},
            **{f"{name}_by_rate": [one[name] for one in by_rate] for name in by_rate[0]},
        },
    )


def scaled(log: Log, times: float) -> Log:
    """As if every click were so many times as likely; places and items stay to each other as they are."""
    return replace(log, chance=np.minimum(log.chance * times, 1.0))


def aucs(log: Log) -> dict[str, float]:
    """AUC over impressions of place alone, true attraction alone, both as they really combine."""
    place = np.broadcast_to(-np.arange(log.item_ix.shape[1]), log.item_ix.shape)
    scores = {"place": place, "attraction": log.attraction, "perfect": log.chance}
    return {name: expected_auc(s.ravel(), log.chance.ravel()) for name, s in scores.items()}


def ndcg_range(log: Log, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """NDCG on logged clicks of a random order, and of the order by the true chance of each click."""
    random = np.random.default_rng([seed, 404]).random(log.item_ix.shape)
    return click_ndcg(log.click, random), click_ndcg(log.click, log.chance)
