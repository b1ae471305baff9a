"""One page that tells what a loop found: no script, no network, light or dark, wide or narrow."""

import json
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from features.errors import ContractError
from pipelines.loop import charts
from pipelines.loop.answer import (
    HEADINGS,
    MEASURES,
    Metrics,
    answers,
    headline,
    held,
    level,
    lift,
    nights,
    one_test,
    unfinished,
)
from pipelines.loop.elements import both, figure, legend, source, table, tag

STYLE = Path(__file__).with_name("page.css")

LIMITS = (
    (
        "Twins exist only here.",
        "True lift compares the same people under both policies. A shop has each visitor once, and "
        "gets the column of the A/B test: one number, one interval. From the second day on even the "
        "twins’ crowds differ a little, because who is satisfied comes back sooner.",
    ),
    (
        "The world is simulated.",
        "Directions may carry over where they hold in three families that disagree about what "
        "people want; sizes do not. What the worlds are made of: docs/world.md, with its own list "
        "under “What must not be concluded from it”.",
    ),
    (
        "The oracle is short-sighted.",
        "It shows each visitor what attracts most at that moment, and never asks whom that bores "
        "tomorrow or what satisfies afterwards. It is a ceiling for attraction within one slate, "
        "not for revenue, satisfaction or return, where another policy may pass it.",
    ),
    (
        "The A/B test is kinder than a real one.",
        "Each twin trains on all its users, while in a real test both arms learn from what both "
        "halves did. Here neither arm disturbs the other’s data, and the full line learns from "
        "nothing but what it chose to show.",
    ),
    (
        "Bands are of worlds, lifts are of pairs.",
        "A band shows how far worlds lie apart, so overlapping bands do not say that arms are equal. "
        "Compare arms by lift, which is paired by seed.",
    ),
    (
        "Clicks are not satisfaction.",
        "Lift counts expected clicks. Whether they please afterwards is a line of its own, which "
        "no dashboard has.",
    ),
)


def write_page(reports: Path) -> Path:
    """Make `<reports>/loop/index.html` from `<reports>/loop.json`.

    Raises:
        ContractError: no loop was run in this home.
    """
    source = reports / "loop.json"
    if not source.exists():
        raise ContractError(f"{source} is not there; run: shortlist loop")
    path = reports / "loop" / "index.html"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(page(json.loads(source.read_text())))
    return path


def page(report: Mapping[str, Any]) -> str:
    """The page of one report, in the common format of reports."""
    metrics: Metrics = report["metrics"]
    families = metrics["families"]
    body = [
        '<p class="over">The closed loop: serve, log, learn, serve again</p>',
        f"<h1>{escape(headline(metrics))}</h1>",
        _facts(metrics),
        f'<p class="warn">{escape(missing)}</p>' if (missing := unfinished(metrics)) else "",
        _answer(metrics) if families else "",
        *(_family(metrics, family) for family in families),
        _dashboard(metrics) if families else "",
        _run(report),
        _limits(),
    ]
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>The closed loop</title><style>{STYLE.read_text()}</style></head>\n"
        "<body><main>\n" + "\n".join(filter(None, body)) + "\n</main></body></html>\n"
    )


def _facts(metrics: Metrics) -> str:
    seeds = metrics["seeds"]
    facts = (
        f"{metrics['days']} day{'s' * (metrics['days'] != 1)}",
        f"{len(seeds)} seed{'s' * (len(seeds) != 1)}",
        f"arms: {', '.join(metrics['arms'])}",
        f"scale {metrics['scale']}",
        f"preset {metrics['preset']}",
        f"retraining: {metrics['retrain']}",
    )
    return '<ul class="facts">' + "".join(f"<li>{escape(fact)}</li>" for fact in facts) + "</ul>"


def _answer(metrics: Metrics) -> str:
    cards = "".join(_card(family, metrics[family]) for family in metrics["families"])
    links = "".join(f'<a href="#{_anchor(f)}">{escape(f)}</a>' for f in metrics["families"])
    forest = ""
    if any(metrics[family]["lift_true"] for family in metrics["families"]):
        marks = legend(
            ("full diamond", "true: the same people, once with each policy"),
            ("seen ring", "as an A/B test of halves shows it"),
            ("oracle diamond", "of what the oracle earns"),
        )
        label = (
            "Lift of the full line over popularity, true and observed, and its share of the oracle"
        )
        drawn = both(lambda size: charts.forest(metrics, size, label))
        forest = figure(
            "The full line against popularity and the oracle",
            "means and 95 % intervals over seeds; a tick is one seed",
            drawn,
        )
        forest = f'<div class="charts">{forest}</div>{marks}'
    return (
        f'<div class="worlds">{cards}</div>{forest}'
        f"{table(HEADINGS, answers(metrics))}"
        '<p class="quiet">Lift: expected clicks per slate of the full line over those of the popular '
        "list, all days together, minus one. Student’s t over seeds, paired. A/B test: clicks of one "
        "half of the users under full against the other half under popular.</p>"
        f'<nav aria-label="Worlds">{links}<a href="#dashboard">dashboard and truth</a>'
        '<a href="#run">how it was run</a><a href="#limits">what not to conclude</a></nav>'
    )


def _card(family: str, found: Metrics) -> str:
    mean, _, interval = lift(found["lift_true"]).partition(" (")
    sure = interval.rstrip(")") or "no lift without popular and full"
    return (
        f'<section class="card"><h3>{escape(family)}</h3><div class="big">{escape(mean)}</div>'
        f"<small>true lift, <span>{escape(sure)}</span></small></section>"
    )


