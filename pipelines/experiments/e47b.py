"""E-47b: which claims turn round when a parameter of the world is moved, one at a time."""

import numpy as np

from pipelines.experiments import e02, e04
from pipelines.experiments.card import Card, Claim, Direction, Measured, Setting, Tier
from pipelines.experiments.log import Logged
from pipelines.experiments.outcome import Outcome
from pipelines.experiments.tables import Table, told
from pipelines.experiments.world import FAMILIES, KNOBS, NOTHING_TO_LEARN, logged

GRADED = {
    "logged_shown_minus_oracle": "E-02",
    "randomised_oracle_minus_shown": "E-02",
    "place_minus_attraction": "E-04",
    "gate_minus_perfect": "E-04",
}
"""Effect -> card: all are claimed to be positive."""

HEADLINE = "logged_shown_minus_oracle"

CARD = Card(
    number="E-47b",
    title="Which claims turn round when the world is another",
    question="You chose the parameters of your simulator. Which of your results did you choose with them?",
    sentence="Moved one at a time, no parameter turns a headline claim round; their sizes do move.",
    varied=", ".join(f"{name} {low:g} / {high:g}" for name, (low, high) in KNOBS.items())
    + "; one at a time, all else as in the base",
    measured="the effects of " + ", ".join(f"{effect} ({card})" for effect, card in GRADED.items()),
    claims=(
        Claim(
            "share_kept",
            "claims keep their direction in at least nine of ten moved worlds",
            Direction.more,
            0.9,
            (0.9, 1.0),
            "reasoned: the claims follow from looking at the top first, which no knob switches off",
        ),
    ),
    observed="headline_base",
    true="headline_worst",
    change_our_mind="a knob inside its stated range that turns a headline claim round in most seeds",
    tier=Tier.M,
    families=FAMILIES,
    scale="small",
)


def measure(setting: Setting, seed: int) -> Measured:
    """The base and two worlds per knob, all with the same users and draws."""
    base = effects(logged(setting, seed, cut=NOTHING_TO_LEARN))
    moved = {
        f"{knob} {level:g}": effects(logged(setting, seed, cut=NOTHING_TO_LEARN, **{knob: level}))
        for knob, levels in KNOBS.items()
        for level in levels
    }
    kept = [found[effect] > 0 for found in moved.values() for effect in GRADED]
    values = {
        "share_kept": float(np.mean(kept)),
        "headline_base": base[HEADLINE],
        "headline_worst": min(found[HEADLINE] for found in moved.values()),
        **{f"base: {effect}": base[effect] for effect in GRADED},
        **{
            f"{world}: {effect}": found[effect]
            for world, found in moved.items()
            for effect in GRADED
        },
    }
    return Measured(values)


def effects(logs: Logged) -> dict[str, float]:
    """The graded effects of one world; those of E-02 need no model, so none is trained."""
    test = logs.test
    place = np.broadcast_to(-np.arange(test.item_ix.shape[1], dtype=float), test.item_ix.shape)
    two = e02.judged(
        logs, {name: place if name == "shown" else test.attraction for name in ("shown", "oracle")}
    )
    auc = e04.aucs(test)
    return {
        **{effect: two.values[effect] for effect in GRADED if effect in two.values},
        "place_minus_attraction": auc["place"] - auc["attraction"],
        "gate_minus_perfect": e04.AUC_TO_SHIP - auc["perfect"],
    }


def flips(outcome: Outcome) -> list[Table]:
    """Every graded effect in every moved world."""
    families = list(outcome.metrics)
    worlds = ["base", *(f"{knob} {level:g}" for knob, levels in KNOBS.items() for level in levels)]
    tables = []
    for effect, card in GRADED.items():
        rows = []
        for world in worlds:
            found = [outcome.metrics[family][f"{world}: {effect}"] for family in families]
            rows.append(
                [world, *(told(one) + (" FLIPS" if one.mean <= 0 else "") for one in found)]
            )
        tables.append(Table(f"{card}: {effect}", ("world", *families), rows))
    return tables
