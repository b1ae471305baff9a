"""What people read after a loop says what the report says, and nothing that came in as text acts."""

import json
import re
import xml.etree.ElementTree as ET
from dataclasses import replace

import pytest

from features.errors import ContractError
from infra.reports import write_json
from pipelines.loop import charts, tell
from pipelines.loop.answer import answers, headline, held, lift, nights, unfinished
from pipelines.loop.page import LIMITS, page, write_page
from pipelines.loop.shelf import read_shelf
from pipelines.loop.summary import summarise
from pipelines.steps import console
from tests.pipelines.loop.books import ONE, by_hand, made_up

HOSTILE = "<script>alert(1)</script>\"><img src=x onerror='alert(2)'> https://evil.example/x.js"


def report_of(folder, plan):
    return {
        "command": "shortlist loop --days 3",
        "metrics": json.loads(json.dumps(summarise(read_shelf(folder, plan), plan, "salt"))),
        "git": "abc",
        "machine": {"cores": 2, "python": "3.11"},
        "started_at": "2026-03-01T00:00:00+00:00",
    }


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    folder = tmp_path_factory.mktemp("books")
    plan = replace(ONE, days=3, families=("trust", "cascade"), seeds=(0, 1, 2))
    made_up(folder, plan, users=80)
    return report_of(folder, plan)


@pytest.fixture(scope="module")
def text(report):
    return page(report)


def plain(text: str) -> str:
    """What is read: no marks, single spaces."""
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", text))


def test_the_page_says_what_the_report_says(report, text):
    metrics, seen = report["metrics"], plain(text)
    assert headline(metrics) in seen
    for row in answers(metrics):
        assert " ".join(row) in seen
    for family in metrics["families"]:
        found = metrics[family]
        assert f"{100 * found['lift_true']['mean']:+.1f} %" in seen
        assert nights(found["mornings"]) in seen
        for morning in found["mornings"]:
            assert morning["because"] in seen
            assert morning["verdict"] in seen
        gap = lift(found["lift_observed"]["gap"])
        told = f"{lift(found['lift_observed'])} {lift(found['lift_true'])} {gap}"
        assert told in seen, "the dashboard beside the truth"
        assert held(found["lift_observed"]) in seen
    for name, limit in LIMITS:
        assert name in seen
        assert limit in seen
    for told in ("docs/world.md", report["command"], metrics["logs_sha256"][:16], "daily"):
        assert told in seen


def test_the_page_is_whole_in_one_file(text):
    assert not re.search(r"https?:|//\w|@import|url\((?!#)|<script|<link|<img|<iframe", text)
    assert all(target.startswith("#") for target in re.findall(r'(?:src|href)="([^"]*)"', text))
    ids = set(re.findall(r'\sid="([^"]+)"', text))
    wanted = re.findall(r'href="#([^"]+)"', text) + re.findall(r"url\(#([^)]+)\)", text)
    assert wanted
    assert set(wanted) <= ids, "every mark, clip and link finds its target"


def test_every_chart_is_drawn_and_takes_its_colours_from_the_page(report, text):
    drawn = re.findall(r"<svg .*?</svg>", text, flags=re.S)
    families = len(report["metrics"]["families"])
    assert len(drawn) == 2 + families * (2 * 2 + 8), "wide and narrow; eight small ones"
    for chart in drawn:
        assert ET.fromstring(chart).get("aria-label")
        colours = set(re.findall(r"#[0-9a-f]{6}\b", chart))
        assert colours <= {"#000000"}, "a colour of its own would not turn with the dark"
        assert "var(--ink)" in chart or "var(--quiet)" in chart
    style = text[: text.index("</style>")]
    for name in charts.INK:
        assert style.count(f"--{name}:") == 2, f"{name} is there for light and dark"


