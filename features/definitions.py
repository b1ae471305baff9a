"""THE feature table: every feature that any model reads, defined once.

Batch (Spark, DuckDB), streaming, Feast's views, the training set and serving are all generated
from, or checked against, this table. A *view* is a group with one entity and one writer; batch and
streaming features sit in separate views, so that a nightly materialize can never overwrite a
fresher pushed value.

Words used below. *Positive*: an event of one of the data set's positive types. *Act*: any event but
an impression, which is ours and not the user's. *Row of day D*:
covers [D - window, D) in UTC, is stamped D 00:00 and becomes known at D + BATCH_LAG.
"""

from dataclasses import dataclass
from datetime import timedelta
from typing import Literal

BATCH_WINDOW_DAYS = 90
BATCH_LAG = timedelta(hours=2)
"""A day's batch row is treated as known this long after midnight, whenever the job really ran."""

BATCH_TTL = timedelta(days=2)
"""Feast's join is an inner range join: a TTL that follows the daily cadence keeps it small."""

STREAM_TTL = timedelta(days=BATCH_WINDOW_DAYS)
HISTORY_LENGTH = 50
"""Positives kept per user, newest first; the user tower and the cross features read them."""

SESSION_GAP = timedelta(minutes=30)
"""Events without a session id belong together while no gap is longer."""

PRIOR_CLICKS, PRIOR_IMPRESSIONS = 1.0, 20.0
"""Smoothing of click rates: a new item starts at 5 %, and 20 impressions weigh as much as the prior."""

NEVER_DAYS = float(BATCH_WINDOW_DAYS)
"""`*_idle_days` of what was not seen inside the window."""

Dtype = Literal["float", "int", "category"]
Tier = Literal["daily", "seconds", "request"]
Source = Literal["batch", "stream", "request"]


@dataclass(frozen=True, slots=True)
class Feature:
    """One column of the model's input."""

    name: str
    view: str
    dtype: Dtype
    unit: str
    default: float  # served and trained on where no row is known
    window_days: int | None
    meaning: str

    @property
    def entity(self) -> tuple[str, ...]:
        """Join keys of the view."""
        return VIEWS[self.view].entity

    @property
    def tier(self) -> Tier:
        """How fresh the value is kept."""
        return VIEWS[self.view].tier

    @property
    def source(self) -> Source:
        """What computes it."""
        return VIEWS[self.view].source


@dataclass(frozen=True, slots=True)
class View:
    """A group of features with one entity and one writer."""

    name: str
    entity: tuple[str, ...]
    source: Source
    tier: Tier
    ttl: timedelta | None


VIEWS = {
    view.name: view
    for view in (
        View("user_daily", ("user_id",), "batch", "daily", BATCH_TTL),
        View("item_daily", ("item_id",), "batch", "daily", BATCH_TTL),
        View("user_category_daily", ("user_id", "category"), "batch", "daily", BATCH_TTL),
        View("user_stream", ("user_id",), "stream", "seconds", STREAM_TTL),
        View("item_stream", ("item_id",), "stream", "seconds", timedelta(days=1)),
        View(
            "request", (), "request", "request", None
        ),  # context and cross features, made per request
    )
}


def _view(view: str, *rows: tuple[str, Dtype, str, float, int | None, str]) -> list[Feature]:
    return [Feature(row[0], view, *row[1:]) for row in rows]


