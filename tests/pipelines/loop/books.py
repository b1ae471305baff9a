"""Books written by hand, and made-up ones with the noise of real ones."""

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from infra.reports import write_json
from pipelines.loop.plan import Plan

ONE = Plan(2, ("popular", "full", "oracle"), "daily", ("trust",), (0,), "tiny")
"""One world, two days."""

ALL = replace(
    ONE, days=10, families=("position", "trust", "cascade"), seeds=(0, 1, 2, 3, 4), retrain="policy"
)
WORTH = {"popular": 0.42, "full": 0.6, "oracle": 0.78}
"""Expected clicks per slate."""


def write_day(
    folder: Path, twin: tuple[str, int, str], day: int, slates: pd.DataFrame, **numbers
) -> Path:
    """One day of one twin: `slates` has user_id, clicks, utility; numbers not given are derived."""
    family, seed, arm = twin
    place = folder / f"{family}-{seed}" / arm / "book" / f"day-{day:02}"
    place.mkdir(parents=True, exist_ok=True)
    slates.to_parquet(place / "slates.parquet", index=False)
    told = {
        "family": family, "seed": seed, "arm": arm, "day": day, "date": f"2026-03-{day + 1:02}",
        "slates": len(slates), "left": 0, "users": slates["user_id"].nunique(),
        "clicks": int(slates["clicks"].sum()), "utility": float(slates["utility"].sum()),
        "satisfaction": 0.5 * float(slates["clicks"].sum()), "carts": 0, "purchases": 1,
        "returned": 0, "revenue": 10.0, "coverage": 0.5, "gini": 0.5, "new_share": 0.1,
        "bundle": None, "morning": None, "log_sha256": hashlib.sha256(place.name.encode()).hexdigest(),
        "seconds": 1.5,
    }  # fmt: skip
    write_json(place / "day.json", told | numbers)
    return place


def by_hand(folder: Path, plan: Plan, worth: dict[str, float], clicks: dict[str, int]) -> None:
    """Every slate of an arm is worth the same and clicked as often; 40 users, two slates a day."""
    users = [f"u{number}" for number in range(40)] * 2
    for family in plan.families:
        for seed in plan.seeds:
            for arm in plan.arms:
                slates = pd.DataFrame(
                    {"user_id": users, "clicks": clicks[arm], "utility": worth[arm]}
                )
                for day in range(plan.days):
                    write_day(folder, (family, seed, arm), day, slates)


def made_up(folder: Path, plan: Plan = ALL, users: int = 300) -> None:
    """Worlds that differ, people that differ, arms that drift apart; drawn, not played."""
    for place, family in enumerate(plan.families):
        for seed in plan.seeds:
            rng = np.random.default_rng([place, seed])
            world = replace(plan, families=(family,), seeds=(seed,))
            _world(folder, world, rng, users, 1 + 0.25 * place + rng.normal(0, 0.07))


def _world(folder: Path, plan: Plan, rng: np.random.Generator, users: int, level: float) -> None:
    taste, visits = rng.lognormal(-0.1, 0.5, users), rng.lognormal(0, 0.9, users)
    learned = np.cumsum(rng.normal(0.012, 0.015, plan.days))
    for day in range(plan.days):
        weekday = 1 + 0.15 * (day % 7 > 4)
        for arm in plan.arms:
            who = np.repeat(np.arange(users), rng.poisson(visits * weekday))
            gain = {"popular": -0.004 * day, "full": learned[day], "oracle": 0.02}[arm]
            worth = (WORTH[arm] + gain) * level * taste[who] * rng.lognormal(0, 0.3, len(who))
            clicks = rng.poisson(worth)
            happy = {"popular": 0.47, "full": 0.52, "oracle": 0.5}[arm]
            bought = int(rng.binomial(clicks.sum(), 0.04 * happy / 0.5))
            spread = {"popular": 0.12, "full": 0.63 + 0.01 * day, "oracle": 0.86}[arm]
            promoted = bool(rng.random() < 0.7)
            write_day(
                folder,
                (plan.families[0], plan.seeds[0], arm),
                day,
                pd.DataFrame(
                    {"user_id": [f"u{ix}" for ix in who], "clicks": clicks, "utility": worth}
                ),
                satisfaction=float(happy * clicks.sum() * rng.normal(1, 0.01)),
                purchases=bought,
                revenue=float(bought * rng.normal(34, 3)),
                coverage=min(1.0, spread * rng.normal(1, 0.02)),
                gini=1 - 0.7 * spread,
                new_share={"popular": 0.02, "full": 0.09, "oracle": 0.14}[arm] * rng.normal(1, 0.1),
                morning=_morning(day, rng.random() < 0.45, promoted) if arm != "oracle" else None,
                seconds=float(rng.uniform(3, 9)),
            )


def _morning(day: int, retrained: bool, promoted: bool) -> dict | None:
    if not day:
        return None
    if not retrained:
        because = (
            "12% of the input columns drifted (limit 25%) and the scores moved by 0.08 (limit 0.40)"
        )
        return {
            "because": because,
            "retrained": False,
            "promoted": False,
            "verdict": "nothing new",
            "bundle": "a",
        }
    verdict = (
        "promoted: nDCG@10 0.0812 against 0.0794 of the champion, difference -0.0011 … 0.0049"
        if promoted
        else "refused: surely worse than the champion, nDCG@10 difference -0.0092 … -0.0013"
    )
    because = (
        "34% of the input columns drifted (limit 25%), most of all user_clicks_7d, item_ctr_7d, "
        "user_category_share, item_age_days, price_gap and hour_of_day and 3 more"
    )
    return {
        "because": because,
        "retrained": True,
        "promoted": promoted,
        "verdict": verdict,
        "bundle": "b",
    }
