"""The model's input: context, cross and stored features, for one user and K items, at one moment.

Training rows and served requests are made by the same `assemble`, from the same values in the
same types, so "the feature meant something else in training" cannot happen here. Pure NumPy.

Throughout: N catalogue, C categories, T kept history (newest first), K items asked for, F features.
Fu, Fi, Fc, Fs are the features of user_daily, item_daily, user_category_daily and user_stream.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import numpy as np

from features.definitions import FEATURE_NAMES, NEVER_DAYS, VIEWS, of_view
from features.schema import OTHER

RECENT = 10
"""Newest positives that `category_share_recent` looks at."""

DAY_US, HOUR_US, MINUTE_US = 86_400_000_000, 3_600_000_000, 60_000_000
EPOCH_WEEKDAY = 3
"""1970-01-01 was a Thursday, and Monday is 0."""

STORED_USER_VIEWS = ("user_daily", "user_stream")
"""Views with one row per user; `user_category_daily` has one per user and category."""


@dataclass(frozen=True, slots=True)
class UserRow:
    """What the stores know about one user at one moment; the same from online and offline."""

    values: dict[str, float]  # user_daily and user_stream by feature name, defaults filled in
    category_rows: dict[str, dict[str, float]]  # category -> user_category_daily; known ones only
    history_items: list[str]  # newest first, at most HISTORY_LENGTH
    history_at: list[int]  # µs since 1970, beside history_items
    last_event_at: int  # µs since 1970; 0 = never
    missing: tuple[str, ...] = ()  # views without a row that is young enough
    age_s: dict[str, float] = field(default_factory=dict)  # view -> age of the row used

    @classmethod
    def unknown(cls) -> "UserRow":
        """A user nobody has seen: every default, no history, every view missing."""
        values = {f.name: f.default for view in STORED_USER_VIEWS for f in of_view(view)}
        missing = (*STORED_USER_VIEWS, "user_category_daily")
        return cls(values, {}, [], [], 0, missing)


@dataclass(frozen=True, slots=True)
class Catalogue:
    """The items of one bundle as columns; row i of every array is `item_ids[i]`."""

    item_ids: np.ndarray  # (N,) str
    index: dict[str, int]  # item id -> row
    category: np.ndarray  # (N,) int codes, place in vocabulary["category"]; -1 = unknown
    subcategory: np.ndarray  # (N,) int codes; -1 = unknown
    daily: np.ndarray  # (N, Fi) float64, order of of_view("item_daily")
    vocabulary: dict[str, tuple[str, ...]]  # "category", "device", "location" -> names by code

    @classmethod
    def of(
        cls,
        item_ids: Sequence[str],
        categories: Sequence[str | None],
        subcategories: Sequence[str | None],
        daily: np.ndarray,
        *,
        devices: Sequence[str] = (),
        locations: Sequence[str] = (),
    ) -> "Catalogue":
        """Codes are places among the sorted distinct names; None becomes -1."""
        names, category = _codes(categories)
        vocabulary = {"category": names, "device": tuple(devices), "location": tuple(locations)}
        return cls(
            item_ids=np.asarray(item_ids, dtype=str),
            index={item_id: ix for ix, item_id in enumerate(item_ids)},
            category=category,
            subcategory=_codes(subcategories)[1],
            daily=np.asarray(daily, dtype=np.float64),
            vocabulary=vocabulary,
        )


@dataclass(frozen=True, slots=True)
class UserState:
    """A UserRow as arrays aligned to one Catalogue."""

    daily: np.ndarray  # (Fu,)
    stream: np.ndarray  # (Fs,)
    categories: np.ndarray  # (C, Fc)
    history_ix: np.ndarray  # (T,) int64, row in the catalogue; -1 = not in it
    history_at: np.ndarray  # (T,) int64, µs since 1970
    last_event_at: int  # µs since 1970; 0 = never


@dataclass(frozen=True, slots=True)
class Context:
    """What the request itself says."""

    now_us: int  # µs since 1970
    device: int = -1  # code; -1 = unknown
    location: int = -1


def user_state(row: UserRow, catalogue: Catalogue) -> UserState:
    """Align one user's row to the catalogue's codes; done once per request."""
    names = catalogue.vocabulary["category"]
    categories = np.tile(_CATEGORY_DEFAULTS, (len(names), 1))  # (C, Fc)
    for code, name in enumerate(names):
        if known := row.category_rows.get(name):
            categories[code] = [known[f.name] for f in _CATEGORY_FEATURES]
    return UserState(
        daily=np.array([row.values[f.name] for f in of_view("user_daily")], dtype=np.float64),
        stream=np.array([row.values[f.name] for f in of_view("user_stream")], dtype=np.float64),
        categories=categories,
        history_ix=np.array([catalogue.index.get(i, -1) for i in row.history_items], np.int64),
        history_at=np.array(row.history_at, dtype=np.int64),
        last_event_at=row.last_event_at,
    )


def context_of(now: datetime, raw: Mapping[str, str], catalogue: Catalogue) -> Context:
    """Code what the caller said; who names no device or location counts as OTHER, if that is known.

    Args:
        now: UTC; the moment of the request, or of the logged slate in training.
        raw: `device` and `location` by name, both optional; other keys are ignored.
        catalogue: its vocabulary gives the codes; a name outside it is -1.
    """
    codes = [_code(catalogue.vocabulary[key], raw.get(key) or OTHER) for key in _CONTEXT_KEYS]
    return Context(microseconds(now), *codes)


def assemble(
    user: UserState,
    catalogue: Catalogue,
    item_ix: np.ndarray,
    context: Context,
    retrieval_score: np.ndarray,
    rr: np.ndarray,
    position: np.ndarray | None = None,
) -> np.ndarray:
    """One row of model input per item.

    Args:
        user: from `user_state`.
        catalogue: the one that `user` was aligned to.
        item_ix: (K,) rows of the catalogue.
        context: from `context_of`.
        retrieval_score: (K,) cosine of the two towers.
        rr: (K, 4) 1 / rank in two_tower, covisitation, history, popular; 0 = not among them.
        position: (K,) 1-based place in the slate, known in training only. None = 0, the value
            every served item gets.

    Returns:
        (K, F) float32, columns in the order of FEATURE_NAMES.

    Interview: How do you keep training and serving features the same?
        Both call this one function; it takes only arrays, so it cannot read a table that the other
        side has not got. What remains different is where the arrays come from (a point-in-time
        join or the online store), and that is a test of its own.
        Trade-off: features must be cheap enough to compute per request; a heavy one has to move
        into a stored view.
        Shown by: tests/features/test_request.py::test_rows_equal_a_slow_reading_of_the_definitions
    """
    K = len(item_ix)
    assert rr.shape == (K, 4), f"rr is {rr.shape}, expected {(K, 4)}"
    category = catalogue.category[item_ix]  # (K,)
    daily = catalogue.daily[item_ix]  # (K, Fi)
    out = np.empty((K, len(FEATURE_NAMES)), dtype=np.float32)
    out[:, _COLUMNS["user_daily"]] = user.daily
    out[:, _COLUMNS["item_daily"]] = daily
    # The default row goes last, where code -1 finds it.
    out[:, _COLUMNS["user_category_daily"]] = np.vstack([user.categories, _CATEGORY_DEFAULTS])[
        category
    ]
    out[:, _COLUMNS["user_stream"]] = user.stream
    out[:, _COLUMNS["request"]] = 0.0
    for name, value in {
        **_context_features(user, context),
        **_history_features(user, catalogue, item_ix, category, context.now_us),
        "category": category,
        "price_ratio": _price_ratio(daily[:, _PRICE], user.daily[_PRICE_MEAN]),
        "retrieval_score": retrieval_score,
        "position": 0.0 if position is None else position,
    }.items():
        out[:, _COLUMN[name]] = value
    out[:, _RR] = rr
    return out


def _context_features(user: UserState, context: Context) -> dict[str, float]:
    idle_us = context.now_us - user.last_event_at
    idle = min(max(idle_us / MINUTE_US, 0.0), NEVER_DAYS * 1440) if user.last_event_at else None
    return {
        "hour_of_day": context.now_us // HOUR_US % 24,
        "day_of_week": (context.now_us // DAY_US + EPOCH_WEEKDAY) % 7,
        "device": context.device,
        "location": context.location,
        "idle_minutes": NEVER_DAYS * 1440 if idle is None else idle,
    }


def _history_features(
    user: UserState, catalogue: Catalogue, item_ix: np.ndarray, category: np.ndarray, now_us: int
) -> dict[str, np.ndarray]:
    """Compare K items with T kept positives: at 500 x 50 cheaper than any index."""
    same_item = user.history_ix == item_ix[:, None]  # (K, T); -1 matches no row
    newest = np.where(same_item, user.history_at, 0).max(axis=1, initial=0)  # (K,) µs, 0 = never
    days = np.clip((now_us - newest) / DAY_US, 0.0, NEVER_DAYS)  # never lies 50 years back
    recent = user.history_ix[:RECENT]
    same_category = _past(catalogue.category, recent) == category[:, None]  # (K, <= RECENT)
    same_subcategory = (
        _past(catalogue.subcategory, user.history_ix) == catalogue.subcategory[item_ix, None]
    )
    return {
        "item_times_in_history": same_item.sum(axis=1),
        "item_last_positive_days": days,
        "subcategory_times_in_history": same_subcategory.sum(axis=1),
        "category_share_recent": same_category.sum(axis=1) / max(len(recent), 1),
    }


def _past(codes: np.ndarray, history_ix: np.ndarray) -> np.ndarray:
    """(T,) codes of the history; -2, which equals no item's code, where either is unknown."""
    found = codes[history_ix]
    return np.where((history_ix >= 0) & (found >= 0), found, -2)


