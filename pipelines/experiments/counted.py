"""What a nightly job would have counted in a rehearsed world, as a dozen of the platform's features."""

from dataclasses import dataclass

import numpy as np

from features.definitions import BY_NAME, NEVER_DAYS, PRIOR_CLICKS, PRIOR_IMPRESSIONS
from features.feature_set import FeatureSet
from pipelines.experiments.rehearsal import Day, Rehearsal

FEATURES = FeatureSet.of(
    [
        BY_NAME[name]
        for name in (
            "positives_30d",
            "user_click_rate_30d",
            "item_price",
            "item_positives_7d",
            "item_positives_30d",
            "item_click_rate_30d",
            "item_idle_days",
            "category_positives_30d",
            "category_idle_days",
            "hour_of_day",
            "device",
            "category",
            "position",
        )
    ]
)
"""A dozen of the platform's own, by their definitions, counted here by days: a click is the positive."""

AT = FEATURES.place


@dataclass(frozen=True, slots=True)
class Known:
    """Counts before each day; row d is the midnight at which day d begins."""

    category: np.ndarray  # (N,)
    price: np.ndarray  # (N,)
    item: np.ndarray  # (days + 1, 2, N) clicks and impressions so far
    user: np.ndarray  # (days + 1, 2, U)
    pair: np.ndarray  # (days + 1, U, C) clicks so far
    last_click: np.ndarray  # (days + 1, N) days since the first midnight; -inf = never
    last_pair: np.ndarray  # (days + 1, U, C) likewise


def count(world: Rehearsal) -> Known:
    """What a nightly job knows at each midnight."""
    N, U, C = len(world.catalogue.price), world.users, int(world.catalogue.category.max()) + 1
    days = len(world.days) + 1
    item, user, pair = np.zeros((days, 2, N)), np.zeros((days, 2, U)), np.zeros((days, U, C))
    last, last_pair = np.full((days, N), -np.inf), np.full((days, U, C), -np.inf)
    for day in world.days:
        d, items = day.number, day.item_ix
        who, hour = (np.broadcast_to(x[:, None], items.shape) for x in (day.user_ix, day.hour))
        clicked, by, at = items[day.click], who[day.click], d + hour[day.click] / 24
        to = by, world.catalogue.category[clicked]
        for counts, ix, seen in ((item, clicked, items), (user, by, who)):
            size = counts.shape[2]
            counts[d + 1, 0] = counts[d, 0] + np.bincount(ix, minlength=size)
            counts[d + 1, 1] = counts[d, 1] + np.bincount(seen.ravel(), minlength=size)
        for table in (pair, last, last_pair):
            table[d + 1] = table[d]
        np.add.at(pair[d + 1], to, 1)
        np.maximum.at(last[d + 1], clicked, at)
        np.maximum.at(last_pair[d + 1], to, at)
    category, price = world.catalogue.category, world.catalogue.price
    return Known(category, price, item, user, pair, last, last_pair)


def features(known: Known, day: Day, items: np.ndarray, night: int | None = None) -> np.ndarray:
    """(S, P, F) float32 of items on the requests of a day.

    Args:
        known: counts.
        day: its users, hours and devices.
        items: (S, P) or a slate (S, K); the place is left at 0.
        night: whose counts are read; None = last night's.
    """
    d = day.number if night is None else night
    user, category = day.user_ix[:, None], known.category[items]
    out = np.zeros((*items.shape, len(FEATURES.names)), np.float32)
    clicks, looks = totals(known.item, d, 30)
    own_clicks, own_looks = totals(known.user, d, 30)
    columns = {
        "positives_30d": own_clicks[user],
        "user_click_rate_30d": smoothed(own_clicks, own_looks)[user],
        "item_price": known.price[items],
        "item_positives_7d": totals(known.item, d, 7)[0][items],
        "item_positives_30d": clicks[items],
        "item_click_rate_30d": smoothed(clicks, looks)[items],
        "item_idle_days": np.minimum(d - known.last_click[d], NEVER_DAYS)[items],
        "category_positives_30d": totals(known.pair, d, 30)[user, category],
        "category_idle_days": np.minimum(d - known.last_pair[d], NEVER_DAYS)[user, category],
        "hour_of_day": day.hour[:, None],
        "device": day.device[:, None],
        "category": category,
    }
    for name, values in columns.items():
        out[:, :, AT[name]] = values
    return out


def totals(counts: np.ndarray, d: int, days: int) -> np.ndarray:
    """What was counted in the `days` days before midnight `d`; counts run on over axis 0."""
    return np.asarray(counts[d] - counts[max(d - days, 0)])


def smoothed(clicks: np.ndarray, looks: np.ndarray) -> np.ndarray:
    """Clicks per impression with the platform's prior."""
    return np.asarray((np.minimum(clicks, looks) + PRIOR_CLICKS) / (looks + PRIOR_IMPRESSIONS))


def with_columns(values: np.ndarray, **columns: np.ndarray) -> np.ndarray:
    """A copy of (S, P, F) values in which some features are others."""
    out = values.copy()
    for name, column in columns.items():
        out[:, :, AT[name]] = column
    return out
