"""Events, items, users: the contract that every folder reads.

An event is one thing that happened between one user and one item. It is JSON on the log and
Parquet in the lake, with the same names. Times are UTC with microseconds: `event_at` is when it
happened, `seen_at` when it arrived; history loaded from a file has `seen_at = event_at`.
"""

from dataclasses import dataclass

import pyarrow as pa

SCHEMA_VERSION = 1

EVENT_TYPES = ("impression", "view", "click", "cart", "purchase", "rating")
"""Every type the line understands; others are quarantined."""

POSITIVE_TYPES = ("click", "cart", "purchase", "rating")
"""Types that say a user wanted an item, unless a data set names its own."""

TIMESTAMP = pa.timestamp("us", tz="UTC")
"""Nanoseconds are refused by Spark and by Feast's DuckDB materialize."""

EVENTS = pa.schema(
    [
        pa.field("event_id", pa.string(), nullable=False),  # the idempotency key
        pa.field("event_type", pa.string(), nullable=False),
        pa.field("user_id", pa.string(), nullable=False),
        pa.field("item_id", pa.string(), nullable=False),
        pa.field("session_id", pa.string()),
        pa.field("request_id", pa.string()),
        pa.field("position", pa.int32()),  # 1-based place in the slate
        pa.field("event_at", TIMESTAMP, nullable=False),
        pa.field("seen_at", TIMESTAMP, nullable=False),
        pa.field("value", pa.float64()),  # money for a purchase, stars for a rating; never negative
        pa.field("context", pa.string()),  # JSON object: device, location, ...
        pa.field("bundle", pa.string()),
        pa.field("source", pa.string()),
        pa.field("propensity", pa.float64()),
        pa.field("arms", pa.string()),  # JSON object: experiment -> arm
    ]
)

ITEMS = pa.schema(
    [
        pa.field("item_id", pa.string(), nullable=False),
        pa.field("title", pa.string()),
        pa.field(
            "category", pa.string()
        ),  # coarse: at most MAX_CATEGORIES values, the rest is OTHER
        pa.field("subcategory", pa.string()),  # as fine as the source has it
        pa.field("price", pa.float64()),
        pa.field("created_at", TIMESTAMP),
    ]
)

USERS = pa.schema(
    [
        pa.field("user_id", pa.string(), nullable=False),
        pa.field("created_at", TIMESTAMP),
        pa.field("location", pa.string()),
    ]
)

MAX_CATEGORIES = 64
"""One online read fetches a user's rows for all categories, so their number is bounded."""

OTHER = "other"
"""The category of what fits no other, and the location or device of who names none."""

MAX_ID_LENGTH = 128
"""Longer ids are refused: they are somebody's mistake, and they would sit in every index."""


@dataclass(frozen=True, slots=True)
class DatasetInfo:
    """What the line must know of a data set besides its rows: `dataset.json` in the lake."""

    name: str
    positive_types: tuple[str, ...] = POSITIVE_TYPES
    seen_filter: bool = (
        False  # True where nobody wants the same item twice (films), not for groceries
    )
    has_impressions: bool = False  # slates with positions were logged
