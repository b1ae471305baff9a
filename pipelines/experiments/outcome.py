"""What all seeds together say: estimates, verdicts, and the three numbers of every card.

It goes to JSON and back unchanged; pages, charts and records are made from it alone.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import TypeAdapter

from monitoring.estimate import Estimate, over_seeds
from pipelines.experiments.card import Card, Measured
from pipelines.experiments.verdict import (
    Verdict,
    as_expected,
    grade,
    together,
)


@dataclass(frozen=True, slots=True)
class Outcome:
    """One experiment, measured and graded."""

    card: Card
    identity: str
    scale: str
    seeds: tuple[int, ...]
    metrics: dict[str, dict[str, Estimate]]  # family -> observed, true, gap, measurements
    verdicts: dict[str, dict[str, Verdict]]  # effect of a claim -> family -> word
    expected: dict[str, dict[str, bool]]  # effect of a claim -> family -> mean in the range
    verdict: Verdict
    curves: dict[str, dict[str, list[float]]]  # family -> line -> mean over seeds

    def holds(self, effect: str) -> str:
        """In how many worlds a claim holds."""
        words = list(self.verdicts[effect].values())
        return f"{words.count(Verdict.confirmed)} of {len(words)}"


def conclude(
    card: Card, identity: str, scale: str, measured: Mapping[str, Mapping[int, Measured]]
) -> Outcome:
    """Grade every claim in every family.

    Args:
        card: as it was before the run.
        identity: of card, scale and code.
        scale: that was measured.
        measured: family -> seed -> measurements; the same seeds in every family.

    Raises:
        KeyError: the experiment did not measure what its card grades.
    """
    by_seed = {family: list(runs.values()) for family, runs in measured.items()}
    metrics = {
        family: {**_three_numbers(card, runs), **_estimates(runs)}
        for family, runs in by_seed.items()
    }
    verdicts = {
        claim.effect: {
            family: grade(values[claim.effect], claim.direction, claim.minimum)
            for family, values in metrics.items()
        }
        for claim in card.claims
    }
    expected = {
        claim.effect: {
            family: as_expected(values[claim.effect], claim) for family, values in metrics.items()
        }
        for claim in card.claims
    }
    return Outcome(
        card=card,
        identity=identity,
        scale=scale,
        seeds=tuple(next(iter(measured.values()))),
        metrics=metrics,
        verdicts=verdicts,
        expected=expected,
        verdict=together(word for words in verdicts.values() for word in words.values()),
        curves={family: _curves(runs) for family, runs in by_seed.items()},
    )


def to_json(outcome: Outcome) -> dict[str, Any]:
    """Plain values only."""
    return dataclasses.asdict(outcome)


def from_json(content: Mapping[str, Any]) -> Outcome:
    """Inverse of `to_json`; other keys, as reports have them, are left aside.

    Raises:
        pydantic.ValidationError: a field is missing or of another kind.
    """
    return TypeAdapter(Outcome).validate_python(
        {field.name: content[field.name] for field in dataclasses.fields(Outcome)}
    )


def report_of(number: str, reports: Path) -> Path:
    """Where the JSON of an experiment's latest run lies; the page is beside it."""
    return reports / "experiments" / f"{number}.json"


def _estimates(runs: Sequence[Measured]) -> dict[str, Estimate]:
    return {
        name: over_seeds(
            [run.values[name] for run in runs],
            [run.within[name] for run in runs if name in run.within],
        )
        for name in runs[0].values
    }


def _three_numbers(card: Card, runs: Sequence[Measured]) -> dict[str, Estimate]:
    """Observed, true, and the gap, which is paired by seed and so surer than the two."""
    observed = [run.values[card.observed] for run in runs]
    true = [run.values[card.true] for run in runs]
    gap = [seen - real for seen, real in zip(observed, true, strict=True)]
    return {"observed": over_seeds(observed), "true": over_seeds(true), "gap": over_seeds(gap)}


def _curves(runs: Sequence[Measured]) -> dict[str, list[float]]:
    return {
        name: np.mean([run.curves[name] for run in runs], axis=0).tolist()
        for name in runs[0].curves
    }