def _family(metrics: Metrics, family: str) -> str:
    found, days = metrics[family], metrics["days"]
    arms = ", ".join(metrics["arms"])
    label = f"Expected clicks per slate by day in {family}, arms {arms}"
    above = f"True lift over popular by day in {family}"
    hero = figure(
        "Utility per slate",
        "expected clicks by the truth; below, each seed’s retrainings",
        both(lambda size: charts.utility(found, found["seeds"], days, size, label)),
        true=True,
    )
    if "full" in found["lift_by_day"]:
        hero += figure(
            "True lift, day by day",
            "paired by seed, so worlds’ differences drop out",
            both(lambda size: charts.lift_by_day(found, days, size, above)),
            true=True,
        )
    small = "".join(
        figure(
            told.title,
            told.means,
            charts.measure(found, name, told, days, f"{told.title} by day in {family}"),
            told.true,
        )
        for name, told in MEASURES.items()
        if name != "utility_per_slate"
    )
    kept = [arm for arm in ("popular", "full", "oracle") if arm in metrics["arms"]]
    dashes = {"oracle": "line dashes"}
    marks = legend(
        *((f"{arm} {dashes.get(arm, 'line')}", _NAMES[arm]) for arm in kept),
        ("full dot", "retrained and promoted"),
        ("full ring", "retrained, refused by the gate"),
    )
    return (
        f'<h2 id="{_anchor(family)}">World: {escape(family)}</h2>{marks}'
        f'<div class="charts pair">{hero}</div><div class="charts">{small}{_how_to_read()}</div>'
        f"{_totals(found, kept)}{_mornings(found['mornings'])}"
    )


_NAMES = {
    "popular": "popular: the same list for everybody",
    "full": "full: the trained line",
    "oracle": "oracle: knows each attraction",
}


def _how_to_read() -> str:
    return (
        '<section class="card read"><h3>How to read these</h3><p>Lines are means over seeds, bands '
        "their 95 % intervals; a band that leaves its frame is cut. Day 0 is the first after the "
        f"logged past.</p><p>{tag(source(False))} can be counted in any shop.<br>"
        f"{tag(source(True))} is known because the world is simulated.</p></section>"
    )


def _totals(found: Metrics, arms: Sequence[str]) -> str:
    rows = []
    for name, told in MEASURES.items():
        cells = [level(found["totals"][arm][name], told.percent) for arm in arms]
        rows.append((told.title, *cells, lift(found["beside"][name]), source(told.true)))
    head = ("over all days", *arms, "full over popular", "known to")
    return table(head, rows)


def _mornings(mornings: Sequence[Metrics]) -> str:
    if not mornings:
        return ""
    rows = [
        (
            f"day {morning['day']}",
            str(morning["seed"]),
            _outcome(morning),
            str(morning["because"]),
            str(morning["verdict"]),
        )
        for morning in mornings
    ]
    head = ("before", "seed", "model", "because", "verdict")
    return (
        f"<details><summary>{escape(nights(mornings))}</summary>"
        f"{table(head, rows, 'nights', numbers=False)}</details>"
    )


def _outcome(morning: Metrics) -> str:
    if not morning["retrained"]:
        return "kept"
    return "promoted" if morning["promoted"] else "refused"


def _dashboard(metrics: Metrics) -> str:
    rows = []
    for family in metrics["families"]:
        seen, true = metrics[family]["lift_observed"], metrics[family]["lift_true"]
        gap = lift(seen["gap"]) if seen else "–"
        rows.append((family, lift(seen), lift(true), gap, one_test(seen), held(seen)))
    head = (
        "world", "A/B tests, mean", "truth", "gap, paired by seed",
        "one test alone, points", "intervals that hold the truth",
    )  # fmt: skip
    return (
        '<h2 id="dashboard">What a dashboard says, and what is true</h2>'
        "<p>A shop sees the clicks of two halves of its users. Here each test’s answer is known: the "
        "lift of everybody in that very world. A dashboard also cannot see satisfaction, or what "
        "the best possible list would have earned. With few users one of them, or a script that clicks on "
        "everything, may decide a test; twins have everybody on both sides.</p>" + table(head, rows)
    )


def _run(report: Mapping[str, Any]) -> str:
    metrics, machine = report["metrics"], report["machine"]
    facts = {
        "Repeat with": f"<code>{escape(report['command'])}</code>",
        "Scale": escape(metrics["scale"]),
        "Days": str(metrics["days"]),
        "Seeds": escape(", ".join(map(str, metrics["seeds"]))),
        "Worlds": escape(", ".join(metrics["families"]) or "none finished"),
        "Arms": escape(", ".join(metrics["arms"])),
        "Retraining": escape(metrics["retrain"]),
        "Time": f"{_duration(metrics['seconds'])} in all days of all twins together",
        "Made": escape(
            f"{report['started_at'][:10]}, commit {report['git']}, {machine['cores']} cores, "
            f"Python {machine['python']}"
        ),
        "Event logs": f"<code>{escape(str(metrics['logs_sha256'])[:16])}</code>: the same command "
        "gives the same digest",
    }
    items = "".join(f"<dt>{name}</dt><dd>{told}</dd>" for name, told in facts.items())
    return f'<h2 id="run">How it was run</h2><dl class="run">{items}</dl>'


def _limits() -> str:
    items = "".join(f"<li><b>{escape(name)}</b> {escape(text)}</li>" for name, text in LIMITS)
    return f'<h2 id="limits">What must not be concluded</h2><ul class="limits">{items}</ul>'


def _anchor(family: str) -> str:
    return "world-" + "".join(letter if letter.isalnum() else "-" for letter in family)


def _duration(seconds: float) -> str:
    minutes = seconds / 60
    return f"{minutes:.0f} min" if minutes >= 2 else f"{seconds:.0f} s"
