"""A fast experiment whose answers are known: effects are constants plus a little noise per seed."""

import sys
import time
from pathlib import Path

import numpy as np

from pipelines.experiments.card import Card, Claim, Direction, Measured, Setting, Tier
from pipelines.experiments.charts import bars_by_family
from pipelines.experiments.runner import Experiment, run

CARD = Card(
    number="E-99",
    title="A toy with a known end",
    question="Does the runner find what was put in?",
    sentence="The runner finds what was put in.",
    varied="nothing",
    measured="a constant plus noise",
    claims=(
        Claim("gain", "it gains", Direction.more, 0.5, (0.8, 1.2), "put in: 1"),
        Claim("cost", "it costs less", Direction.less, 0.5, (-2.4, -1.6), "put in: -2"),
    ),
    observed="seen",
    true="gain",
    change_our_mind="another constant",
    tier=Tier.S,
    families=("left", "right"),
)
SLEEP_S = 0.0


def measure(setting: Setting, seed: int) -> Measured:
    rng = np.random.default_rng([seed, len(setting.family)])
    time.sleep(SLEEP_S)
    noise = rng.normal(0, 0.05, 3)
    return Measured(
        values={"gain": 1 + noise[0], "cost": -2 + noise[1], "seen": 3 + noise[2]},
        within={"gain": 0.1},
        curves={"line": [noise[0], 1 + noise[1]]},
    )


def draw(figure, outcome):
    bars_by_family(figure, outcome, {"gain": "gain", "cost": "cost"}, "units")


TOY = Experiment(CARD, measure, draw)


if __name__ == "__main__":  # python -m tests.pipelines.experiments.toy <home>: slow, to be killed
    SLEEP_S = 0.3
    run(TOY, Path(sys.argv[1]), "tiny", range(5), resume=True)
