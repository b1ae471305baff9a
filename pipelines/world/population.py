"""Draws a world: items with a life, users with tastes and habits, newcomers of another kind.

Everything here is so before anybody visits, also who will join and what will be launched after the
logged past. It is drawn once and in order, so a sequential generator is enough here; visits and
responses use pipelines/world/draws.py.
"""

from datetime import datetime, timedelta

import numpy as np

from pipelines.world.config import WorldConfig
from pipelines.world.titles import CATEGORIES, titles
from pipelines.world.truth import NEVER_US, Items, Truth, Users

STYLE_WIDTH = 7
"""Hidden dimensions of style; models are not told, and are not as wide."""

KINDS = 5
"""Per category."""

ITEMS_PER_CREATOR = 12
CREATOR_QUALITY, CREATOR_STYLE = 0.5, 0.3
"""Share of the standard deviation that all items of a creator have in common."""

LOCATIONS = ("Northport", "Easthaven", "Southgate", "Westbridge", "Midtown", "Lakeside")
LOCATION_SHARES = (0.3, 0.22, 0.18, 0.14, 0.1, 0.06)
DEVICES = ("mobile", "desktop", "tablet")
DEVICE_SHARES = (0.58, 0.32, 0.1)
NEW_LOCATION, NEW_DEVICE = "Harbour District", "smart-tv"
"""Where the newcomers live and what they use: values that no history has."""

NEW_CATEGORIES = ("Beauty", "Furniture", "Audio")
"""What the newcomers like; NEW_BUDGET e-folds above what the others pay."""
NEW_BUDGET = 0.8

NEWCOMERS = 0.25
"""Users of the other segment that stand ready, as a share of all."""

FASHION_SIGMA, REGIONAL_SIGMA = 0.7, 0.5
"""Log-normal spread of what everybody likes, and of what each place likes besides."""

TASTE_TRACE = 0.05
"""What is left of a taste for what a user does not like."""

PRICE_SIGMA, BUDGET_SIGMA = 0.6, 0.6
"""Log-normal spread of prices within a category, and of what users are at home with."""

USUAL_PRICE = (12, 35, 30, 80, 45, 25, 28, 95, 40, 90, 50, 110, 60, 45, 140, 18, 10, 32, 14, 55)
"""Typical price per category, in the order of titles.CATEGORIES."""

OLDEST_DAYS = 400
"""Age of the oldest items and accounts when logging begins."""

HALF_LIFE_SPREAD = 3.0
"""The fastest category ages this many times as fast as the median, the slowest so much slower."""

HABIT_HOURS = 2
"""Users' days are shifted by up to this many hours."""

SECOND_US = 1_000_000
DAY_US = 86_400 * SECOND_US


def populate(config: WorldConfig, end: datetime) -> Truth:
    """Draw everything that is so before anybody visits."""
    start_us = to_us(end - timedelta(days=config.days))
    rng = np.random.default_rng([config.seed, 1])
    return Truth(_items(config, start_us, rng), _users(config, start_us, rng), config, end)


def to_us(moment: datetime) -> int:
    """Microseconds since 1970."""
    return round(moment.timestamp() * SECOND_US)


def _items(config: WorldConfig, start_us: int, rng: np.random.Generator) -> Items:
    launched_at, retires_at = _lives(config, start_us, rng)
    n, names = len(launched_at), list(CATEGORIES)
    category = rng.choice(len(names), n, p=_shares(len(names), 0.5, rng))
    kind = rng.integers(0, KINDS, n)
    told = np.where(rng.random(n) < config.mislabelled, rng.integers(0, KINDS, n), kind)
    creators = n // ITEMS_PER_CREATOR + 1
    creator = rng.choice(creators, n, p=_shares(creators, 1.0, rng))
    centre = rng.normal(0, 1, (len(names), KINDS, STYLE_WIDTH))
    manner = rng.normal(0, CREATOR_STYLE, (creators, STYLE_WIDTH))
    style = 0.8 * centre[category, kind] + manner[creator] + 0.5 * rng.normal(size=(n, STYLE_WIDTH))
    quality = _mixed(CREATOR_QUALITY, rng.normal(size=creators)[creator], rng.normal(size=n))
    level = rng.normal(0, PRICE_SIGMA, n)
    speed = HALF_LIFE_SPREAD ** np.linspace(-1, 1, len(names))[rng.permutation(len(names))]
    kinds = np.array([CATEGORIES[names[c]][k] for c, k in zip(category, told, strict=True)])
    return Items(
        ids=np.array([f"i{number:05d}" for number in range(n)]),
        titles=np.array(titles(kinds, rng)),
        category=category,
        told_kind=told,
        price=np.round(np.array(USUAL_PRICE)[category] * np.exp(level), 2),
        launched_at=launched_at,
        retires_at=retires_at,
        kind=kind,
        creator=creator,
        quality=quality,
        appeal=_mixed(config.appeal_quality, quality, rng.normal(size=n)),
        style=style,
        price_level=level,
        half_life_days=config.half_life_days * speed[category],
        season_peak=rng.uniform(0, 365, len(names))[category],
        hit_at=_hits(config, n, start_us, rng),
        stock=rng.exponential(config.stock or 0.0, n).round()
        if config.stock
        else np.full(n, np.inf),
    )


