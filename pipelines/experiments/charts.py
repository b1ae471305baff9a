"""The few kinds of chart that experiments draw."""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from monitoring.estimate import Estimate
from pipelines import drawing
from pipelines.drawing import COLOURS
from pipelines.experiments.outcome import Outcome

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SIZE_INCHES = (7.2, 3.2)
LONG = 10
"""Letters of a tick's label; longer ones are turned."""

LONG_TOGETHER = 30
"""Letters that fit below one of three panels."""

LEGEND_LETTERS = 80
"""That fit beside each other below the axes."""


def svg(draw: Callable[[Any, Outcome], None], outcome: Outcome) -> str:
    """The chart; it names the run that it was drawn from."""
    return drawing.svg(lambda figure: draw(figure, outcome), SIZE_INCHES, outcome.identity)


def bars_by_family(figure: "Figure", outcome: Outcome, names: Mapping[str, str], unit: str) -> None:
    """One group of bars per family, one bar per measurement, its interval as a whisker.

    Args:
        figure: to draw on.
        outcome: whose `metrics` are drawn.
        names: measurement -> what the legend calls it.
        unit: of the vertical axis.
    """
    axes: Axes = figure.subplots()
    families, width = list(outcome.metrics), 0.8 / len(names)
    for number, (name, told) in enumerate(names.items()):
        at = [place + (number - (len(names) - 1) / 2) * width for place in range(len(families))]
        values = [outcome.metrics[family][name] for family in families]
        axes.bar(
            at,
            [value.mean for value in values],
            width * 0.92,
            yerr=[_half(value) for value in values],
            label=told,
            color=COLOURS[number % len(COLOURS)],
            error_kw={"lw": 1},
        )
    axes.set_xticks(range(len(families)), families)
    axes.set_ylabel(unit)
    axes.axhline(0, color="#888888", lw=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    _legend(figure, axes)


def lines_by_family(
    figure: "Figure",
    outcome: Outcome,
    names: Mapping[str, str],
    across: Sequence[float] | Sequence[str],
    axis: str,
) -> None:
    """One panel per family, one line per curve.

    Args:
        figure: to draw on.
        outcome: whose `curves` are drawn.
        names: curve -> what the legend calls it.
        across: horizontal positions, as many as each curve has points; words stand evenly.
        axis: what they are.
    """
    families = list(outcome.curves)
    letters = [len(str(place)) for place in across]
    long = max(letters) > LONG or sum(letters) > LONG_TOGETHER
    turned: Any = {"rotation": 60, "ha": "right", "fontsize": 7} if long else {}
    panels = figure.subplots(1, len(families), sharey=True, squeeze=False)[0]
    for axes, family in zip(panels, families, strict=True):
        for number, (name, told) in enumerate(names.items()):
            colour = COLOURS[number % len(COLOURS)]
            axes.plot(across, outcome.curves[family][name], label=told, color=colour, marker=".")
        axes.set_title(family, fontsize=9)
        axes.set_xticks(across, [str(place) for place in across], **turned)
        if axes.get_ylim()[0] < 0:
            axes.axhline(0, color="#888888", lw=0.6)
        axes.spines[["top", "right"]].set_visible(False)
    panels[len(panels) // 2].set_xlabel(axis, fontsize=9)
    _legend(figure, panels[0])


def places_in_range(figure: "Figure", outcome: Outcome) -> None:
    """One row per curve, one mark per family: where it stands between 0 (low end) and 1 (high end).

    Args:
        figure: to draw on.
        outcome: each of whose curves is one number.
    """
    labels = list(next(iter(outcome.curves.values())))
    figure.set_size_inches(SIZE_INCHES[0], 0.4 + 0.24 * len(labels))
    axes: Axes = figure.subplots()
    rows = range(len(labels), 0, -1)
    axes.axvspan(0, 1, color="#e8efe4", lw=0)
    for number, (family, curves) in enumerate(outcome.curves.items()):
        at = [min(max(place, -0.5), 1.5) for (place,) in curves.values()]
        axes.plot(at, rows, ls="", marker="ox^sd"[number % 5], label=family, color=COLOURS[number])
    axes.set_yticks(rows, labels, fontsize=7)
    axes.set_xticks([0, 1], ["low end", "high end"])
    axes.set_xlim(-0.6, 1.6)
    axes.spines[["top", "right", "left"]].set_visible(False)
    _legend(figure, axes)


def _legend(figure: "Figure", axes: "Axes") -> None:
    handles, labels = axes.get_legend_handles_labels()
    across = max(1, LEGEND_LETTERS // max(map(len, labels)))
    where: Any = {"loc": "outside lower center", "ncols": across, "fontsize": 8}
    figure.legend(handles, labels, frameon=False, **where)


def _half(value: Estimate) -> float:
    return 0.0 if value.high is None else value.high - value.mean
