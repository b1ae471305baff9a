"""`shortlist world check`: does the world look like published logs, in every family and seed?

facts     every fact of pipelines/world/facts.py, per family, over the seeds
switches  a mechanism off: does the fact that it carries move by more than seeds do?
examination   the position bias told from a randomised slice, against the truth
speed     slates per minute, with their events and their truth, on one core
memory    peak of a week of three million impressions at full scale, in a process of its own
"""

import json
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from pipelines.world.config import DEFAULT_FAMILY, configure
from pipelines.world.examination import by_position, by_slice, error, true_curve
from pipelines.world.facts import FACTS
from pipelines.world.generate import WORLD_END, make
from pipelines.world.history import events, log_past, responses
from pipelines.world.logs import WIDE, simulated, wide
from pipelines.world.population import populate
from pipelines.world.state import fresh_state

CARRIES = {
    "satiation": "repeat_decay",
    "intent": "topic_lift",
    "trust": "slot_ratio",
    "churn": "retention",
    "price": "price_consistency",
}
"""Switch -> the fact that lives by it."""

FULL_WEEK: dict[str, Any] = {"days": 7, "slates_a_day": 45_500}
"""A week of FULL_IMPRESSIONS: some sessions end early, and some users leave for good."""

FULL_IMPRESSIONS = 3_000_000

GIB = 2**30

SLATES_PER_MINUTE, FULL_PEAK_GIB = 100_000, 4.0
"""What the world must reach to be of use: a run of ten days in minutes, on a laptop."""


def check_world(
    families: Sequence[str], seeds: Sequence[int], scale: str, console: Console
) -> dict[str, Any]:
    """All of it, in the order of its cost; a line on the console for each part.

    Raises:
        ContractError: an unknown family or scale; nothing was measured then.
    """
    for family in families:
        configure(scale, seeds[0], family)
    parts: list[tuple[str, Callable[[], Any]]] = [
        ("slates_per_minute", lambda: slates_per_minute(scale, seeds[0])),
        ("full_week", lambda: full_week(seeds[0])),
        ("facts", lambda: check_facts(families, seeds, scale)),
        ("examination", lambda: check_examination(families, seeds[0], scale)),
        ("switches", lambda: check_switches(seeds, scale)),
    ]
    metrics: dict[str, Any] = {"scale": scale}
    for name, measure in parts:
        since = time.monotonic()
        metrics[name] = measure()
        console.print(f"[bold]▸ {name}[/] {time.monotonic() - since:.0f} s")
    return {**metrics, "full_peak_gib": metrics["full_week"]["peak_gib"]}


def unmet(metrics: dict[str, Any]) -> list[str]:
    """One line for each promise that these worlds do not keep."""
    missed = [
        f"{family}: {name} is {[round(value, 3) for value in fact['values']]}, "
        f"expected {fact['low']} … {fact['high']}"
        for family, facts in metrics["facts"].items()
        for name, fact in facts.items()
        if not fact["ok"]
    ]
    missed += [
        f"without {switch}, {told['fact']} moves by {told['moved']:.3f}, "
        f"no further than between seeds ({told['seed_to_seed']:.3f})"
        for switch, told in metrics["switches"].items()
        if not told["ok"]
    ]
    if metrics["slates_per_minute"] < SLATES_PER_MINUTE:
        missed.append(f"{metrics['slates_per_minute']:.0f} slates per minute on one core")
    if metrics["full_week"]["impressions"] < FULL_IMPRESSIONS:
        missed.append(f"{metrics['full_week']['impressions']:,} impressions in the full week")
    if metrics["full_peak_gib"] > FULL_PEAK_GIB:
        missed.append(f"{metrics['full_peak_gib']:.1f} GiB for a week at full scale")
    return missed


def check_facts(families: Sequence[str], seeds: Sequence[int], scale: str) -> dict[str, Any]:
    """Facts by family and name: value (mean over seeds), low, high (the range), ok, and each seed's value."""
    told = {}
    for family in families:
        logs = (simulated(wide(scale, seed, family)) for seed in seeds)
        measured = [{name: fact.measure(log) for name, fact in FACTS.items()} for log in logs]
        told[family] = {name: _fact(name, [row[name] for row in measured]) for name in FACTS}
    return told


def check_switches(
    seeds: Sequence[int],
    scale: str,
    family: str = DEFAULT_FAMILY,
    only: Sequence[str] = tuple(CARRIES),
    times: int = WIDE,
) -> dict[str, Any]:
    """By switch: its fact with and without it, over seeds, and whether it moved further than seeds do."""
    base = [simulated(wide(scale, seed, family, times)) for seed in seeds]
    told = {}
    for switch in only:
        name = CARRIES[switch]
        measure = FACTS[name].measure
        there = [measure(log) for log in base]
        away = [
            measure(simulated(wide(scale, seed, family, times, switched_off=[switch])))
            for seed in seeds
        ]
        moved, between = abs(np.mean(away) - np.mean(there)), max(there) - min(there)
        told[switch] = {
            "fact": name,
            "on": _interval(there),
            "off": _interval(away),
            "moved": float(moved),
            "seed_to_seed": float(between),
            "ok": bool(moved > between),
        }
    return told


def check_examination(families: Sequence[str], seed: int, scale: str) -> dict[str, Any]:
    """By family: curves, and the error of each way to tell them; on a log half of which is random."""
    told = {}
    for family in families:
        log = simulated(wide(scale, seed, family, randomised=0.5))
        truth = true_curve(log, log.randomised)
        ways = {"position": by_position, "slice": by_slice}
        curves = {way: told_by(log) for way, told_by in ways.items()}
        told[family] = {
            "true": truth.tolist(),
            **{f"by_{way}": curve.tolist() for way, curve in curves.items()},
            "error": {way: error(curve, truth) for way, curve in curves.items()},
        }
    return told


def slates_per_minute(scale: str, seed: int) -> float:
    """Ten-item slates, chosen, reacted to, told as events and as truth, per minute of one core's time."""
    truth = populate(configure(scale, seed), WORLD_END)
    started, slates = time.process_time(), 0
    for day in log_past(truth, fresh_state(truth)):
        events(truth, day)
        slates += responses(truth, day.played.visits, day.played.reaction, day.request_ids).num_rows
    return 60 * slates / (time.process_time() - started)


def full_week(seed: int) -> dict[str, Any]:
    """Impressions and peak memory of a week at full scale, log and all, in a process of its own."""
    from pipelines.run import run_module

    return dict(
        run_module("pipelines.world.check", ["--seed", str(seed)], {"OMP_NUM_THREADS": "1"})
    )


def _fact(name: str, values: list[float]) -> dict[str, Any]:
    fact = FACTS[name]
    return {
        "value": float(np.mean(values)),
        "low": fact.low,
        "high": fact.high,
        "ok": all(fact.holds(value) for value in values),
        "values": values,
        "source": fact.source,
    }


def _interval(values: list[float]) -> dict[str, float]:
    return {"mean": float(np.mean(values)), "low": min(values), "high": max(values)}


def main() -> None:
    """One week at full scale; prints its size and this process's peak as JSON."""
    seed = int(sys.argv[sys.argv.index("--seed") + 1])
    with tempfile.TemporaryDirectory() as home:
        log = make(configure("full", seed, **FULL_WEEK), Path(home)).history().events
    unit = 1 if sys.platform == "darwin" else 1024  # bytes there, KiB elsewhere
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / GIB
    impressions = int((log["event_type"] == "impression").sum())
    print(json.dumps({"peak_gib": peak, "impressions": impressions}))


if __name__ == "__main__":
    main()