def test_hostile_text_stays_text(report):
    bad = json.loads(json.dumps(report))
    metrics = bad["metrics"]
    first = metrics[metrics["families"][0]]["mornings"]
    assert first
    for morning in first:
        morning |= {"because": HOSTILE, "verdict": HOSTILE, "retrained": True}
    bad |= {"command": HOSTILE, "git": HOSTILE, "started_at": HOSTILE}
    bad["machine"]["python"] = HOSTILE
    for name in ("scale", "retrain", "preset", "logs_sha256"):
        metrics[name] = HOSTILE
    metrics["unfinished"] = [{"family": HOSTILE, "seed": 1, "arm": HOSTILE, "days": 0}]
    metrics['<script>"'] = metrics[metrics["families"][0]]
    metrics["families"] = ['<script>"', *metrics["families"]]
    text = page(bad)
    assert "<script" not in text
    assert "<img" not in text
    assert "&lt;script&gt;" in text
    for tag in re.findall(r"<(?!/)[^>]*>", text):
        assert "onerror" not in re.sub(r'"[^"]*"', "", tag), "never outside of a quoted value"


def test_missing_twins_are_named_on_page_and_terminal(tmp_path):
    plan = replace(ONE, seeds=(0, 1))
    by_hand(
        tmp_path, plan, {"popular": 0.4, "full": 0.6, "oracle": 0.8}, dict.fromkeys(ONE.arms, 1)
    )
    (tmp_path / "trust-1" / "full" / "book" / "day-01" / "day.json").unlink()
    report = report_of(tmp_path, plan)
    told = "trust-1 (full 1 of 2 days)"
    assert told in unfinished(report["metrics"])
    assert told in plain(page(report))
    with console.capture() as printed:
        tell.tell(report["metrics"])
    said = " ".join(printed.get().split())
    assert told in said
    assert "+50.0 %" in said
    assert "75.0 %" in said
    assert "(one seed)" in said
    assert "with one seed that is a single draw" in said


@pytest.mark.parametrize("arms", [("popular", "full"), ("full", "oracle"), ("oracle",)])
def test_fewer_arms_and_one_day_still_make_a_page(tmp_path, arms):
    plan = replace(ONE, days=1, arms=arms)
    made_up(tmp_path, plan, users=20)
    report = report_of(tmp_path, plan)
    seen = plain(page(report))
    assert ("+" in answers(report["metrics"])[0][1]) == ({"popular", "full"} <= set(arms))
    assert all(arm in seen for arm in arms)
    tell.tell(report["metrics"])


def test_nothing_finished_is_said_and_not_drawn(tmp_path):
    report = report_of(tmp_path, ONE)
    seen = plain(page(report))
    assert "No world has a finished seed" in seen
    assert "Not finished" in seen
    assert "<svg" not in page(report)
    tell.tell(report["metrics"])


@pytest.mark.parametrize(
    ("lifts", "told"),
    [
        ([(0.1, 0.3), (0.2, 0.4)], "In all 2 worlds the full line earns more"),
        ([(0.1, 0.3), (-0.2, 0.4)], "In 1 of 2 worlds the full line earns more"),
        ([(0.1, 0.3), (-0.4, -0.2)], "; in 1 it earns less."),
    ],
)
def test_the_headline_counts_whole_intervals(lifts, told):
    families = [f"f{n}" for n in range(len(lifts))]
    metrics = {"families": families} | {
        family: {"lift_true": {"mean": (low + high) / 2, "low": low, "high": high}}
        for family, (low, high) in zip(families, lifts, strict=True)
    }
    assert told in headline(metrics)


def test_the_page_is_made_from_the_report_that_is_there(tmp_path):
    with pytest.raises(ContractError, match="run: shortlist loop"):
        write_page(tmp_path)
    report = report_of(tmp_path, ONE)
    write_json(tmp_path / "loop.json", report)
    path = write_page(tmp_path)
    assert path == tmp_path / "loop" / "index.html"
    assert path.read_text() == page(report)
