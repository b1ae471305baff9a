"""From the books of all twins to the metrics of var/reports/loop.json.

A seed counts when every arm has every day; the others are named. All intervals are 95 %: over seeds
Student's t of one paired number per seed, inside a seed a bootstrap of users.

    lift_true         what everybody would gain: the same people, once with full, once with popular
    lift_observed     what an A/B test would have told: half of them with full, the others with popular
    share_of_oracle   what full reaches of a policy that knows each attraction
"""

import contextlib
import hashlib
import math
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from monitoring.ab_test import lift
from monitoring.assignment import arm_of
from monitoring.estimate import over_seeds
from pipelines.loop.shelf import TESTED, Shelf

if TYPE_CHECKING:
    from pipelines.loop.plan import Plan

PER = {
    "clicks_per_slate": ("clicks", "slates"),
    "utility_per_slate": ("utility", "slates"),
    "satisfaction_per_click": ("satisfaction", "clicks"),
    "purchases_per_slate": ("purchases", "slates"),
    "revenue_per_slate": ("revenue", "slates"),
}
WHOLE = ("coverage", "gini", "new_share", "slates")
MEASURES = (*PER, *WHOLE)
SUMMED = tuple(dict.fromkeys(name for pair in PER.values() for name in pair))


def summarise(shelf: Shelf, plan: "Plan", salt: str) -> dict[str, Any]:
    """The metrics of the report.

    Args:
        shelf: what is finished.
        plan: what was to be finished.
        salt: of the assignment to halves.

    Returns:
        scale, preset, days, seeds, retrain, arms; seconds that all finished days took; logs_sha256 over
        all event logs that count; `unfinished` twins; `families` that have a seed that counts, and
        per family its numbers (`of_family`).
    """
    unfinished = _unfinished(shelf.days, plan)
    out = {(twin["family"], twin["seed"]) for twin in unfinished}
    metrics: dict[str, Any] = {
        "scale": plan.scale,
        "preset": plan.preset,
        "days": plan.days,
        "seeds": list(plan.seeds),
        "retrain": plan.retrain,
        "arms": list(plan.arms),
        "seconds": float(shelf.days["seconds"].sum()),
        "unfinished": unfinished,
        "families": [],
    }
    logs = []
    for family in plan.families:
        seeds = [seed for seed in plan.seeds if (family, seed) not in out]
        if not seeds:
            continue
        days, slates = (
            frame[(frame["family"] == family) & frame["seed"].isin(seeds)]
            for frame in (shelf.days, shelf.slates)
        )
        metrics["families"].append(family)
        metrics[family] = {"seeds": seeds, **of_family(days, slates, salt)}
        logs += days["log_sha256"].astype(str).tolist()
    metrics["logs_sha256"] = hashlib.sha256("\n".join(logs).encode()).hexdigest() if logs else None
    return metrics


def of_family(days: pd.DataFrame, slates: pd.DataFrame, salt: str) -> dict[str, Any]:
    """All numbers of one family's seeds that count.

    Returns:
        lift_true, lift_observed, share_of_oracle, each {mean, low, high, per_seed} or None where
        an arm is missing; `beside`: measure -> full over popular minus 1; `totals`: arm ->
        measure -> value over all days; `lift_by_day`: arm -> true lift of each day; `arms`: arm
        -> measure -> values by day; `mornings` of full.

    Interview: An A/B test said +12 %. How do you know that the test was right?
        In a simulation you can run the test and the answer it estimates: the same people, days
        and luck meet both policies whole, and the test compares half of one with the other half
        of the other. The twins give the lift; the halves give what a dashboard would have shown.
        Trade-off: only a simulated world has twins. What carries over is how often the interval
        of one test holds the truth, not the size of the lift.
        Shown by: tests/pipelines/loop/test_summary.py::test_halves_scatter_around_what_twins_know
    """
    return {
        "lift_true": _ratio(days, "utility_per_slate", "full", "popular", minus=1),
        "lift_observed": _observed(days, slates, salt),
        "share_of_oracle": _ratio(days, "utility_per_slate", "full", "oracle"),
        "beside": {
            measure: _ratio(days, measure, "full", "popular", minus=1) for measure in MEASURES
        },
        "totals": _totals(days),
        "lift_by_day": _lift_by_day(days),
        "arms": _by_day(days),
        "mornings": _mornings(days),
    }


def measured(days: pd.DataFrame, by: list[str]) -> pd.DataFrame:
    """MEASURES by group: ratios of sums, means of what is a share or a count already.

    A ratio to nothing (satisfaction where nobody clicked) is not a number.
    """
    groups = days.groupby(by)
    sums, means = groups[list(SUMMED)].sum(), groups[list(WHOLE)].mean()
    ratios = {
        name: sums[over] / sums[under].where(sums[under] > 0) for name, (over, under) in PER.items()
    }
    return pd.DataFrame(ratios).join(means)


def _ratio(
    days: pd.DataFrame, measure: str, over: str, under: str, minus: float = 0
) -> dict[str, Any] | None:
    """One arm over another, per seed, all days together."""
    if not {over, under} <= set(days["arm"]):
        return None
    table = measured(days, ["seed", "arm"])[measure].unstack("arm")
    return _estimate(table[over] / table[under].where(table[under] != 0) - minus)


