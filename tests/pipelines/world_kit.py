"""Small worlds for the tests of the world."""

import functools

import numpy as np

from pipelines.world.config import configure
from pipelines.world.generate import WORLD_END
from pipelines.world.planning import plan_day
from pipelines.world.population import DAY_US, populate, to_us
from pipelines.world.state import begin_day, fresh_state
from pipelines.world.truth import Truth

END_US = to_us(WORLD_END)
QUIET = ("bots", "accidents", "churn", "latency", "hits", "walk")
"""Mechanisms whose chance would only blur what a test is about."""


@functools.lru_cache(maxsize=32)
def tiny(family: str = "position", off: tuple[str, ...] = (), seed: int = 0, **changes) -> Truth:
    """A tiny world, drawn once."""
    return populate(configure("tiny", seed, family, switched_off=off, **changes), WORLD_END)


def first_day(truth, state=None, **how):
    """The state on the morning after the logged past, and the visits of that day."""
    state = state or fresh_state(truth)
    begin_day(truth, state, END_US // DAY_US)
    return state, plan_day(truth, state, END_US, **how)


def even_slates(truth, visits, length=10, seed=0):
    """(S, K) items at random, without repeats."""
    rng = np.random.default_rng(seed)
    n = truth.config.items
    return np.array([rng.choice(n, length, replace=False) for _ in range(len(visits))])
