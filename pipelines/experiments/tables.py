"""The tables of an outcome, once as data; pages take them as HTML, docs/experiments as Markdown."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from monitoring.estimate import Estimate
from pipelines.experiments.outcome import Outcome
from pipelines.experiments.verdict import Verdict

SHOWN = ("observed", "true", "gap")


@dataclass(frozen=True, slots=True)
class Table:
    """Text in rows; the first column names, the others tell."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]

    def markdown(self) -> str:
        """As GitHub reads it."""
        lines = [self.columns, ["---"] * len(self.columns), *self.rows]
        cells = [
            "| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in lines
        ]
        return "\n".join([f"**{self.title}**", "", *cells])

    def html(self) -> str:
        """One table element."""
        head = "".join(f"<th>{escape(name)}</th>" for name in self.columns)
        body = "\n".join(
            "<tr>" + "".join(_cell(cell) for cell in row) + "</tr>" for row in self.rows
        )
        return (
            f"<h2>{escape(self.title)}</h2>\n<table><thead><tr>{head}</tr></thead>"
            f"<tbody>\n{body}\n</tbody></table>"
        )


def told(estimate: Estimate) -> str:
    """Mean and interval; inside one seed, where users are the unit, what their number leaves open."""
    if estimate.low is None or estimate.high is None:
        return f"{estimate.mean:.4g} (one seed)"
    inside = "" if estimate.within is None else f"; users ±{estimate.within:.2g}"
    return f"{estimate.mean:.4g} ({estimate.low:.4g} … {estimate.high:.4g}{inside})"


def three_numbers(outcome: Outcome) -> Table:
    """What the dashboard shows, what is true, and the gap."""
    card = outcome.card
    columns = ("world", f"dashboard: {card.observed}", f"truth: {card.true}", "gap")
    rows = [
        [family, *(told(values[name]) for name in SHOWN)]
        for family, values in outcome.metrics.items()
    ]
    return Table("What the dashboard shows, what is true", columns, rows)


def verdicts(outcome: Outcome) -> Table:
    """Every claim in every world."""
    rows = []
    for claim in outcome.card.claims:
        limit = (
            f"{'≥' if claim.direction == 'more' else '≤'} {_signed(claim.direction, claim.minimum)}"
        )
        low, high = claim.expected
        for family, word in outcome.verdicts[claim.effect].items():
            effect = outcome.metrics[family][claim.effect]
            inside = "inside" if outcome.expected[claim.effect][family] else "outside"
            rows.append(
                [claim.says, family, limit, f"{low:g} … {high:g}", told(effect), inside, word.value]
            )
    columns = ("claim", "world", "counts if", "expected", "measured", "mean is", "verdict")
    return Table("Claims", columns, rows)


def measurements(outcome: Outcome) -> Table:
    """All numbers, for who wants to check."""
    families = list(outcome.metrics)
    names = [name for name in outcome.metrics[families[0]] if name not in SHOWN]
    rows = [[name, *(told(outcome.metrics[family][name]) for family in families)] for name in names]
    title = f"All measurements: mean over {len(outcome.seeds)} seeds, 95 % interval"
    return Table(title, ("measurement", *families), rows)


def _cell(text: str) -> str:
    """A verdict carries its colour."""
    mark = f' class="{text.replace(" ", "-")}"' if text in set(Verdict) else ""
    return f"<td{mark}>{escape(text)}</td>"


def _signed(direction: str, minimum: float) -> str:
    return f"{minimum:g}" if direction == "more" else f"−{minimum:g}"
