"""E-47a: whether the worlds look like published logs, before anything is concluded from them."""

from pipelines.experiments.card import Card, Claim, Direction, Measured, Setting, Tier
from pipelines.experiments.world import FAMILIES, RANGES, facts

CARD = Card(
    number="E-47a",
    title="The worlds look like published logs",
    question="Why should anybody believe your simulator?",
    sentence=(
        "Nobody should believe it; but its parameters were set by what published logs look like and by "
        "nothing else, and every one of those facts is measured again."
    ),
    varied="the world",
    measured=(
        f"{len(RANGES)} stylised facts, each with its published range; the ratio of clicks between first "
        "and last place beside the ratio of being looked at"
    ),
    claims=(
        Claim(
            "facts_held",
            "the facts lie in their ranges (share of all facts)",
            Direction.more,
            0.95,
            (0.95, 1.0),
            "the ranges and their sources stand beside each fact in pipelines/world/facts.py",
        ),
    ),
    observed="click_ratio",
    true="look_ratio",
    change_our_mind="a public log with random exposure whose moments lie outside these ranges",
    tier=Tier.S,
    families=FAMILIES,
    scale="small",
)


def measure(setting: Setting, seed: int) -> Measured:
    """Every fact of one world; its place in its range for the chart (0 = low end, 1 = high end)."""
    found, clicks, looks = facts(setting, seed)
    held = [low <= found[name] <= high for name, (low, high, _) in RANGES.items()]
    places = {name: [(found[name] - low) / (high - low)] for name, (low, high, _) in RANGES.items()}
    values = {
        **found,
        "facts_held": sum(held) / len(held),
        "click_ratio": float(clicks[0] / clicks[-1]),
        "look_ratio": float(looks[0] / looks[-1]),
    }
    return Measured(values, curves=places)
