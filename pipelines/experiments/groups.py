"""The model's columns in six groups, as one would draw them on a board."""

from collections.abc import Mapping

from features.definitions import FEATURES

OF_VIEW = {
    "user_daily": "user",
    "item_daily": "item",
    "item_hourly": "item",
    "user_category_daily": "cross",
    "user_stream": "session",
}
"""View -> group; what a request makes is in several."""

OF_REQUEST = {
    "hour_of_day": "context",
    "day_of_week": "context",
    "device": "context",
    "location": "context",
    "category": "item",
    "idle_minutes": "session",
    "item_times_in_history": "cross",
    "item_last_positive_days": "cross",
    "subcategory_times_in_history": "cross",
    "category_share_recent": "cross",
    "price_ratio": "cross",
    "price_affinity": "cross",
    "history_cosine_max": "retrieval",
    "retrieval_score": "retrieval",
    "two_tower_rr": "retrieval",
    "covisitation_rr": "retrieval",
    "history_rr": "retrieval",
    "popular_rr": "retrieval",
}
"""Column -> group. `position` is in none: it is no feature of anything, it takes the places' bias away."""

NAMES = ("user", "item", "cross", "context", "session", "retrieval")


def columns_by_group() -> Mapping[str, tuple[str, ...]]:
    """Group -> its columns, in table order."""
    group = {f.column: OF_VIEW.get(f.view) or OF_REQUEST.get(f.column) for f in FEATURES}
    return {name: tuple(c for c, found in group.items() if found == name) for name in NAMES}