# fmt: off
FEATURES: tuple[Feature, ...] = (
    *_view(
        "user_daily",
        ("account_age_days", "float", "days", 0.0, None, "since the account was made or its first event, the earlier one"),
        ("purchase_frequency_90d", "float", "per week", 0.0, 90, "purchases per week of known history, at least one week"),
        ("purchases_30d", "int", "events", 0.0, 30, "purchases"),
        ("positives_7d", "int", "events", 0.0, 7, "positives"),
        ("positives_30d", "int", "events", 0.0, 30, "positives"),
        ("sessions_30d", "int", "sessions", 0.0, 30, "distinct sessions with an act; acts without a session id belong together up to SESSION_GAP"),
        ("session_minutes_mean_30d", "float", "minutes", 0.0, 30, "mean session duration, first to last act"),
        ("active_days_30d", "int", "days", 0.0, 30, "distinct days with an act"),
        ("user_click_rate_30d", "float", "probability", PRIOR_CLICKS / PRIOR_IMPRESSIONS, 30, "smoothed clicks per impression, never more clicks than impressions"),
        ("price_mean_90d", "float", "currency", 0.0, 90, "mean known price of positive items; 0 = none known"),
        ("categories_90d", "int", "categories", 0.0, 90, "distinct categories among positives"),
        ("user_idle_days", "float", "days", NEVER_DAYS, 90, "since the last positive"),
    ),
    *_view(
        "item_daily",
        ("item_price", "float", "currency", 0.0, None, "catalogue price; 0 = not known"),
        ("item_age_days", "float", "days", 0.0, None, "since launch or the first event, the earlier one"),
        ("item_rating_90d", "float", "stars", 0.0, 90, "mean rating; 0 = not rated"),
        ("item_ratings_90d", "int", "events", 0.0, 90, "ratings"),
        ("item_positives_1d", "int", "events", 0.0, 1, "positives"),
        ("item_positives_7d", "int", "events", 0.0, 7, "positives"),
        ("item_positives_30d", "int", "events", 0.0, 30, "positives: popularity"),
        ("item_purchases_30d", "int", "events", 0.0, 30, "purchases"),
        ("item_users_30d", "int", "users", 0.0, 30, "distinct users with a positive"),
        ("item_click_rate_30d", "float", "probability", PRIOR_CLICKS / PRIOR_IMPRESSIONS, 30, "smoothed clicks per impression, never more clicks than impressions"),
        ("item_trend_7d", "float", "ratio", 1.0, 30, "(positives per day of 7 d + 1) / (of 30 d + 1)"),
        ("item_idle_days", "float", "days", NEVER_DAYS, 90, "since the last positive"),
    ),
    *_view(
        "user_category_daily",
        ("category_positives_30d", "int", "events", 0.0, 30, "this user's positives in the category"),
        ("category_positives_90d", "int", "events", 0.0, 90, "this user's positives in the category"),
        ("category_share_90d", "float", "share", 0.0, 90, "of this user's positives"),
        ("category_idle_days", "float", "days", NEVER_DAYS, 90, "since this user's last positive in the category"),
    ),
    *_view(
        "user_stream",
        ("session_events", "int", "events", 0.0, None, "events of the current session, impressions included"),
        ("session_positives", "int", "events", 0.0, None, "positives of the current session"),
        ("session_minutes", "float", "minutes", 0.0, None, "from the session's first to its last event"),
        ("positives_24h", "int", "events", 0.0, 1, "positives of the 24 h up to the last act, among the history kept"),
        ("impressions_1h", "int", "events", 0.0, None, "shown in the hour up to the user's newest event, in whole steps of 5 minutes"),
        ("clicks_1h", "int", "events", 0.0, None, "clicks of the same hour"),
        ("impressions_24h", "int", "events", 0.0, 1, "shown in the day up to the user's newest event, in whole hours"),
        ("clicks_24h", "int", "events", 0.0, 1, "clicks of the same day"),
    ),
    *_view(
        "request",
        ("hour_of_day", "int", "hour", 0.0, None, "of the request, UTC"),
        ("day_of_week", "int", "Monday = 0", 0.0, None, "of the request, UTC"),
        ("device", "category", "code", -1.0, None, "code in the bundle's vocabulary; -1 = unknown"),
        ("location", "category", "code", -1.0, None, "code in the bundle's vocabulary; -1 = unknown"),
        ("category", "category", "code", -1.0, None, "of the item; code in the bundle's vocabulary"),
        ("idle_minutes", "float", "minutes", NEVER_DAYS * 1440, 90, "since the user's last act"),
        ("item_times_in_history", "int", "events", 0.0, None, "this item among the user's kept positives"),
        ("item_last_positive_days", "float", "days", NEVER_DAYS, 90, "since the user's last positive on this item"),
        ("subcategory_times_in_history", "int", "events", 0.0, None, "this item's subcategory among the kept positives"),
        ("category_share_recent", "float", "share", 0.0, None, "of the newest 10 positives in this item's category"),
        ("price_ratio", "float", "ratio", 1.0, None, "item price / user's mean price; 1 where either is unknown"),
        ("retrieval_score", "float", "cosine", 0.0, None, "user tower x item tower"),
        ("two_tower_rr", "float", "1/rank", 0.0, None, "place among the two-tower's candidates; 0 = not among them"),
        ("covisitation_rr", "float", "1/rank", 0.0, None, "place among the co-visited candidates"),
        ("history_rr", "float", "1/rank", 0.0, None, "place among the user's own items"),
        ("popular_rr", "float", "1/rank", 0.0, None, "place among the recently popular"),
        ("position", "int", "place", 0.0, None, "where it was shown, in training; held at 0 = unknown when serving"),
    ),
)
# fmt: on

BY_NAME = {feature.name: feature for feature in FEATURES}
FEATURE_NAMES: tuple[str, ...] = tuple(feature.name for feature in FEATURES)
"""The model's columns, in the order of the bundle."""

HISTORY_ITEMS, HISTORY_AT, LAST_EVENT_AT, VERSION = (
    "history_items",
    "history_at",
    "last_event_at",
    "version",
)
"""Columns of `user_stream` that are inputs of request features and of the user tower, not model columns:
item ids (strings) and event times (µs since 1970), newest first; the last act's time (µs); the state's version."""

ITEM_STREAM = ("item_impressions_1h", "item_clicks_1h", "item_impressions_24h", "item_clicks_24h")
"""Columns of `item_stream` beside its version: int, events of the hour and the day up to the newest
event of the item's partition, in whole steps of 5 minutes and of hours. Not model columns: a request reads its
items from the bundle's matrix, which is made once a day."""


def of_view(view: str) -> tuple[Feature, ...]:
    """The features of one view, in table order."""
    return tuple(feature for feature in FEATURES if feature.view == view)
