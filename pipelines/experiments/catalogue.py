"""All experiments: each a card, what measures it, and what draws it."""

from pipelines.experiments.runner import Experiment

EXPERIMENTS: tuple[Experiment, ...] = ()
