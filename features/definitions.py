"""THE feature table: every feature that any model reads, defined once.

Batch (Spark, DuckDB), streaming, Feast's views, the training set and serving are all generated
from, or checked against, this table. A *view* is a group with one entity and one writer; batch and
streaming features sit in separate views, so that a nightly materialize can never overwrite a
fresher pushed value.

Words used below. *Positive*: an event of one of the data set's positive types. *Act*: any event but
an impression, which is ours and not the user's. *Row of day D*:
covers [D - window, D) in UTC, is stamped D 00:00 and becomes known at D + BATCH_LAG. *Row of hour H*
likewise, on the hour, known at H + HOURLY_LAG. *COEC*: clicks over expected clicks, given the places
where it was shown (features/position_curve.py); 1 = as the average item would have done there.

A definition that changes its meaning gets the next version and a column of its own; the old one
moves to RETIRED and stays computed until no bundle reads it (`shortlist features lineage NAME`).
"""

from dataclasses import dataclass
from datetime import timedelta
from typing import Literal

BATCH_WINDOW_DAYS = 90
BATCH_LAG = timedelta(hours=2)
"""A day's batch row is treated as known this long after midnight, whenever the job really ran."""

BATCH_TTL = timedelta(days=2)
"""Feast's join is an inner range join: a TTL that follows the daily cadence keeps it small."""

HOUR, DAY = timedelta(hours=1), timedelta(days=1)

HOURLY_LAG = timedelta(minutes=10)
"""An hour's rows are treated as known this long after its end."""

HOURLY_TTL = timedelta(hours=3)
"""One missed run is bridged; after two a count of the last hour says nothing about this one."""

STREAM_TTL = timedelta(days=BATCH_WINDOW_DAYS)
HISTORY_LENGTH = 50
"""Positives kept per user, newest first; the user tower and the cross features read them."""

SESSION_GAP = timedelta(minutes=30)
"""Events without a session id belong together while no gap is longer."""

PRIOR_CLICKS, PRIOR_IMPRESSIONS = 1.0, 20.0
"""Smoothing of rates: a new item starts at 5 %, and 20 impressions weigh as much as the prior."""

PRIOR_EXPECTED = 1.0
"""Smoothing of COEC: one expected click that came, so what was never shown stands at 1."""

NEVER_DAYS = float(BATCH_WINDOW_DAYS)
"""`*_idle_days` of what was not seen inside the window."""

Dtype = Literal["float", "int", "category"]
Tier = Literal["daily", "hourly", "seconds", "request"]
Source = Literal["batch", "stream", "request"]


@dataclass(frozen=True, slots=True)
class Feature:
    """One column of the model's input."""

    name: str
    view: str
    dtype: Dtype
    unit: str
    default: float  # served and trained on where no row is known
    window: timedelta | None
    meaning: str
    version: int = 1

    @property
    def column(self) -> str:
        """Its name in tables, stores and models: versions lie side by side, none replaces another."""
        return self.name if self.version == 1 else f"{self.name}_v{self.version}"

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
    every: timedelta = DAY  # batch: distance of two rows
    lag: timedelta = BATCH_LAG  # batch: from a row's moment until it is known


VIEWS = {
    view.name: view
    for view in (
        View("user_daily", ("user_id",), "batch", "daily", BATCH_TTL),
        View("item_daily", ("item_id",), "batch", "daily", BATCH_TTL),
        View("item_hourly", ("item_id",), "batch", "hourly", HOURLY_TTL, HOUR, HOURLY_LAG),
        View("user_category_daily", ("user_id", "category"), "batch", "daily", BATCH_TTL),
        View("user_stream", ("user_id",), "stream", "seconds", STREAM_TTL),
        View("item_stream", ("item_id",), "stream", "seconds", timedelta(days=1)),
        View(
            "request", (), "request", "request", None
        ),  # context and cross features, made per request
    )
}


Row = (
    tuple[str, Dtype, str, float, int | timedelta | None, str]
    | tuple[str, Dtype, str, float, int | timedelta | None, str, int]
)
"""name, dtype, unit, default, window (a number counts days), meaning, version where it is not 1."""


def _view(view: str, *rows: Row) -> list[Feature]:
    return [_feature(view, *row) for row in rows]


