"""Writes the measured figures into the pages, from var/reports/, and takes the page's screenshot.

    make docs      (or: python -m docs.figures)

A figure stands between `<!-- figure: NAME -->` and `<!-- end -->`; nobody edits between the marks.
A report that is not there leaves its figures as they are, and is named. The screenshot is taken
when a bundle of the world is there to be served.
"""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from docs import figures_features
from infra.settings import Settings
from infra.workspace import Workspace

ROOT = Path(__file__).resolve().parents[1]
PAGES = [
    ROOT / "README.md",
    *(ROOT / "docs" / name for name in ("tour.md", "data.md", "world.md", "operations.md")),
]
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
SCREENSHOT = ROOT / "docs" / "page.png"
BLOCK = re.compile(r"(<!-- figure: ([a-z-]+) -->\n)(.*?)(<!-- end -->)", re.DOTALL)


def models_table(report: dict[str, Any]) -> str:
    """Model x nDCG@10 with interval, recall@10, coverage."""
    metrics = report["metrics"]
    rows = ["| model | nDCG@10 | 95 % interval | recall@10 | coverage |", "|---|---|---|---|---|"]
    for model, value in metrics["ndcg_at_10"].items():
        recall, coverage = (_mean(metrics[name][model]) for name in ("recall_at_10", "coverage"))
        interval = f"{value['low']:.4f} … {value['high']:.4f}"
        rows.append(
            f"| {model} | {value['mean']:.4f} | {interval} | {recall:.4f} | {coverage:.3f} |"
        )
    return "\n".join([*rows, "", _made(report, f"{metrics['counts']['users']} test users")])


def paired_table(report: dict[str, Any]) -> str:
    """Full minus each baseline, paired by user."""
    rows = [
        "| nDCG@10, full minus … | difference | 95 % interval, paired by user |",
        "|---|---|---|",
    ]
    for model, value in report["metrics"]["paired"].items():
        rows.append(
            f"| {model} | {value['mean']:+.4f} | {value['low']:+.4f} … {value['high']:+.4f} |"
        )
    return "\n".join([*rows, "", _made(report)])


def lift_sentence(report: dict[str, Any]) -> str:
    """The lift as users really reacted, and why it retrained."""
    metrics = report["metrics"]
    lift = metrics["lift_over_popular"]
    return "\n".join(
        [
            f"**{lift['mean']:+.1%} clicks per slate over popularity** (95 % interval {lift['low']:+.1%} … "
            f"{lift['high']:+.1%}, users split by salted hash, bootstrap by user; "
            f"{lift['full_slates']} slates of the full line, {lift['popular_slates']} of popularity).",
            "",
            f"Day 1: {metrics['drift']['day_1']['decision']['because']}.",
            f"Day 2: {metrics['drift']['day_2']['decision']['because']}.",
            "",
            _made(report),
        ]
    )


def seconds_table(report: dict[str, Any]) -> str:
    """Seconds by step."""
    seconds = report["metrics"]["seconds_by_step"]
    rows = [
        "| step | seconds |",
        "|---|---|",
        *(f"| {name} | {value:.1f} |" for name, value in seconds.items()),
    ]
    return "\n".join([*rows, f"| **all** | **{report['seconds']:.0f}** |", "", _made(report)])


def load_table(report: dict[str, Any]) -> str:
    """Latency from the intended send time, then each stage beside the documents' budget."""
    metrics = report["metrics"]
    said = ", ".join(
        f"{name} {_ms(metrics[key])}"
        for name, key in (
            ("p50", "p50_ms"), ("p95", "p95_ms"), ("p99", "p99_ms"), ("p99.9", "p999_ms"),
        )
    )  # fmt: skip
    rows = [
        f"**{metrics['rate']:.0f} requests/s on one core: {said} ms**, counted from when each was due; "
        f"{metrics['errors']} errors, {_ms(metrics['cpu_ms_per_request'])} ms of CPU per request.",
        "",
        "| stage | p50 ms | p99 ms | budget of the source documents, ms |",
        "|---|---|---|---|",
    ]
    for stage, value in metrics["stages"].items():
        budget = "" if value["budget_ms"] is None else f"{value['budget_ms']:.0f}"
        times = (
            f"{value['absent']} | " if "absent" in value else
            f"{_ms(value['p50_ms'])} | {_ms(value['p99_ms'])}"
        )  # fmt: skip
        rows.append(f"| {stage} | {times} | {budget} |")
    return "\n".join([*rows, "", _made(report, metrics["placement"])])