def _observed(days: pd.DataFrame, slates: pd.DataFrame, salt: str) -> dict[str, Any] | None:
    """The A/B test of each seed, and how often its interval held the lift of that seed's twins.

    A seed whose control has no click, or so few that resamples have none, gives no test; it is
    missing in per_seed.
    """
    true = _ratio(days, "utility_per_slate", "full", "popular", minus=1)
    if true is None:
        return None
    tests = {}
    for seed, rows in halves(slates, salt).groupby("seed"):
        with contextlib.suppress(ValueError), np.errstate(divide="ignore", invalid="ignore"):
            test = lift(rows, int(str(seed)), *TESTED)
            if math.isfinite(test["low"]) and math.isfinite(test["high"]):
                tests[int(str(seed))] = test
    got = _estimate(pd.Series({seed: test["mean"] for seed, test in tests.items()}, dtype=float))
    if got is None:
        return None
    within = {str(seed): [test["low"], test["high"]] for seed, test in tests.items()}
    held = [low <= true["per_seed"][seed] <= high for seed, (low, high) in within.items()]
    gap = {seed: got["per_seed"][seed] - true["per_seed"][seed] for seed in within}
    return {
        **got,
        "within": within,
        "covered": sum(held) / len(held),
        "gap": _estimate(pd.Series(gap)),
    }


def halves(slates: pd.DataFrame, salt: str) -> pd.DataFrame:
    """The slates that tests of both arms would have had: each user's from their own arm alone.

    Every world is split anew: under one split for all, a lucky half would be lucky in three families.
    """
    who = slates[["family", "seed", "user_id"]].drop_duplicates()
    who["arm"] = [
        arm_of(str(user), experiment(str(family), int(seed)), salt)
        for family, seed, user in who.itertuples(index=False)
    ]
    return slates.merge(who, on=["family", "seed", "user_id", "arm"])


def experiment(family: str, seed: int) -> str:
    """Name of a world's A/B test."""
    return f"loop-{family}-{seed}"


def _totals(days: pd.DataFrame) -> dict[str, dict[str, dict[str, Any] | None]]:
    table = measured(days, ["arm", "seed"])
    return {
        arm: {name: _estimate(table.loc[arm][name]) for name in MEASURES}
        for arm in dict.fromkeys(days["arm"])
    }


def _lift_by_day(days: pd.DataFrame) -> dict[str, list[dict[str, Any]]]:
    """True lift of every other arm over popular, day by day, paired by seed."""
    table = measured(days, ["seed", "day", "arm"])["utility_per_slate"].unstack("arm")
    if "popular" not in table:
        return {}
    gains = table.div(table["popular"].where(table["popular"] > 0), axis=0) - 1
    return {str(arm): _points(gains[arm]) for arm in gains.columns.drop("popular")}


def _by_day(days: pd.DataFrame) -> dict[str, dict[str, list[dict[str, Any]]]]:
    table = measured(days, ["arm", "seed", "day"])
    return {
        arm: {name: _points(table.loc[arm][name]) for name in MEASURES}
        for arm in dict.fromkeys(days["arm"])
    }


def _points(values: pd.Series) -> list[dict[str, Any]]:
    """Mean and interval over seeds for each day; `values` are indexed by seed and day."""
    points = []
    for day, of_day in values.groupby("day"):
        known = of_day.dropna().tolist()
        found = over_seeds(known) if known else None
        told = {name: getattr(found, name, None) for name in ("mean", "low", "high")}
        points.append({"day": int(str(day)), **told})
    return points


def _estimate(per_seed: pd.Series) -> dict[str, Any] | None:
    """Mean, interval, and the number of each seed that has one; None where none has."""
    known = {str(seed): float(value) for seed, value in per_seed.items() if math.isfinite(value)}
    if not known:
        return None
    found = over_seeds(list(known.values()))
    return {"mean": found.mean, "low": found.low, "high": found.high, "per_seed": known}


def _mornings(days: pd.DataFrame) -> list[dict[str, Any]]:
    """What the mornings of the full arm decided, seed by seed."""
    told = days[(days["arm"] == "full") & days["morning"].notna()].sort_values(["seed", "day"])
    kept = ("because", "retrained", "promoted", "verdict")
    return [
        {"seed": int(seed), "day": int(day), **{name: morning.get(name) for name in kept}}
        for seed, day, morning in zip(told["seed"], told["day"], told["morning"], strict=True)
    ]


def _unfinished(days: pd.DataFrame, plan: "Plan") -> list[dict[str, Any]]:
    """Twins that lack days, in the order asked for."""
    counts = days.groupby(["family", "seed", "arm"]).size().to_dict()
    twins: Iterable[tuple[str, int, str]] = (
        (family, seed, arm) for family in plan.families for seed in plan.seeds for arm in plan.arms
    )
    return [
        {"family": family, "seed": seed, "arm": arm, "days": int(done)}
        for family, seed, arm in twins
        if (done := counts.get((family, seed, arm), 0)) < plan.days
    ]