def _lives(
    config: WorldConfig, start_us: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Launch and end of each item: births and deaths at one rate, so the shop keeps its size."""
    rate = config.launches if config.on("lifecycle") else 0.0
    fresh = round(config.items * (1 - 1 / (1 + rate * config.days)))
    later = round(config.items * rate * config.horizon_days)
    born = np.concatenate(
        [
            -rng.uniform(0, OLDEST_DAYS, config.items - fresh),
            np.sort(rng.uniform(0, config.days, fresh)),
            np.sort(config.days + rng.uniform(0, config.horizon_days, later)),
        ]
    )
    launched_at = start_us + (born * 86_400).astype(np.int64) * SECOND_US
    if not rate:
        return launched_at, np.full(len(born), NEVER_US)
    left_days = rng.exponential(1 / rate, len(born))
    retires_at = (
        np.maximum(launched_at, start_us) + (left_days * 86_400).astype(np.int64) * SECOND_US
    )
    return launched_at, retires_at


def _hits(config: WorldConfig, n: int, start_us: int, rng: np.random.Generator) -> np.ndarray:
    """(N,) µs at which an item becomes a hit; NEVER_US for nearly all."""
    days = config.days + config.horizon_days
    chance = config.hits * days / 7 if config.on("hits") else 0.0
    at = start_us + (rng.uniform(0, days, n) * 86_400).astype(np.int64) * SECOND_US
    return np.where(rng.random(n) < chance, at, NEVER_US)


def _users(config: WorldConfig, start_us: int, rng: np.random.Generator) -> Users:
    """Who joined before and while the past is logged, who will join, and the other segment."""
    rate = config.arrivals if config.on("arrivals") else 0.0
    fresh = round(config.users * (1 - 1 / (1 + rate * config.days)))
    later = round(config.users * rate * config.horizon_days)
    newcomers = max(10, round(config.users * NEWCOMERS))
    joined = np.concatenate(
        [
            -rng.uniform(0, OLDEST_DAYS, config.users - fresh),
            np.sort(rng.uniform(0, config.days, fresh)),
            np.sort(config.days + rng.uniform(0, config.horizon_days, later)),
            np.full(newcomers, float(config.days)),
        ]
    )
    n = len(joined)
    segment = (np.arange(n) >= n - newcomers).astype(int)
    is_new = segment == 1
    minority = ~is_new & (rng.random(n) < config.minority) & config.on("minority")
    location = np.where(is_new, NEW_LOCATION, rng.choice(LOCATIONS, n, p=LOCATION_SHARES))
    style = rng.normal(0, 1, (n, STYLE_WIDTH))
    trust = (
        rng.beta(4 * config.trust_mean, 4 - 4 * config.trust_mean, n)
        if 0 < config.trust_mean < 1
        else np.full(n, config.trust_mean)
    )
    hours = rng.integers(-HABIT_HOURS, HABIT_HOURS + 1, n)
    bot = ~is_new & (rng.random(n) < config.bots) & config.on("bots")
    return Users(
        ids=np.array([f"u{number:06d}" for number in range(n)]),
        joined_at=start_us + (joined * 86_400).astype(np.int64) * SECOND_US,
        location=location,
        device=np.where(is_new, NEW_DEVICE, rng.choice(DEVICES, n, p=DEVICE_SHARES)),
        taste=_tastes(config.taste_alpha, location, is_new, minority, rng),
        style=style / np.linalg.norm(style, axis=1, keepdims=True),
        budget_level=rng.normal(0, BUDGET_SIGMA, n) + NEW_BUDGET * is_new,
        activity=rng.lognormal(0, config.activity_sigma, n),
        generosity=rng.normal(0, config.generosity_sigma, n),
        trust=trust,
        boredom=rng.lognormal(0, 0.4, n),
        curiosity=rng.lognormal(0, 0.5, n),
        patience=rng.lognormal(0, 0.5, n),
        hour_shift=hours if config.on("habits") else np.zeros(n, int),
        segment=segment,
        minority=minority,
        bot=bot,
    )


def _tastes(
    alpha: float,
    location: np.ndarray,
    is_new: np.ndarray,
    minority: np.ndarray,
    rng: np.random.Generator,
) -> np.ndarray:
    """(U, C): two to four categories each, the favourite at 1, a trace of all others."""
    n, names = len(location), list(CATEGORIES)
    everywhere = rng.lognormal(0, FASHION_SIGMA, len(names))
    regional = everywhere * rng.lognormal(0, REGIONAL_SIGMA, (len(LOCATIONS), len(names)))
    where = np.array([LOCATIONS.index(place) if place in LOCATIONS else 0 for place in location])
    niche = np.array([float(name in NEW_CATEGORIES) for name in names])
    chances = np.where(minority[:, None], regional[where] ** -2.0, regional[where])
    chances = np.where(is_new[:, None], niche + 1e-9, chances)
    keys = np.log(chances) + rng.gumbel(size=chances.shape)
    liked = np.argsort(-keys, axis=1)[:, :4]  # a draw without replacement by `chances`
    weights = np.maximum(rng.dirichlet([alpha] * 4, n), 1e-9)  # somebody likes something
    weights[:, 2:] *= np.arange(2, 4) < rng.integers(2, 5, n)[:, None]
    taste = np.zeros((n, len(names)))
    np.put_along_axis(taste, liked, weights, axis=1)
    return np.maximum(taste / taste.max(axis=1, keepdims=True), TASTE_TRACE)


def _mixed(share: float, common: np.ndarray, own: np.ndarray) -> np.ndarray:
    """Standard normal whose correlation with `common` is `share`."""
    mixed: np.ndarray = share * common + np.sqrt(1 - share**2) * own
    return mixed


def _shares(count: int, spread: float, rng: np.random.Generator) -> np.ndarray:
    weights = rng.lognormal(0, spread, count)
    shares: np.ndarray = weights / weights.sum()
    return shares
