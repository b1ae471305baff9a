"""Simulated logs in memory: what the facts are measured on."""

from typing import Any

from pipelines.world.config import WorldConfig, configure
from pipelines.world.facts import Log, log_of
from pipelines.world.generate import WORLD_END
from pipelines.world.history import log_past
from pipelines.world.population import populate
from pipelines.world.state import fresh_state

WIDE = 4
"""Users and slates of the logs that are checked, times the scale's; catalogue and days are its own.
With fewer the coin decides: at small one log's weekly cycle scatters by 0.03 in a range of 0.1."""


def simulated(config: WorldConfig) -> Log:
    """A logged past."""
    truth = populate(config, WORLD_END)
    return log_of(truth, list(log_past(truth, fresh_state(truth))))


def wide(scale: str, seed: int, family: str, times: int = WIDE, **changes: Any) -> WorldConfig:
    """A world of the scale's catalogue and days, with `times` as many users and slates."""
    size = configure(scale)
    wider: dict[str, Any] = {"users": times * size.users, "slates_a_day": times * size.slates_a_day}
    return configure(scale, seed, family, **wider, **changes)