def chaos_table(report: dict[str, Any]) -> str:
    """What was killed under load, and what the clients saw."""
    metrics = report["metrics"]
    rows = [
        "| killed | requests | 5xx | p50 ms | p99 ms | slates from rung 0 |",
        "|---|---|---|---|---|---|",
    ]
    for name, seen in metrics["phases"].items():
        slates = sum(seen["rungs"].values())
        rung_0 = seen["rungs"].get("0", 0) / slates if slates else 0.0
        rows.append(
            f"| {name} | {seen['requests']} | {seen['errors_5xx']} | {seen['p50_ms']:.0f} | "
            f"{seen['p99_ms']:.0f} | {rung_0:.0%} |"
        )
    log, flush = metrics["log"], metrics["after_flush"]
    rows += [
        "",
        f"Of {log['accepted']} events answered 202, {log['missing']} are missing from the log. Recounted "
        f"afterwards: {metrics['recount']['users']} users, {metrics['recount']['wrong']} wrong, "
        f"{metrics['recount']['missing']} missing. After Redis was emptied and filled again "
        f"({flush['rebuild_seconds']:.0f} s): {flush['recount']['wrong']} wrong, "
        f"{flush['recount']['missing']} missing.",
    ]
    return "\n".join([*rows, "", _made(report)])


def world_facts(report: dict[str, Any]) -> str:
    """Fact x family, mean over the seeds, with the range that was asked for."""
    facts = report["metrics"]["facts"]
    families = list(facts)
    rows = [f"| fact | {' | '.join(families)} | range |", "|---|" + "---|" * (len(families) + 1)]
    for name, first in facts[families[0]].items():
        values = " | ".join(
            f"{facts[family][name]['value']:.3g}{'' if facts[family][name]['ok'] else ' ✗'}"
            for family in families
        )
        rows.append(f"| {name} | {values} | {first['low']:g} … {first['high']:g} |")
    return "\n".join([*rows, "", _made(report, f"mean of {len(report['seeds'])} seeds")])


def world_switches(report: dict[str, Any]) -> str:
    """Each mechanism's fact with and without it."""
    rows = ["| without | fact | with it | without it |", "|---|---|---|---|"]
    for switch, told in report["metrics"]["switches"].items():
        on, off = (
            f"{told[way]['mean']:.3g} ({told[way]['low']:.3g} … {told[way]['high']:.3g})"
            for way in ("on", "off")
        )
        rows.append(f"| {switch} | {told['fact']} | {on} | {off} |")
    return "\n".join([*rows, "", _made(report, "lowest and highest seed in brackets")])


def world_examination(report: dict[str, Any]) -> str:
    """How far each way to tell the position bias is off."""
    rows = ["| family | click rate by position | randomised slice |", "|---|---|---|"]
    for family, told in report["metrics"]["examination"].items():
        wrong = told["error"]
        rows.append(f"| {family} | {wrong['position']:.0%} | {wrong['slice']:.0%} |")
    return "\n".join([*rows, "", _made(report, "mean deviation over places 2 to 10")])


def world_costs(report: dict[str, Any]) -> str:
    """Speed and memory."""
    metrics = report["metrics"]
    said = (
        f"{metrics['slates_per_minute']:,.0f} slates a minute on one core at scale "
        f"{metrics['scale']}, told as events and as truth; {metrics['full_peak_gib']:.2f} GiB at most "
        f"for a week of {metrics['full_week']['impressions']:,} impressions at full scale, the whole "
        "log in memory."
    )
    return "\n".join([said, "", _made(report)])


def loop_table(report: dict[str, Any]) -> str:
    """What the twins say, what an A/B test would have said, and how much an oracle would earn."""
    metrics = report["metrics"]
    rows = [
        "| world | true lift over popularity | an A/B test would have said | of what an oracle earns |",
        "|---|---|---|---|",
    ]
    for family in metrics["families"]:
        told = metrics[family]
        cells = [_over_seeds(told[name], sign) for name, sign in LOOP_COLUMNS]
        rows.append(f"| {family} | {' | '.join(cells)} |")
    asked = (
        f"{metrics['days']} days, scale {metrics['scale']}, retraining by "
        f"{metrics['retrain']}, 95 % over seeds"
    )
    return "\n".join([*rows, "", _made(report, asked)])


LOOP_COLUMNS = (("lift_true", "+"), ("lift_observed", "+"), ("share_of_oracle", ""))


def aa_sentence(report: dict[str, Any]) -> str:
    """How many intervals missed, and how many may."""
    metrics = report["metrics"]
    said = (
        f"**{metrics['missed']} of {metrics['runs']} A/A intervals miss zero** ({metrics['share']:.1%}; "
        f"a promise of 95 % allows {metrics['bound_low']:.1%} … {metrics['bound_high']:.1%})."
    )
    return "\n".join([said, "", _made(report)])


