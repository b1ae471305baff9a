"""One self-contained HTML page per experiment, and the overview of all: no script, no network."""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from pipelines.experiments.card import Card
from pipelines.experiments.outcome import Outcome
from pipelines.experiments.tables import Table, measurements, three_numbers, verdicts

STYLE = """
body{font:16px/1.5 system-ui,sans-serif;max-width:62rem;margin:2rem auto;padding:0 1rem;color:#222}
table{border-collapse:collapse;width:100%;font-size:.85rem;display:block;overflow-x:auto}
td,th{border-bottom:1px solid #ddd;padding:.35rem .6rem;text-align:left;vertical-align:top}
dt{font-weight:600;margin-top:.5rem}dd{margin:0}svg{max-width:100%;height:auto}
.confirmed{color:#2e7d32}.refuted{color:#b3261e}.not-powered{color:#8a6d00}.none{color:#777}
.small{color:#666;font-size:.85rem}h2{font-size:1.1rem;margin-top:2rem}
@media(prefers-color-scheme:dark){body{background:#181a1b;color:#ddd}td,th{border-color:#444}
svg{background:#fff}}
"""


def page(outcome: Outcome, chart: str, tables: Sequence[Table], about: Mapping[str, Any]) -> str:
    """The page of one run.

    Args:
        outcome: what was measured.
        chart: SVG text.
        tables: the experiment's own, before the general ones.
        about: command, git, machine, started_at, registered_at, seconds of the run's report.
    """
    card = outcome.card
    parts = [
        f"<h1>{escape(card.number)} {escape(card.title)}</h1>",
        f"<p><em>{escape(card.question)}</em></p>",
        f"<p>Claimed: {escape(card.sentence)} <strong>{_word(outcome.verdict.value)}</strong></p>",
        chart[chart.index("<svg") :],
        three_numbers(outcome).html(),
        verdicts(outcome).html(),
        *(table.html() for table in tables),
        "<h2>The card, as it was before the run</h2>",
        _card(card),
        measurements(outcome).html(),
        f'<p class="small">{escape(made(about))}</p>',
        '<p class="small"><a href="index.html">All experiments</a></p>',
    ]
    return _document(f"{card.number} {card.title}", parts)


def overview(cards: Sequence[Card], outcomes: Mapping[str, Outcome]) -> str:
    """All cards, with the verdict of their latest run where there is one."""
    rows = []
    for card in cards:
        outcome = outcomes.get(card.number)
        name = escape(f"{card.number} {card.title}")
        if outcome is None:
            rows.append((name, '<span class="none">not run here</span>', "", ""))
            continue
        held = ", ".join(f"{claim.effect}: {outcome.holds(claim.effect)}" for claim in card.claims)
        link = f'<a href="{escape(card.number)}.html">{name}</a>'
        rows.append((link, _word(outcome.verdict.value), escape(held), str(len(outcome.seeds))))
    head = "".join(f"<th>{name}</th>" for name in ("experiment", "verdict", "worlds", "seeds"))
    body = "\n".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    return _document(
        "Experiments",
        [
            "<h1>Experiments</h1>",
            "<p>Each claim was written down before it was measured; a refuted one stays.</p>",
            f"<table><thead><tr>{head}</tr></thead><tbody>\n{body}\n</tbody></table>",
        ],
    )


def made(about: Mapping[str, Any]) -> str:
    """How, where and when, in one line."""
    machine = about["machine"]
    return (
        f"{about['command']}: {about['started_at'][:10]}, {machine['cores']} cores, Python "
        f"{machine['python']}, commit {about['git']}, {about['seconds']:.0f} s; card written "
        f"{about['registered_at']}"
    )


def _card(card: Card) -> str:
    facts = {
        "Varied": card.varied,
        "Measured": card.measured,
        "Expected, and from where": " · ".join(
            f"{claim.says}: {claim.expected[0]:g} … {claim.expected[1]:g} ({claim.source})"
            for claim in card.claims
        ),
        "What would change our mind": card.change_our_mind,
        "Tier and worlds": f"{card.tier.value}; {', '.join(card.families)}",
    }
    items = "".join(
        f"<dt>{escape(name)}</dt><dd>{escape(text)}</dd>" for name, text in facts.items()
    )
    return f"<dl>{items}</dl>"


def _word(verdict: str) -> str:
    return f'<span class="{verdict.replace(" ", "-")}">{verdict}</span>'


def _document(title: str, parts: Sequence[str]) -> str:
    body = "\n".join(parts)
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width">'
        f"<title>{escape(title)}</title><style>{STYLE}</style></head>\n<body>\n{body}\n</body></html>\n"
    )
