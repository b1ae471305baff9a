"""From a finished run to what people read: JSON, page and overview under `<home>/reports/experiments/`."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from features.errors import ContractError
from infra.reports import report
from pipelines.experiments.charts import svg
from pipelines.experiments.outcome import Outcome, from_json, report_of, to_json
from pipelines.experiments.page import overview, page
from pipelines.experiments.runner import Experiment, registered_at, run


def run_and_report(
    experiment: Experiment,
    home: Path,
    scale: str,
    seeds: Sequence[int],
    everything: Sequence[Experiment],
    *,
    resume: bool,
) -> Outcome:
    """Run one experiment, write its report in the common format plus card and verdict, and the pages."""
    number, also = experiment.card.number, {}  # type: str, dict[str, Any]
    reports = home / "reports"
    with report(report_of(number, reports).parent, number, list(seeds), also) as metrics:
        outcome = run(experiment, home, scale, seeds, resume=resume)
        also |= {**to_json(outcome), "registered_at": registered_at(outcome, home)}
        metrics |= also["metrics"]
    write_pages(everything, reports)
    return outcome


def write_pages(experiments: Sequence[Experiment], reports: Path) -> list[Path]:
    """Make every page anew from the JSON that is there; returns what was written."""
    folder = reports / "experiments"
    folder.mkdir(parents=True, exist_ok=True)
    written, outcomes = [], {}
    for experiment in experiments:
        number = experiment.card.number
        if not report_of(number, reports).exists():
            continue
        about = read(number, reports)
        outcome = outcomes[number] = from_json(about)
        tables = experiment.tables(outcome) if experiment.tables else []
        path = folder / f"{number}.html"
        path.write_text(page(outcome, svg(experiment.draw, outcome), tables, about))
        written.append(path)
    path = folder / "index.html"
    path.write_text(overview([experiment.card for experiment in experiments], outcomes))
    return [*written, path]


def read(number: str, reports: Path) -> Mapping[str, Any]:
    """The JSON of the latest run.

    Raises:
        ContractError: it was not run in this home.
    """
    path = report_of(number, reports)
    if not path.exists():
        raise ContractError(f"{number} was not run here; run: shortlist experiment run {number}")
    content: dict[str, Any] = json.loads(path.read_text())
    return content