def _feature(
    view: str,
    name: str,
    dtype: Dtype,
    unit: str,
    default: float,
    window: int | timedelta | None,
    meaning: str,
    version: int = 1,
) -> Feature:
    window = timedelta(days=window) if isinstance(window, int) else window
    return Feature(name, view, dtype, unit, default, window, meaning, version)


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
        ("user_coec_30d", "float", "ratio", 1.0, 30, "smoothed COEC of what this user was shown"),
        ("price_mean_90d", "float", "currency", 0.0, 90, "mean known price of positive items; 0 = none known"),
        ("price_quantile_90d", "float", "quantile", 0.5, 90, "mean item_price_quantile of positive items, each when it was taken"),
        ("categories_90d", "int", "categories", 0.0, 90, "distinct categories among positives"),
        ("user_idle_days", "float", "days", NEVER_DAYS, 90, "since the last positive"),
    ),
    *_view(
        "item_daily",
        ("item_price", "float", "currency", 0.0, None, "catalogue price; 0 = not known"),
        ("item_price_quantile", "float", "quantile", 0.5, None, "place of the price within the item's category as it was on Monday: 0 = cheapest, 1 = dearest; 0.5 = not known, or newer"),
        ("item_age_days", "float", "days", 0.0, None, "since launch or the first event, the earlier one"),
        ("item_rating_90d", "float", "stars", 0.0, 90, "mean rating; 0 = not rated"),
        ("item_ratings_90d", "int", "events", 0.0, 90, "ratings"),
        ("item_positives_7d", "int", "events", 0.0, 7, "positives"),
        ("item_positives_30d", "int", "events", 0.0, 30, "positives: popularity"),
        ("item_purchases_30d", "int", "events", 0.0, 30, "purchases"),
        ("item_users_30d", "int", "users", 0.0, 30, "distinct users with a positive"),
        ("item_click_rate_30d", "float", "probability", PRIOR_CLICKS / PRIOR_IMPRESSIONS, 30, "smoothed clicks per impression, never more clicks than impressions"),
        ("item_coec_30d", "float", "ratio", 1.0, 30, "smoothed COEC"),
        ("item_purchase_rate_30d", "float", "probability", PRIOR_CLICKS / PRIOR_IMPRESSIONS, 30, "smoothed purchases per click, never more purchases than clicks"),
        ("item_repeat_share_90d", "float", "share", 0.0, 90, "of the users with a positive, those with two or more"),
        ("item_trend_7d", "float", "ratio", 1.0, 30, "(positives of 7 d + 1) / (what 30 d lead to expect of 7 + 1)", 2),
        ("item_idle_days", "float", "days", NEVER_DAYS, 90, "since the last positive"),
    ),
    *_view(
        "item_hourly",
        ("item_positives_1h", "int", "events", 0.0, HOUR, "positives"),
        ("item_positives_24h", "int", "events", 0.0, 1, "positives"),
        ("item_coec_24h", "float", "ratio", 1.0, 1, "smoothed COEC"),
        ("item_surge_1h", "float", "ratio", 1.0, 1, "(positives of 1 h + 1) / (what 24 h lead to expect of 1 + 1)"),
    ),
    *_view(
        "user_category_daily",
        ("category_positives_30d", "int", "events", 0.0, 30, "this user's positives in the category"),
        ("category_positives_90d", "int", "events", 0.0, 90, "this user's positives in the category"),
        ("category_share_90d", "float", "share", 0.0, 90, "of this user's positives"),
        ("category_coec_30d", "float", "ratio", 1.0, 30, "smoothed COEC of the category for this user"),
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
        ("price_affinity", "float", "share", 0.5, None, "1 - distance of item_price_quantile and price_quantile_90d; 0.5 where a price is unknown"),
        ("history_cosine_max", "float", "cosine", 0.0, None, "item vector x the nearest of the newest 10 positives; 0 = no vectors"),
        ("retrieval_score", "float", "cosine", 0.0, None, "user tower x item tower"),
        ("two_tower_rr", "float", "1/rank", 0.0, None, "place among the two-tower's candidates; 0 = not among them"),
        ("covisitation_rr", "float", "1/rank", 0.0, None, "place among the co-visited candidates"),
        ("history_rr", "float", "1/rank", 0.0, None, "place among the user's own items"),
        ("popular_rr", "float", "1/rank", 0.0, None, "place among the recently popular"),
        ("position", "int", "place", 0.0, None, "where it was shown, in training; held at 0 = unknown when serving"),
    ),
)

RETIRED: tuple[Feature, ...] = tuple(
    _view(
        "item_daily",
        ("item_trend_7d", "float", "ratio", 1.0, 30, "(positives per day of 7 d + 1) / (of 30 d + 1): a prior of seven events, which held every small shop at 1"),
    )
)
# fmt: on
"""Earlier versions that bundles may still read. A row goes when lineage names no bundle for it."""

BY_NAME = {feature.name: feature for feature in FEATURES}
BY_COLUMN = {feature.column: feature for feature in (*FEATURES, *RETIRED)}
FEATURE_NAMES: tuple[str, ...] = tuple(feature.column for feature in FEATURES)
"""Columns of a model that is trained now, in order; a bundle names its own."""

USER_VIEWS, ITEM_VIEWS, PAIR_VIEWS = (
    tuple(view.name for view in VIEWS.values() if view.entity == entity)
    for entity in (("user_id",), ("item_id",), ("user_id", "category"))
)
"""Stored views by what one row of them is about: a user, an item, a user in a category."""

BATCH_VIEWS = tuple(view.name for view in VIEWS.values() if view.source == "batch")

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
event of the item's partition, in whole steps of 5 minutes and of hours. Not model columns: a request reads
its items from a matrix, which is made anew every hour."""


def of_view(view: str) -> tuple[Feature, ...]:
    """The current features of one view, in table order."""
    return tuple(feature for feature in FEATURES if feature.view == view)


def stored_of(view: str) -> tuple[Feature, ...]:
    """What is computed and stored of one view: the current features, then retired versions."""
    return tuple(feature for feature in (*FEATURES, *RETIRED) if feature.view == view)
