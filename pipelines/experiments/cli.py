"""`shortlist experiment`: list, show, run, report, record. What is heavy is imported when called."""

import json
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from features.errors import ContractError
from infra.settings import Settings
from pipelines.seeds import Seeds, parse_seeds
from pipelines.steps import console

if TYPE_CHECKING:
    from pipelines.experiments.outcome import Outcome
    from pipelines.experiments.runner import Experiment

app = typer.Typer(
    name="experiment",
    help="Claims, written down before they are measured in worlds whose truth is known.",
    epilog="Example: [bold]shortlist experiment run E-02[/], then [bold]report[/] and [bold]record[/]",
    no_args_is_help=True,
    rich_markup_mode="rich",
)

COLOURS = {"confirmed": "green", "refuted": "red", "not powered": "yellow"}


class Scale(StrEnum):
    """How much world per seed."""

    tiny = "tiny"
    small = "small"
    full = "full"


Number = Annotated[str, typer.Argument(help="Number of the experiment, such as E-02.")]


@app.command("list", epilog="Example: [bold]shortlist experiment list[/]")
def list_() -> None:
    """Every card: its tier, the verdict of its latest run here, and the one in docs/experiments."""
    from pipelines.experiments.catalogue import EXPERIMENTS

    reports = Settings().home / "reports"
    table = Table("", "tier", "worlds", "title", "verdict here", "recorded", box=None)
    for experiment in EXPERIMENTS:
        card = experiment.card
        facts = (card.number, card.tier.value, str(len(card.families)), card.title)
        table.add_row(*facts, _latest(card.number, reports), _recorded(experiment))
    console.print(table)


@app.command(epilog="Example: [bold]shortlist experiment show E-02[/]")
def show(number: Number) -> None:
    """The card: what is claimed, how it would be refuted, and where the expectation comes from."""
    card = _named(number).card
    console.print(f"[bold]{card.number} {card.title}[/]\n[italic]{card.question}[/]\n")
    for claim in card.claims:
        low, high = claim.expected
        console.print(
            f"• {claim.says}: [bold]{claim.effect}[/] {claim.direction.value} than {claim.minimum:g} "
            f"(expected {low:g} … {high:g}; {claim.source})"
        )
    facts = {
        "varied": card.varied,
        "measured": card.measured,
        "dashboard shows": card.observed,
        "truth": card.true,
        "would change our mind": card.change_our_mind,
        "tier": card.tier.value,
        "worlds": ", ".join(card.families),
        "recorded at scale": card.scale,
    }
    for name, text in facts.items():
        console.print(f"[dim]{name}:[/] {text}")


@app.command(epilog="Example: [bold]shortlist experiment run E-02 --seeds 5 --resume[/]")
def run(
    number: Number,
    scale: Annotated[Scale | None, typer.Option(help="The card's own when not given.")] = None,
    seeds: Seeds = "5",
    resume: Annotated[
        bool, typer.Option("--resume", help="Keep finished seeds of this very card and code.")
    ] = False,
) -> None:
    """Measure, grade, and write var/reports/experiments/E-xx.json and .html."""
    from pipelines.experiments.catalogue import EXPERIMENTS
    from pipelines.experiments.publish import run_and_report

    experiment, home = _named(number), Settings().home
    chosen = scale.value if scale else experiment.card.scale
    outcome = run_and_report(
        experiment, home, chosen, parse_seeds(seeds), EXPERIMENTS, resume=resume
    )
    _tell(outcome)
    console.print(f"page: {home / 'reports' / 'experiments' / f'{experiment.card.number}.html'}")


@app.command(
    epilog="Examples: [bold]shortlist experiment report[/], [bold]shortlist experiment report E-02[/]"
)
def report(
    number: Annotated[str | None, typer.Argument(help="Such as E-02; all when not given.")] = None,
) -> None:
    """Make the pages anew from the JSON that is there, and print what they say."""
    from pipelines.experiments.catalogue import EXPERIMENTS
    from pipelines.experiments.outcome import from_json
    from pipelines.experiments.publish import read, write_pages

    reports = Settings().home / "reports"
    if number:
        _tell(from_json(read(_named(number).card.number, reports)))
    for path in write_pages(EXPERIMENTS, reports):
        console.print(f"page: {path}")


@app.command(epilog="Example: [bold]shortlist experiment record E-02 --note 'what it taught'[/]")
def record(
    number: Number,
    note: Annotated[
        str | None, typer.Option(help="What was understood after the run; grades nothing.")
    ] = None,
) -> None:
    """Copy the latest run's results into docs/experiments/, and generate its page anew."""
    from pipelines.experiments.board import BOARD, write_board
    from pipelines.experiments.board import record as put
    from pipelines.experiments.catalogue import EXPERIMENTS

    path = put(_named(number), Settings().home / "reports", BOARD, note)
    write_board(EXPERIMENTS, BOARD)
    console.print(f"recorded: {path}; page: {BOARD / 'README.md'}")


def _named(number: str) -> "Experiment":
    from pipelines.experiments.catalogue import EXPERIMENTS

    by_number = {experiment.card.number: experiment for experiment in EXPERIMENTS}
    if number.upper() not in {known.upper() for known in by_number}:
        raise ContractError(f"no experiment {number!r}; there are {', '.join(by_number)}")
    return next(e for known, e in by_number.items() if known.upper() == number.upper())


def _latest(number: str, reports: Path) -> str:
    from pipelines.experiments.outcome import report_of

    path = report_of(number, reports)
    return _word(json.loads(path.read_text())["verdict"]) if path.exists() else "[dim]not run[/]"


def _recorded(experiment: "Experiment") -> str:
    """The verdict on the board, and whether card or code have changed since."""
    from pipelines.experiments.board import recorded
    from pipelines.experiments.identity import identity

    content = recorded(experiment)
    if content is None:
        return "[dim]none[/]"
    same = content["identity"] == identity(experiment.card, content["scale"], experiment.measure)
    return _word(content["verdict"]) + ("" if same else " [dim](by earlier code)[/]")


def _word(verdict: str) -> str:
    return f"[{COLOURS[verdict]}]{verdict}[/]"


def _tell(outcome: "Outcome") -> None:
    from pipelines.experiments.tables import three_numbers, verdicts

    for content in (three_numbers(outcome), verdicts(outcome)):
        table = Table(*content.columns, title=content.title, title_justify="left")
        for row in content.rows:
            table.add_row(*row)
        console.print(table)
    console.print(f"[bold]{outcome.card.number}: {_word(outcome.verdict.value)}[/]")
