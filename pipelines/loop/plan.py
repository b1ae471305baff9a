"""What a loop is asked for, checked before anything runs."""

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path

from features.errors import ContractError
from pipelines.loop.morning import Retrain
from pipelines.loop.twin import ARMS, Over, Twin
from pipelines.loop.wire import check_arm
from pipelines.world.config import FAMILIES, configure


@dataclass(frozen=True, slots=True)
class Plan:
    """What is asked for."""

    days: int
    arms: tuple[str, ...]
    retrain: Retrain
    families: tuple[str, ...]
    seeds: tuple[int, ...]
    scale: str
    preset: str = "base"
    over: Over = "process"
    """http = the real API and stream worker, slate by slate; for the arm full."""

    def __post_init__(self) -> None:
        """Raises ContractError: something that no loop has."""
        for what, names, known in (("arm", self.arms, ARMS), ("family", self.families, FAMILIES)):
            for name in names:
                if name not in known:
                    raise ContractError(f"no {what} {name!r}; choose of {', '.join(known)}")
            if not names or len(set(names)) != len(names):
                raise ContractError(
                    f"{what} {', '.join(names) or '–'}: name at least one, each once"
                )
        if self.over == "http":
            for arm in self.arms:
                check_arm(arm)
        horizon = configure(self.scale, preset=self.preset).horizon_days
        if not 1 <= self.days <= horizon:
            raise ContractError(f"days is {self.days}; allowed: 1 … {horizon}, the world's horizon")
        if not self.seeds or len(set(self.seeds)) != len(self.seeds) or min(self.seeds) < 0:
            raise ContractError(f"seeds {list(self.seeds)}: expected distinct ones, as in 0-4")

    @property
    def key(self) -> str:
        """Of everything that a day depends on; not of how many days, arms or seeds there are."""
        names = ("retrain", "scale", "preset", *(("over",) if self.over == "http" else ()))
        made_of = {name: asdict(self)[name] for name in names}
        return hashlib.sha256(json.dumps(made_of, sort_keys=True).encode()).hexdigest()[:12]

    @property
    def worlds(self) -> list[tuple[str, int]]:
        """(family, seed) of each."""
        return [(family, seed) for family in self.families for seed in self.seeds]


def twins_of(folder: Path, plan: Plan, family: str, seed: int) -> list[Twin]:
    """The arms of one world."""
    home = folder / f"{family}-{seed}"
    return [Twin(home / arm, arm, plan.retrain, plan.over) for arm in plan.arms]
