"""E-47b: which claims turn round when a parameter of the world is moved, one at a time."""

import numpy as np

from pipelines.experiments import e02, e04
from pipelines.experiments.card import Card, Claim, Direction, Measured, Setting, Tier
from pipelines.experiments.log import Logged
from pipelines.experiments.world import FAMILIES, KNOBS, judging

GRADED = {
    "logged_shown_minus_oracle": "E-02",
    "randomised_oracle_minus_shown": "E-02",
    "place_minus_attraction": "E-04",
    "gate_minus_perfect": "E-04",
}
"""Effect -> card: all are claimed to be positive."""

MOVED = {f"{knob} {level:g}": {knob: level} for knob, levels in KNOBS.items() for level in levels}
"""World -> what differs from the base."""

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
            "effects keep the direction that they have in the base in nine of ten moved worlds",
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
    """The base and two worlds per knob, of the same seed: what is not moved is drawn alike."""
    base = effects(judging(setting, seed))
    moved = {world: effects(judging(setting, seed, **change)) for world, change in MOVED.items()}
    kept = [found[e] * base[e] > 0 for found in moved.values() for e in GRADED]
    every = {"base": base, **moved}
    values = {
        "share_kept": float(np.mean(kept)),
        "headline_base": base[HEADLINE],
        "headline_worst": min(found[HEADLINE] for found in moved.values()),
        **{f"{world}: {e}": found[e] for world, found in every.items() for e in GRADED},
    }
    return Measured(values, curves={e: [found[e] for found in every.values()] for e in GRADED})


def effects(logs: Logged) -> dict[str, float]:
    """The graded effects of one world; those of E-02 need no model, so none is trained."""
    test = logs.test
    place = np.broadcast_to(-np.arange(test.item_ix.shape[1], dtype=float), test.item_ix.shape)
    judged = e02.judged(logs, {"shown": place, "oracle": test.attraction}).values
    auc = e04.aucs(test)
    found = {
        **judged,
        "place_minus_attraction": auc["place"] - auc["attraction"],
        "gate_minus_perfect": e04.AUC_TO_SHIP - auc["perfect"],
    }
    return {effect: found[effect] for effect in GRADED}
