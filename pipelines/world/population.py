"""Draws a world: items with quality and style, users with tastes, and newcomers of another kind."""

from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np

from features.errors import ContractError
from pipelines.world.titles import CATEGORIES, titles
from pipelines.world.truth import Items, Truth, Users

STYLE_WIDTH = 6
"""Hidden dimensions of style; models are not told, and are not as wide."""

LOCATIONS = ("Northport", "Easthaven", "Southgate", "Westbridge", "Midtown", "Lakeside")
LOCATION_SHARES = (0.3, 0.22, 0.18, 0.14, 0.1, 0.06)
DEVICES = ("mobile", "desktop", "tablet")
DEVICE_SHARES = (0.58, 0.32, 0.1)
NEW_LOCATION, NEW_DEVICE = "Harbour District", "smart-tv"
"""Where the newcomers live and what they use: values that no history has."""

NEW_CATEGORIES = ("Beauty", "Furniture", "Audio")
"""What the newcomers like; NEW_BUDGET e-folds above what the others pay."""
NEW_BUDGET = 0.8

ACTIVITY_SIGMA = 1.2
"""Of the log-normal activity: a tenth of the users makes about half of the visits."""

FASHION_SIGMA, REGIONAL_SIGMA = 0.7, 0.5
"""Log-normal spread of what everybody likes, and of what each place likes besides."""

TASTE_ALPHA, TASTE_TRACE = 3.0, 0.05
"""Dirichlet weight of the liked categories, and what is left for the others."""

USUAL_PRICE = (12, 35, 30, 80, 45, 25, 28, 95, 40, 90, 50, 110, 60, 45, 140, 18, 10, 32, 14, 55)
"""Typical price per category, in the order of titles.CATEGORIES."""

SECOND_US = 1_000_000
DAY_US = 86_400 * SECOND_US


@dataclass(frozen=True, slots=True)
class Scale:
    """How large a world is."""

    users: int
    items: int
    days: int
    slates_a_day: int


SCALES = {
    "tiny": Scale(300, 200, 14, 240),
    "small": Scale(2_000, 1_000, 28, 1_200),
    "full": Scale(30_000, 20_000, 60, 5_000),
}


def populate(scale: str, seed: int, end: datetime) -> Truth:
    """Draw everything that is so before anybody visits.

    Raises:
        ContractError: an unknown scale.
    """
    if scale not in SCALES:
        raise ContractError(f"no scale {scale!r}; choose one of {', '.join(SCALES)}")
    size = SCALES[scale]
    start_us = to_us(end - timedelta(days=size.days))
    rng = np.random.default_rng([seed, 1])
    items = _items(size, start_us, rng)
    newcomers = max(10, size.users // 4)
    users = _users(size.users + newcomers, newcomers, size.days, start_us, rng)
    return Truth(items, users, scale, seed, end)


def to_us(moment: datetime) -> int:
    """Microseconds since 1970."""
    return round(moment.timestamp() * SECOND_US)


def _items(size: Scale, start_us: int, rng: np.random.Generator) -> Items:
    n, names = size.items, list(CATEGORIES)
    category = rng.choice(len(names), n, p=_shares(len(names), 0.5, rng))
    kind = rng.integers(0, 5, n)
    centre = rng.normal(0, 1, (len(names), 5, STYLE_WIDTH))
    style = 0.8 * centre[category, kind] + 0.6 * rng.normal(0, 1, (n, STYLE_WIDTH))
    level = rng.normal(0, 0.5, n)
    price = np.round(np.array(USUAL_PRICE)[category] * np.exp(level), 2)
    age_days = rng.uniform(0, 400, n)
    fresh = rng.random(n) < 0.08  # launched while history is logged
    age_days = np.where(fresh, -rng.uniform(0, 0.9 * size.days, n), age_days)
    kinds = np.array([CATEGORIES[names[c]][k] for c, k in zip(category, kind, strict=True)])
    return Items(
        ids=np.array([f"i{number:05d}" for number in range(n)]),
        titles=np.array(titles(kinds, rng)),
        category=category,
        kind=kind,
        price=price,
        launched_at=start_us - (age_days * 86_400).astype(np.int64) * SECOND_US,
        quality=rng.normal(0, 1, n),
        style=style,
        price_level=level,
    )


def _users(n: int, newcomers: int, days: int, start_us: int, rng: np.random.Generator) -> Users:
    """`n` users, the last `newcomers` of them the other segment, which nobody has seen yet."""
    segment = (np.arange(n) >= n - newcomers).astype(int)
    is_new = segment == 1
    age_days = np.where(
        rng.random(n) < 0.8, rng.uniform(0, 500, n), -rng.uniform(0, 0.95 * days, n)
    )
    style = rng.normal(0, 1, (n, STYLE_WIDTH))
    location = np.where(is_new, NEW_LOCATION, rng.choice(LOCATIONS, n, p=LOCATION_SHARES))
    return Users(
        ids=np.array([f"u{number:06d}" for number in range(n)]),
        joined_at=np.where(
            is_new,
            start_us + days * DAY_US,
            start_us - (age_days * 86_400).astype(np.int64) * SECOND_US,
        ),
        location=location,
        device=np.where(is_new, NEW_DEVICE, rng.choice(DEVICES, n, p=DEVICE_SHARES)),
        taste=_tastes(location, is_new, rng),
        style=style / np.linalg.norm(style, axis=1, keepdims=True),
        budget_level=rng.normal(0, 0.4, n) + NEW_BUDGET * is_new,
        activity=np.where(is_new, 0.0, rng.lognormal(0, ACTIVITY_SIGMA, n)),
        segment=segment,
    )


def _tastes(location: np.ndarray, is_new: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """(U, C): two to four categories each, the favourite at 1, a trace of all others."""
    n, names = len(location), list(CATEGORIES)
    everywhere = rng.lognormal(0, FASHION_SIGMA, len(names))
    regional = everywhere * rng.lognormal(0, REGIONAL_SIGMA, (len(LOCATIONS), len(names)))
    where = np.array([LOCATIONS.index(place) if place in LOCATIONS else 0 for place in location])
    niche = np.array([float(name in NEW_CATEGORIES) for name in names])
    chances = np.where(is_new[:, None], niche + 1e-9, regional[where])
    keys = np.log(chances) + rng.gumbel(size=chances.shape)
    liked = np.argsort(-keys, axis=1)[:, :4]  # a draw without replacement by `chances`
    weights = rng.dirichlet([TASTE_ALPHA] * 4, n)
    weights[:, 2:] *= np.arange(2, 4) < rng.integers(2, 5, n)[:, None]
    taste = np.zeros((n, len(names)))
    np.put_along_axis(taste, liked, weights, axis=1)
    return np.maximum(taste / taste.max(axis=1, keepdims=True), TASTE_TRACE)


def _shares(count: int, spread: float, rng: np.random.Generator) -> np.ndarray:
    weights = rng.lognormal(0, spread, count)
    shares: np.ndarray = weights / weights.sum()
    return shares
