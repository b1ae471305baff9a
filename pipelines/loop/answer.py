"""What a loop found, in words and cells: the page and the terminal say the same."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

Metrics = Mapping[str, Any]

HEADINGS = ("world", "true lift", "lift as an A/B test shows it", "share of the oracle", "seeds")


class Measure(NamedTuple):
    """How one measure is told."""

    title: str
    means: str
    true: bool  # only the simulation's truth knows it; a dashboard shows the others
    percent: bool = False
    most: float = math.inf  # no value can be above


MEASURES = {
    "utility_per_slate": Measure("Expected clicks per slate", "chance of a click, summed", True),
    "clicks_per_slate": Measure("Clicks per slate", "as logged", False),
    "satisfaction_per_click": Measure(
        "Satisfaction per click", "0 = regretted, 1 = just right", True, most=1
    ),
    "purchases_per_slate": Measure(
        "Purchases per slate", "counted at the click, whenever they come", False
    ),
    "revenue_per_slate": Measure("Revenue per slate", "returns taken off", False),
    "coverage": Measure("Coverage", "share of items on sale shown that day", False, True, 1),
    "gini": Measure("Gini of exposure", "0 = all items alike, 1 = one has all", False, most=1),
    "new_share": Measure(
        "New items", "share of places; launched up to 14 days ago", False, True, 1
    ),
    "slates": Measure("Slates a day", "who is satisfied comes back", False),
}


def answers(metrics: Metrics) -> list[tuple[str, ...]]:
    """One row per family, in the columns HEADINGS."""
    return [
        (
            family,
            lift(metrics[family]["lift_true"]),
            lift(metrics[family]["lift_observed"]),
            share(metrics[family]["share_of_oracle"]),
            str(len(metrics[family]["seeds"])),
        )
        for family in metrics["families"]
    ]


def headline(metrics: Metrics) -> str:
    """The answer in a sentence."""
    lifts = [f["lift_true"] for name in metrics["families"] if (f := metrics[name])["lift_true"]]
    if not lifts:
        return "No world has a finished seed with both the full line and popularity yet."
    worlds = "world" if len(lifts) == 1 else "worlds"
    if any(found["low"] is None for found in lifts):
        above = sum(found["mean"] > 0 for found in lifts)
        return (
            f"In {above} of {len(lifts)} {worlds} the full line earned more than popularity; "
            "with one seed that is a single draw."
        )
    above = sum(found["low"] > 0 for found in lifts)
    below = sum(found["high"] < 0 for found in lifts)
    some = f"all {above}" if above == len(lifts) > 1 else f"{above} of {len(lifts)}"
    told = f"In {some} {worlds} the full line earns more than popularity, the whole interval above zero"
    return f"{told}; in {below} it earns less." if below else f"{told}."


def unfinished(metrics: Metrics) -> str | None:
    """Which twins are missing, or None."""
    worlds: dict[str, list[str]] = {}
    for twin in metrics["unfinished"]:
        told = f"{twin['arm']} {twin['days']} of {metrics['days']} days"
        worlds.setdefault(f"{twin['family']}-{twin['seed']}", []).append(
            told if twin["days"] else ""
        )
    if not worlds:
        return None
    named = "; ".join(
        f"{world} ({', '.join(filter(None, arms)) or 'not begun'})"
        for world, arms in worlds.items()
    )
    return f"Not finished, and left out of every number: {named}. Go on with --resume."


def nights(mornings: Sequence[Metrics]) -> str:
    """How often full learned, and what came of it."""
    retrained = [morning for morning in mornings if morning["retrained"]]
    promoted = sum(bool(morning["promoted"]) for morning in retrained)
    return (
        f"{len(mornings)} nights: {len(retrained)} retrainings, {promoted} promoted, "
        f"{len(retrained) - promoted} refused"
    )


def lift(found: Metrics | None) -> str:
    """With its sign, where there is something.

    Examples:
        >>> lift({"mean": 0.41, "low": -0.0812, "high": 0.9})
        '+41.0 % (−8.1 … +90.0)'
    """
    return _told(found, "+")


def share(found: Metrics | None) -> str:
    """Without a sign.

    Examples:
        >>> share({"mean": 0.74, "low": None, "high": None})
        '74.0 % (one seed)'
    """
    return _told(found, "")


def level(found: Metrics | None, percent: bool) -> str:
    """A number of an arm."""
    if found is None:
        return "–"
    mean = found["mean"]
    if percent:
        return f"{100 * mean:.3g} %"
    return f"{mean:,.0f}" if mean >= 100 else f"{mean:.3g}"


def one_test(observed: Metrics | None) -> str:
    """Half the width of one test's interval, on average."""
    if observed is None:
        return "–"
    halves = [(high - low) / 2 for low, high in observed["within"].values()]
    return f"± {100 * sum(halves) / len(halves):.1f}"


def held(observed: Metrics | None) -> str:
    """How many tests' intervals hold the truth."""
    if observed is None:
        return "–"
    tests = len(observed["within"])
    return f"{round(observed['covered'] * tests)} of {tests}"


def _told(found: Metrics | None, sign: str) -> str:
    if found is None:
        return "–"
    digits = 0 if abs(found["mean"]) >= 1 else 1
    mean, low, high = (
        None if found[name] is None else f"{100 * found[name]:{sign}.{digits}f}".replace("-", "−")
        for name in ("mean", "low", "high")
    )
    return f"{mean} % (one seed)" if low is None else f"{mean} % ({low} … {high})"