def _signed(make: Callable[[dict[str, Any]], str]) -> Callable[[dict[str, Any]], str]:
    """With a last line that says how it was made."""
    return lambda report: f"{make(report)}\n\n{_made(report)}"


FIGURES: dict[str, tuple[str, Callable[[dict[str, Any]], str]]] = {
    # name -> (report it is made from, how)
    "demo-models": ("demo", models_table),
    "demo-lift": ("demo", lift_sentence),
    "demo-seconds": ("demo", seconds_table),
    "completejourney-models": ("run-completejourney", models_table),
    "trivago-models": ("run-trivago", models_table),
    "ml-hundred-k-models": ("run-ml-100k", models_table),
    "completejourney-paired": ("run-completejourney", paired_table),
    "load": ("load", load_table),
    "compose-chaos": ("compose-chaos", chaos_table),
    "loop": ("loop", loop_table),
    "aa": ("aa", aa_sentence),
    "world-facts": ("world", world_facts),
    "world-switches": ("world", world_switches),
    "world-examination": ("world", world_examination),
    "world-costs": ("world", world_costs),
    **{name: (source, _signed(make)) for name, (source, make) in figures_features.FIGURES.items()},
}


def write_figures(page: Path, reports: Path) -> list[str]:
    """Fill the page's blocks; returns the names that were left alone, with the reason.

    Raises:
        KeyError: a block names a figure that nobody makes.
    """
    left: list[str] = []

    def filled(block: re.Match[str]) -> str:
        name = block.group(2)
        source, make = FIGURES[name]
        path = reports / f"{source}.json"
        if not path.exists():
            left.append(f"{name}: no {path.name}")
            return block.group(0)
        return f"{block.group(1)}{make(json.loads(path.read_text()))}\n{block.group(4)}"

    page.write_text(BLOCK.sub(filled, page.read_text()))
    return left


def take_screenshot(settings: Settings, workspace: Workspace, path: Path) -> None:
    """Serve the bundle, choose the first user, click one item, and keep the picture."""
    from playwright.sync_api import sync_playwright

    from pipelines.serve import local_stack

    with (
        local_stack(settings, workspace, "data") as address,
        sync_playwright() as play,
    ):
        browser = play.chromium.launch(
            executable_path="/usr/bin/chromium", args=["--no-sandbox", "--disable-gpu"]
        )
        page = browser.new_page(viewport={"width": 1180, "height": 900})
        page.goto(address, wait_until="networkidle")
        page.locator("#for-you .card").nth(2).click()
        page.wait_for_timeout(2500)
        page.screenshot(path=str(path))
        browser.close()


def _mean(value: Any) -> float:
    return float(value["mean"] if isinstance(value, dict) else value)


def _over_seeds(value: dict[str, Any] | None, sign: str) -> str:
    """Mean and interval of shares; one seed has none, and a missing arm no number at all."""
    if value is None:
        return "–"
    mean = f"{value['mean']:{sign}.0%}"
    if value["low"] is None:
        return mean
    return f"{mean} ({value['low']:{sign}.0%} … {value['high']:{sign}.0%})"


def _ms(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"


def _made(report: dict[str, Any], more: str = "") -> str:
    machine = f"{report['machine']['cores']} cores, Python {report['machine']['python']}"
    parts = [
        more,
        _seeds(report["seeds"]),
        machine,
        report["started_at"][:10],
        f"commit {report['git']}",
    ]
    said = ", ".join(part for part in parts if part)
    return f"<sub>`{report['command']}`: {said}.</sub>"


def _seeds(seeds: list[int]) -> str:
    """As few words as tell them."""
    if len(seeds) == 1:
        return f"seed {seeds[0]}"
    if len(seeds) > 2 and seeds == list(range(seeds[0], seeds[-1] + 1)):
        return f"seeds {seeds[0]} … {seeds[-1]}"
    return f"seeds {', '.join(map(str, seeds))}"


def main() -> None:
    """Fill all pages, then take the screenshot."""
    settings = Settings()
    workspace = Workspace.of(settings)
    for page in PAGES:
        for left in write_figures(page, workspace.reports):
            print(f"{page.name}: left as it was, {left}")
    if (workspace.bundles / "current").exists():
        take_screenshot(settings, workspace, SCREENSHOT)
    else:
        print("page.png: left as it was, no bundle of the world; run: make demo")


if __name__ == "__main__":
    main()
