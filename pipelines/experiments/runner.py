"""Measures an experiment seed by seed, and survives being killed between any two of them.

    <home>/experiments/E-02/<identity>/card.json      written before the first seed
                                       linear-3.json  one family and seed, complete or not there

A finished seed is a file that appears as a whole (write, then rename). Its folder is named by the
hash of card, scale, code and libraries: what was measured under another hash is not found, so a
changed claim cannot inherit results, and a resumed run equals one that was never interrupted.
"""

import json
import math
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from features.errors import ContractError
from infra.reports import write_json
from pipelines.experiments.card import TIER_S, Card, Measured, Setting, plain
from pipelines.experiments.identity import identity
from pipelines.experiments.outcome import Outcome, conclude
from pipelines.experiments.tables import Table
from pipelines.steps import console


@dataclass(frozen=True, slots=True)
class Experiment:
    """A card, what measures it, and what draws it."""

    card: Card
    measure: Callable[[Setting, int], Measured]  # pure: equal arguments give equal numbers
    draw: Callable[[Any, Outcome], None]  # (matplotlib Figure, outcome)
    tables: Callable[[Outcome], list[Table]] | None = None  # its own, beside the general ones


def run(
    experiment: Experiment, home: Path, scale: str, seeds: Sequence[int], *, resume: bool
) -> Outcome:
    """Measure what is missing, then grade.

    Args:
        experiment: from the catalogue.
        home: `Settings.home`.
        scale: tiny, small or full.
        seeds: distinct; the same in every family, so that all comparisons are paired.
        resume: keep the seeds that this very card, scale and code has finished; else begin anew.

    Raises:
        ContractError: a seed is named twice or none is named.

    Interview: Why does every arm see the same users and the same random draws?
        Because then what differs between two arms is the arms. Worlds differ from each other more
        than policies do; taken as a difference within one world, that noise cancels, and five seeds
        show what fifty unpaired ones would not.
        Trade-off: the draws must belong to (user, session, place) and not to the order of calls, or
        one arm's extra click shifts all later draws; and the interval then covers seeds of this
        world, not other worlds.
        Shown by: tests/pipelines/experiments/test_verdict.py::test_pairing_by_seed_sees_what_groups_hide
    """
    if len(set(seeds)) != len(seeds) or not seeds:
        raise ContractError(f"seeds {list(seeds)}: expected distinct ones, as in --seeds 0-4")
    card = experiment.card
    key = identity(card, scale, experiment.measure)
    folder = home / "experiments" / card.number / key[:16]
    if not resume:
        shutil.rmtree(folder, ignore_errors=True)
    _announce(card, folder, resume)
    _register(card, scale, key, folder)
    todo = [(family, seed) for family in card.families for seed in seeds]
    waiting = [pair for pair in todo if not _file(folder, *pair).exists()]
    console.print(f"[bold]▸ {card.number}[/] {_forecast(card, folder, todo, waiting)}")
    with _bar() as bar:
        shown = bar.add_task(card.number, total=len(todo), completed=len(todo) - len(waiting))
        for family, seed in waiting:
            _measure_one(experiment, Setting(family, scale), seed, folder)
            bar.advance(shown)
    return conclude(
        card,
        key,
        scale,
        {f: {s: _load(_file(folder, f, s)) for s in seeds} for f in card.families},
    )


def registered_at(outcome: Outcome, home: Path) -> str:
    """When the card of this outcome was written down, before its first seed."""
    folder = home / "experiments" / outcome.card.number / outcome.identity[:16]
    return str(json.loads((folder / "card.json").read_text())["registered_at"])


def _announce(card: Card, folder: Path, resume: bool) -> None:
    others = [path for path in folder.parent.glob("*/") if path != folder]
    if resume and others and not folder.exists():
        console.print(
            f"{card.number}: card, scale, code or a library has changed since the last run; its "
            "seeds do not count and are measured anew"
        )


def _register(card: Card, scale: str, key: str, folder: Path) -> None:
    """Write the card down before any number exists; a resumed run keeps the first date."""
    if not (folder / "card.json").exists():
        at = datetime.now(UTC).isoformat(timespec="seconds")
        content = {"registered_at": at, "identity": key, "scale": scale, "card": plain(card)}
        write_json(folder / "card.json", content)


def _measure_one(experiment: Experiment, setting: Setting, seed: int, folder: Path) -> None:
    since = time.monotonic()
    measured = experiment.measure(setting, seed)
    strange = [name for name, value in measured.values.items() if not math.isfinite(value)]
    if strange:
        raise ContractError(
            f"{experiment.card.number}, world {setting.family}, seed {seed}: {', '.join(strange)} "
            "is no number; a mean over seeds would hide it"
        )
    content = {
        "values": dict(measured.values),
        "within": dict(measured.within),
        "curves": dict(measured.curves),
        "seconds": round(time.monotonic() - since, 3),
    }
    write_json(_file(folder, setting.family, seed), content)


def _forecast(
    card: Card, folder: Path, todo: Sequence[tuple[str, int]], waiting: Sequence[tuple[str, int]]
) -> str:
    """How long it will take: by measurements of this scale made before, else by the tier's limit."""
    told = f"{len(waiting)} of {len(todo)} measurements to make"
    seconds = _seconds_before(folder)
    if not waiting:
        return told
    if seconds:
        return f"{told}, about {len(waiting) * sum(seconds) / len(seconds):.0f} s"
    return f"{told}, at most {TIER_S[card.tier]} s by tier {card.tier}; the bar knows more soon"


def _seconds_before(folder: Path) -> list[float]:
    """Of each measurement at this scale: of this very experiment, else of its earlier versions."""
    scale = json.loads((folder / "card.json").read_text())["scale"]
    for place in ([folder], folder.parent.iterdir()):
        found = [
            json.loads(path.read_text())["seconds"]
            for one in place
            if json.loads((one / "card.json").read_text())["scale"] == scale
            for path in one.glob("[!.]*-*.json")
        ]
        if found:
            return found
    return []


def _bar() -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    times = (TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn())
    return Progress(*columns, *times, console=console, transient=True)


def _file(folder: Path, family: str, seed: int) -> Path:
    return folder / f"{family}-{seed}.json"


def _load(path: Path) -> Measured:
    content = json.loads(path.read_text())
    content.pop("seconds")
    return TypeAdapter(Measured).validate_python(content)
