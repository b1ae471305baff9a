"""The books of all twins of a run, as two frames.

    <folder>/<family>-<seed>/<arm>/book/day-NN/{slates.parquet, day.json}

`day.json` is written last: a day without it was not finished, and is not read.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from features.errors import ContractError

if TYPE_CHECKING:  # it brings the whole line with it
    from pipelines.loop.plan import Plan

TESTED = ("full", "popular")
"""The arms of the A/B test: the only ones whose single slates are needed."""

NUMBERS = (
    "slates", "users", "clicks", "utility", "satisfaction", "purchases", "revenue",
    "coverage", "gini", "new_share", "seconds",
)  # fmt: skip
"""Of a day."""


@dataclass(frozen=True, slots=True)
class Shelf:
    """All that is finished."""

    days: (
        pd.DataFrame
    )  # family, seed, arm, day, NUMBERS, date, morning (mapping or None), log_sha256
    slates: pd.DataFrame  # family, seed, arm, user_id, clicks; arms TESTED, one row per slate


def read_shelf(folder: Path, plan: "Plan") -> Shelf:
    """Every finished day of the run; of twins that are missing, nothing.

    Raises:
        ContractError: a book belongs to another twin or day than its folder, or lacks a number.
    """
    days: list[dict[str, Any]] = []
    slates: list[pd.DataFrame] = []
    for family in plan.families:
        for seed in plan.seeds:
            for arm in plan.arms:
                book = folder / f"{family}-{seed}" / arm / "book"
                for day in range(plan.days):
                    told = _day(book / f"day-{day:02}" / "day.json", (family, seed, arm, day))
                    if told is None:
                        break  # later ones cannot be there: a day begins where the last one ended
                    days.append(told)
                    if arm in TESTED:
                        read = pd.read_parquet(
                            book / f"day-{day:02}" / "slates.parquet", columns=["user_id", "clicks"]
                        )
                        slates.append(read.assign(family=family, seed=seed, arm=arm))
    names = ["family", "seed", "arm", "day", *NUMBERS, "date", "morning", "log_sha256"]
    columns = ["family", "seed", "arm", "user_id", "clicks"]
    return Shelf(
        pd.DataFrame(days, columns=names),
        pd.concat(slates, ignore_index=True) if slates else pd.DataFrame(columns=columns),
    )


def _day(path: Path, twin: tuple[str, int, str, int]) -> dict[str, Any] | None:
    if not path.exists():
        return None
    told: dict[str, Any] = json.loads(path.read_text())
    if missing := [name for name in NUMBERS if told.get(name) is None]:
        raise ContractError(f"{path} lacks {', '.join(missing)}; remove its day and --resume")
    found = tuple(told[name] for name in ("family", "seed", "arm", "day"))
    if found != twin:
        raise ContractError(f"{path} is the book of {found}, expected {twin}; remove it")
    return told
