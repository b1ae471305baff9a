"""The model's input: equal to a slow reading of the definition table, and fast."""

import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from features.definitions import BY_COLUMN, FEATURE_NAMES, NEVER_DAYS
from features.feature_set import CURRENT
from features.request import (
    Catalogue,
    Context,
    UserRow,
    assemble,
    context_of,
    microseconds,
    user_state,
)

NOW = datetime(2026, 2, 11, 15, 30, tzinfo=UTC)  # a Wednesday
NOW_US = microseconds(NOW)
DAY_US = 86_400_000_000


def make_catalogue(n: int = 7, seed: int = 0) -> Catalogue:
    rng = np.random.default_rng(seed)
    matrix = rng.uniform(0.5, 9.0, (n, len(CURRENT.item)))
    matrix[1, 0] = 0.0  # the price of item i1 is not known
    vectors = rng.normal(size=(n, 5)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    catalogue = Catalogue.of(
        [f"i{ix}" for ix in range(n)],
        [None if ix == 2 else "cab"[ix % 3] for ix in range(n)],
        [None if ix == 3 else f"s{ix % 4}" for ix in range(n)],
        matrix,
        devices=("phone", "tv"),
        locations=("other", "oslo"),
    )
    return replace(catalogue, vectors=vectors)


def make_row(history: list[tuple[str, float]], last_days: float | None = 0.25) -> UserRow:
    """`history` is (item id, days before NOW), newest first."""
    rng = np.random.default_rng(1)
    row = UserRow.unknown()
    values = {name: float(rng.uniform(1, 5)) for name in row.values}
    share = {f.column: 0.5 + place for place, f in enumerate(CURRENT.pair)}
    return replace(
        row,
        values=values,
        category_rows={"a": share},
        history_items=[item for item, _ in history],
        history_at=[NOW_US - int(days * DAY_US) for _, days in history],
        last_event_at=0 if last_days is None else NOW_US - int(last_days * DAY_US),
        missing=(),
    )


def slowly(
    row: UserRow, catalogue: Catalogue, ix: int, context: Context, score: float, rr: np.ndarray
) -> dict[str, float]:
    """One item's features, read off the definition table in plain Python."""
    category, subcategory = catalogue.category[ix], catalogue.subcategory[ix]
    item_id = str(catalogue.item_ids[ix])
    out = {f.column: row.values[f.column] for f in CURRENT.user}
    out |= {f.column: catalogue.matrix[ix, at] for at, f in enumerate(CURRENT.item)}
    name = catalogue.vocabulary["category"][category] if category >= 0 else None
    defaults = {f.column: f.default for f in CURRENT.pair}
    out |= row.category_rows.get(str(name), defaults)
    places = [catalogue.index.get(i) for i in row.history_items]
    times = [at for i, at in zip(row.history_items, row.history_at, strict=True) if i == item_id]
    recent = [p for p in places[:10] if p is not None and catalogue.category[p] == category >= 0]
    same = [p for p in places if p is not None and catalogue.subcategory[p] == subcategory >= 0]
    mean, price = row.values["price_mean_90d"], out["item_price"]
    idle = (context.now_us - row.last_event_at) / 60e6 if row.last_event_at else NEVER_DAYS * 1440
    moment = datetime.fromtimestamp(context.now_us / 1e6, tz=UTC)
    level, taste = out["item_price_quantile"], row.values["price_quantile_90d"]
    vectors = [catalogue.vectors[p] for p in places[:10] if p is not None]
    return out | {
        "hour_of_day": moment.hour,
        "day_of_week": moment.weekday(),
        "device": context.device,
        "location": context.location,
        "category": category,
        "idle_minutes": idle,
        "item_times_in_history": len(times),
        "item_last_positive_days": min((context.now_us - max(times)) / DAY_US, NEVER_DAYS)
        if times
        else NEVER_DAYS,
        "subcategory_times_in_history": len(same),
        "category_share_recent": len(recent) / max(len(places[:10]), 1),
        "price_ratio": price / mean if price > 0 and mean > 0 else 1.0,
        "price_affinity": 1 - abs(level - taste) if price > 0 and mean > 0 else 0.5,
        "history_cosine_max": max((catalogue.vectors[ix] @ v for v in vectors), default=0.0),
        "retrieval_score": score,
        "two_tower_rr": rr[0],
        "covisitation_rr": rr[1],
        "history_rr": rr[2],
        "popular_rr": rr[3],
        "position": 0.0,
    }


HISTORIES = {
    "none": [],
    "one": [("i4", 2.0)],
    "repeats and strangers": [("i1", 0.5), ("gone", 1.0), ("i4", 2.0), ("i1", 3.0), ("i2", 120.0)],
    "long": [(f"i{place % 6}", place + 0.125) for place in range(13)],
}


@pytest.mark.parametrize("history", HISTORIES.values(), ids=HISTORIES.keys())
def test_rows_equal_a_slow_reading_of_the_definitions(history):
    catalogue, row = make_catalogue(), make_row(history, None if not history else 0.25)
    item_ix = np.array([6, 0, 1, 2, 3, 4])
    context = context_of(NOW, {"device": "tv"}, catalogue)
    score, rr = np.linspace(-1, 1, 6), np.random.default_rng(2).random((6, 4))

    got = assemble(user_state(row, catalogue), catalogue, item_ix, context, score, rr)

    assert got.shape == (6, len(FEATURE_NAMES))
    assert got.dtype == np.float32
    for k, ix in enumerate(item_ix):
        expected = slowly(row, catalogue, int(ix), context, score[k], rr[k])
        assert set(expected) == set(FEATURE_NAMES)
        np.testing.assert_allclose(
            got[k], [expected[name] for name in FEATURE_NAMES], rtol=1e-6, err_msg=f"item {ix}"
        )


def test_an_unknown_user_gets_the_default_of_every_feature():
    catalogue = make_catalogue()
    state = user_state(UserRow.unknown(), catalogue)
    got = assemble(state, catalogue, np.array([5]), Context(NOW_US), np.zeros(1), np.zeros((1, 4)))[
        0
    ]
    known = {"hour_of_day", "day_of_week", "category"} | {f.column for f in CURRENT.item}
    for name, value in zip(FEATURE_NAMES, got, strict=True):
        if name not in known:
            assert value == BY_COLUMN[name].default, name


def test_position_is_what_training_knows_and_zero_when_serving():
    catalogue, row = make_catalogue(), make_row([])
    place = FEATURE_NAMES.index("position")
    args = (np.array([1, 2]), Context(NOW_US), np.zeros(2), np.zeros((2, 4)))
    state = user_state(row, catalogue)
    assert assemble(state, catalogue, *args)[:, place].tolist() == [0.0, 0.0]
    assert assemble(state, catalogue, *args, np.array([3, 1]))[:, place].tolist() == [3.0, 1.0]


def test_a_moment_before_the_last_event_counts_as_idle_zero():
    catalogue = make_catalogue()
    row = make_row([("i4", -0.5)], last_days=-0.5)
    got = assemble(
        user_state(row, catalogue), catalogue, np.array([4]), Context(NOW_US), np.zeros(1),
        np.zeros((1, 4)),
    )[0]  # fmt: skip
    assert got[FEATURE_NAMES.index("idle_minutes")] == 0
    assert got[FEATURE_NAMES.index("item_last_positive_days")] == 0


@pytest.mark.parametrize(
    ("raw", "device", "location"),
    [
        ({"device": "tv", "location": "oslo"}, 1, 1),
        ({"device": "fridge"}, -1, 0),  # a name outside the vocabulary; none named = "other"
        ({}, -1, 0),  # "other" is no device of this vocabulary
    ],
)
def test_context_codes_are_places_in_the_vocabulary(raw, device, location):
    assert context_of(NOW, raw, make_catalogue()) == Context(NOW_US, device, location)


def test_codes_follow_the_sorted_names_and_none_is_minus_one():
    catalogue = make_catalogue()
    assert catalogue.vocabulary["category"] == ("a", "b", "c")
    assert catalogue.category.tolist() == [2, 0, -1, 2, 0, 1, 2]
    assert catalogue.subcategory[3] == -1


def test_moments_keep_their_microseconds():
    moment = NOW + timedelta(microseconds=1)
    assert microseconds(moment) - NOW_US == 1


def test_500_items_take_less_than_half_a_millisecond():
    catalogue = make_catalogue(2000)
    row = make_row([(f"i{place}", place) for place in range(50)])
    state, rng = user_state(row, catalogue), np.random.default_rng(3)
    args = (rng.permutation(2000)[:500], Context(NOW_US), rng.random(500), rng.random((500, 4)))
    seconds = []
    for _ in range(200):
        since = time.perf_counter()
        assemble(state, catalogue, *args)
        seconds.append(time.perf_counter() - since)
    assert min(seconds) < 0.0005  # the minimum: other processes share the machine
