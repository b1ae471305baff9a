"""The charts of the loop's page: SVG that takes its colours from the page, light or dark.

Matplotlib knows no CSS variables, so each colour that is drawn is a word of INK, and becomes the
variable of that name when the chart is put into the page.
"""

import math
import re
from collections.abc import Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING, Any

from pipelines import drawing
from pipelines.loop.answer import Measure, Metrics

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK = {
    "ink": "#16181d", "quiet": "#626a7a", "line": "#e3e3de", "card": "#fffffe",
    "popular": "#b3701a", "full": "#4f46e5", "oracle": "#0b7a4b",
}  # fmt: skip
"""Name of a variable in the page's style -> what it is in the light."""

MARKS = {"popular": "s", "full": "o", "oracle": "^"}
WIDE, NARROW, SMALL = (5.35, 2.9), (3.4, 2.7), (3.4, 1.9)
"""Inches; a letter is as large in each where the page shows it."""

STYLE: dict[str, Any] = {
    "font_size": 8, "text_color": INK["ink"], "axes_labelcolor": INK["quiet"],
    "axes_edgecolor": INK["line"], "xtick_color": INK["line"], "ytick_color": INK["line"],
    "xtick_labelcolor": INK["quiet"], "ytick_labelcolor": INK["quiet"], "grid_color": INK["line"],
    "axes_spines.top": False, "axes_spines.right": False, "savefig_transparent": True,
}  # fmt: skip


def forest(metrics: Metrics, size: tuple[float, float], label: str) -> str:
    """Lift as it is true and as a test would have told it, and the share of the oracle, by family."""
    families = [f for f in metrics["families"] if metrics[f]["lift_true"]]
    narrow = size == NARROW
    tall = (0.55 + 0.62 * len(families)) * (1.6 if narrow else 1)

    def draw(figure: "Figure") -> None:
        shape: Any = (
            {"height_ratios": [1.6, 1]} if narrow else {"width_ratios": [1.7, 1], "wspace": 0.12}
        )
        panels: Any = figure.subplots(
            2 if narrow else 1, 1 if narrow else 2, sharey=True, gridspec_kw=shape
        )
        _lifts(panels[0], metrics, families)
        _shares(panels[1], metrics, families)
        for axes in panels:
            axes.set_yticks(range(len(families)), families)
            axes.set_ylim(len(families) - 0.45, -0.55)
            axes.tick_params(axis="y", length=0, labelcolor=INK["ink"], labelleft=True)
            axes.spines["left"].set_visible(False)
        if not narrow:
            panels[1].tick_params(axis="y", labelleft=False)

    return inline(drawing.svg(draw, (size[0] if narrow else 2 * size[0], tall), **STYLE), label)


def utility(
    of_family: Metrics, seeds: Sequence[int], days: int, size: tuple[float, float], label: str
) -> str:
    """Expected clicks per slate by day, each arm's band over seeds; below, what the nights changed."""
    nights = any(morning["retrained"] for morning in of_family["mornings"])

    def draw(figure: "Figure") -> None:
        rows = min(len(seeds), 12)
        shape: Any = {"height_ratios": [1, 0.06 * rows + 0.04]} if nights else {}
        panels = figure.subplots(1 + nights, 1, sharex=True, squeeze=False, gridspec_kw=shape)[:, 0]
        arms = {arm: m["utility_per_slate"] for arm, m in of_family["arms"].items()}
        _lines(panels[0], arms, days, limits=(0, math.inf))
        panels[0].set_ylabel("expected clicks per slate")
        if nights:
            _nights(panels[1], of_family["mornings"], seeds, days)
        panels[-1].set_xlabel("day")

    return inline(drawing.svg(draw, size, **STYLE), label)


def lift_by_day(of_family: Metrics, days: int, size: tuple[float, float], label: str) -> str:
    """What full is above popular, day by day, paired by seed; the oracle would dwarf it."""

    def draw(figure: "Figure") -> None:
        axes: Axes = figure.subplots()
        _lines(axes, {"full": of_family["lift_by_day"]["full"]}, days, percent=True)
        axes.axhline(0, color=INK["popular"], lw=1)
        axes.set_ylabel("above popular (paired)")
        axes.set_xlabel("day")

    return inline(drawing.svg(draw, size, **STYLE), label)


def measure(of_family: Metrics, name: str, told: Measure, days: int, label: str) -> str:
    """One measure by day, all arms."""

    def draw(figure: "Figure") -> None:
        axes: Axes = figure.subplots()
        arms = {arm: m[name] for arm, m in of_family["arms"].items()}
        _lines(axes, arms, days, percent=told.percent, limits=(0, told.most))

    return inline(drawing.svg(draw, SMALL, **STYLE), label)


def inline(svg: str, label: str) -> str:
    """An SVG file as an element of a page: its colours the page's, no id that another chart has too.

    Args:
        svg: text of the file.
        label: what a screen reader says.
    """
    body = svg[svg.index("<svg") :]
    body = re.sub(r"<metadata>.*?</metadata>", "", body, flags=re.S)
    body = re.sub(r'\sxmlns(:\w+)?="[^"]*"', "", body).replace("xlink:href", "href")
    wanted = set(re.findall(r"#([\w-]+)\)|href=\"#([\w-]+)\"", body))
    kept = {name for pair in wanted for name in pair if name}
    # Equal names are equal marks: they are hashes of what they name.
    body = re.sub(r'\sid="([^"]*)"', lambda m: m[0] if m[1] in kept else "", body)
    body = re.sub(r'<svg ([^>]*?)width="[^"]*" ?', r"<svg \1", body, count=1)
    body = re.sub(r'<svg ([^>]*?)height="[^"]*" ?', r"<svg \1", body, count=1)
    for name, colour in INK.items():
        body = body.replace(colour, f"var(--{name})")
    body = re.sub(r"font: ([\d.]+)px [^;\"]*", r"font-size: \1px", body)
    return body.replace("<svg ", f'<svg role="img" aria-label="{escape(label)}" ', 1)