def _price_ratio(price: np.ndarray, mean: float) -> np.ndarray:
    """(K,) item price / user's mean price; 1 where either is unknown, which is stored as 0."""
    if mean <= 0:
        return np.ones(len(price))
    return np.where(price > 0, price / mean, 1.0)


def microseconds(moment: datetime) -> int:
    """Microseconds since 1970, exactly (a float of seconds would round).

    >>> microseconds(datetime(1970, 1, 2, tzinfo=UTC))
    86400000000
    """
    return (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


def _codes(names: Sequence[str | None]) -> tuple[tuple[str, ...], np.ndarray]:
    """Sorted distinct names, and (N,) each one's place among them; None = -1."""
    known = tuple(sorted({name for name in names if name is not None}))
    place = {name: code for code, name in enumerate(known)}
    codes = [-1 if name is None else place[name] for name in names]
    return known, np.array(codes, dtype=np.int64)


def _code(names: tuple[str, ...], name: str) -> int:
    return names.index(name) if name in names else -1


def _columns(view: str) -> slice:
    """Where a view's features sit in a row; the table keeps each view together."""
    places = [FEATURE_NAMES.index(f.name) for f in of_view(view)]
    assert places == list(range(places[0], places[0] + len(places))), f"{view} is not contiguous"
    return slice(places[0], places[0] + len(places))


_COLUMNS = {view: _columns(view) for view in VIEWS if of_view(view)}
_COLUMN = {name: place for place, name in enumerate(FEATURE_NAMES)}
_RR = [_COLUMN[f"{source}_rr"] for source in ("two_tower", "covisitation", "history", "popular")]
_PRICE = [f.name for f in of_view("item_daily")].index("item_price")
_PRICE_MEAN = [f.name for f in of_view("user_daily")].index("price_mean_90d")
_CATEGORY_FEATURES = of_view("user_category_daily")
_CATEGORY_DEFAULTS = np.array([f.default for f in _CATEGORY_FEATURES])
_CONTEXT_KEYS = ("device", "location")