def _lifts(axes: "Axes", metrics: Metrics, families: Sequence[str]) -> None:
    from matplotlib.ticker import PercentFormatter

    for row, family in enumerate(families):
        for name, mark, lower in (("lift_true", "D", -0.16), ("lift_observed", "o", 0.16)):
            found = metrics[family][name]
            if found:
                hollow = name == "lift_observed"
                _estimate(
                    axes, found, row + lower, mark, INK["quiet" if hollow else "full"], hollow
                )
    axes.axvline(0, color=INK["quiet"], lw=0.8)
    axes.grid(axis="x", lw=0.6)
    axes.set_axisbelow(True)
    low, high = axes.get_xlim()
    axes.set_xlim(min(low, 0), max(high, 0))
    axes.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axes.set_xlabel("full above popular")


def _shares(axes: "Axes", metrics: Metrics, families: Sequence[str]) -> None:
    from matplotlib.ticker import PercentFormatter

    for row, family in enumerate(families):
        if found := metrics[family]["share_of_oracle"]:
            _estimate(axes, found, row, "D", INK["oracle"], False)
    axes.grid(axis="x", lw=0.6)
    axes.set_axisbelow(True)
    axes.set_xlim(0, max(axes.get_xlim()[1], 1.03))
    axes.axvline(1, color=INK["oracle"], lw=1, ls="--")
    axes.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axes.set_xlabel("full, of the oracle")


def _estimate(
    axes: "Axes", found: Metrics, at: float, mark: str, colour: str, hollow: bool
) -> None:
    """Mean, whisker, and a dot for each seed."""
    seeds = list(found["per_seed"].values())
    axes.plot(seeds, [at] * len(seeds), ls="", marker="|", ms=5, mew=0.8, color=colour, alpha=0.55)
    if found["low"] is not None:
        axes.plot([found["low"], found["high"]], [at, at], color=colour, lw=1.6)
    face = INK["card"] if hollow else colour
    axes.plot([found["mean"]], [at], marker=mark, ms=5.5, color=colour, mfc=face, mew=1.2)


def _lines(
    axes: "Axes",
    arms: Mapping[str, Sequence[Metrics]],
    days: int,
    percent: bool = False,
    limits: tuple[float, float] = (-math.inf, math.inf),
) -> None:
    """One line per arm with its band. The frame is one line's band; of several lines, the lines alone.

    Args:
        axes: to draw on.
        arms: arm -> points by day.
        days: of the axis.
        percent: of the labels.
        limits: what no value can leave; the frame of several lines ends there, unless lines do.
    """
    from matplotlib.ticker import MaxNLocator, PercentFormatter

    means = []
    for arm, points in arms.items():
        known = [point for point in points if point["mean"] is not None]
        at, mean = [p["day"] for p in known], [p["mean"] for p in known]
        means += mean
        colour = INK.get(arm, INK["quiet"])
        style: Any = {"ls": "--" if arm == "oracle" else "-", "marker": MARKS.get(arm, "o")}
        axes.plot(at, mean, color=colour, ms=3 if days <= 31 else 0, lw=1.5, **style)
        sure = [p for p in known if p["low"] is not None]
        low, high = [p["low"] for p in sure], [p["high"] for p in sure]
        axes.fill_between([p["day"] for p in sure], low, high, color=colour, alpha=0.13, lw=0)
    if means and len(arms) > 1:
        bottom, top = axes.get_ylim()
        room = max(1.2 * (max(means) - min(means)), 0.15 * max(map(abs, means))) or 1.0
        axes.set_ylim(
            min(max(bottom, min(means) - room, limits[0]), min(means)),
            max(min(top, max(means) + room, 1.02 * limits[1]), max(means)),
        )
    axes.set_xlim(-0.4, days - 0.6)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=10, min_n_ticks=1))
    axes.yaxis.set_major_locator(MaxNLocator(nbins=5))
    axes.grid(axis="y", lw=0.6)
    axes.set_axisbelow(True)
    if percent:
        axes.yaxis.set_major_formatter(PercentFormatter(1))


def _nights(axes: "Axes", mornings: Sequence[Metrics], seeds: Sequence[int], days: int) -> None:
    """A row per seed: full where a new model was promoted, hollow where the gate refused it."""
    rows = {seed: row for row, seed in enumerate(seeds)}
    for promoted in (True, False):
        told = [m for m in mornings if m["retrained"] and m["promoted"] == promoted]
        face = INK["full"] if promoted else "none"
        axes.plot(
            [m["day"] for m in told], [rows[m["seed"]] for m in told],
            ls="", marker="o", ms=3.6, color=INK["full"], mfc=face, mew=0.8,
        )  # fmt: skip
    axes.set_ylim(len(seeds) - 0.4, -0.6)
    some = list(seeds)[:: max(1, len(seeds) // 6)]
    axes.set_yticks([rows[seed] for seed in some], [f"seed {seed}" for seed in some], fontsize=6)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
