"""The comparer on rows whose fault is known, because the test put it there."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
import pytest

from features.feature_set import CURRENT
from infra.event_log import Record, RecordsGone
from monitoring.drift import drift_report
from monitoring.skew import (
    BEHIND,
    EQUAL,
    LIMIT,
    SKEWED,
    Rows,
    compare,
    equal,
    over,
    read_slates,
    siblings,
)

AT = datetime(2026, 3, 1, 12, tzinfo=UTC)
USERS, K = 60, 5
COUNTS = ("positives_7d", "positives_30d", "purchases_30d", "impressions_24h")


def right(seed: int = 0) -> np.ndarray:
    """(USERS * K, F) plausible values: counts of users, and 90 days where nobody knows of a positive."""
    rng = np.random.default_rng(seed)
    table = rng.gamma(2.0, 1.0, (USERS, len(CURRENT.names))).astype(np.float32)
    week = rng.poisson(3, USERS)
    for name, values in {
        "positives_7d": week,
        "positives_30d": week + rng.poisson(9, USERS),
        "purchases_30d": rng.poisson(4, USERS),
        "impressions_24h": 10 * rng.integers(1, 5, USERS),
        "hour_of_day": rng.integers(0, 24, USERS),
        "user_idle_days": np.where(rng.random(USERS) < 0.3, 90.0, rng.uniform(0, 30, USERS)),
    }.items():
        table[:, CURRENT.place[name]] = values
    return table.repeat(K, axis=0)


def found(change, seed: int = 0, behind_s=None):
    """Findings where `change` was made to what was served."""
    again = right(seed)
    served = again.copy()
    change(served)
    verdict = np.where(equal(CURRENT, served, again), EQUAL, SKEWED).astype(np.int8)
    age = np.zeros(again.shape) if behind_s is None else behind_s
    requests = [f"r{row // K}" for row in range(len(again))]
    items = [f"i{row % K}" for row in range(len(again))]
    return compare([Rows(CURRENT, served, again, verdict, age, requests, items)])


def column(values: np.ndarray, name: str) -> np.ndarray:
    return values[:, CURRENT.place[name]]


def put(name: str, make):
    """A change of one column, made of all values."""

    def change(values: np.ndarray) -> None:
        values[:, CURRENT.place[name]] = make(values)

    return change


def test_what_is_equal_is_equal_in_every_row():
    findings = found(lambda values: None)
    assert list(findings) == list(CURRENT.names)
    assert all(f.equal == f.rows == USERS * K for f in findings.values())
    assert over(findings) == []


@pytest.mark.parametrize(
    ("name", "make", "looks_like"),
    [
        ("positives_30d", lambda v: column(v, "positives_7d"), "looks like window 7 d"),
        ("positives_7d", lambda v: column(v, "positives_30d"), "looks like window 30 d"),
        ("impressions_24h", lambda v: 2 * column(v, "impressions_24h"), "counted twice"),
        ("impressions_24h", lambda v: 3 * column(v, "impressions_24h"), "counted three times"),
        (
            "user_idle_days",
            lambda v: column(v, "user_idle_days") * (column(v, "user_idle_days") != 90),
            "missing served as 0 instead of 90",
        ),
        ("user_idle_days", lambda v: np.full(len(v), 90.0), "null as default"),
        ("hour_of_day", lambda v: (column(v, "hour_of_day") + 2) % 24, "always +2"),
        ("purchases_30d", lambda v: column(v, "purchases_30d")[::-1], None),
    ],
)
def test_each_fault_is_named(name, make, looks_like):
    findings = found(put(name, make))
    assert over(findings) == [name], "and no other feature is accused"
    assert findings[name].looks_like == looks_like
    example = findings[name].example
    assert example is not None
    assert example["served"] != example["recomputed"]
    assert findings[name].worst == abs(example["served"] - example["recomputed"])


def test_another_users_values_are_found_where_drift_is_silent(tmp_path):
    """The rows of users are mixed up: the same values, so the same distribution, in wrong places."""
    reference = pd.DataFrame({name: column(right(), name) for name in COUNTS})
    mixed = {name: np.roll(column(right(), name), 7 * K) for name in COUNTS}
    assert drift_report(reference, pd.DataFrame(mixed), tmp_path)["share"] == 0
    findings = found(lambda v: [put(n, lambda _, n=n: mixed[n])(v) for n in COUNTS])
    assert set(over(findings)) == set(COUNTS)
    assert min(findings[name].share for name in COUNTS) > 0.5


def test_an_old_row_is_called_old():
    age = np.zeros((USERS * K, len(CURRENT.names)))
    place = CURRENT.place["purchases_30d"]
    age[:, place] = timedelta(days=3).total_seconds()
    findings = found(put("purchases_30d", lambda v: column(v, "purchases_30d") - 1), 0, age)
    assert str(findings["purchases_30d"].looks_like).startswith("stale")


def test_what_is_behind_is_counted_apart_with_its_age():
    again = right()
    verdict = np.zeros(again.shape, np.int8)
    verdict[:10] = BEHIND
    ages = np.where(verdict == BEHIND, 1.5, 0.0)
    names = ["x"] * len(again)
    finding = compare([Rows(CURRENT, again, again, verdict, ages, names, names)])["positives_7d"]
    assert (finding.equal, finding.behind, finding.skewed) == (USERS * K - 10, 10, 0)
    assert finding.behind_s_max == 1.5
    assert finding.share == 0


def test_integers_are_compared_exactly_and_floats_to_a_millionth():
    base = np.zeros((1, len(CURRENT.names)), np.float32)
    whole, broken = CURRENT.place["positives_7d"], CURRENT.place["price_mean_90d"]
    base[0, [whole, broken]] = 1_000_000.0
    for step, is_whole, is_broken in ((0.0, True, True), (0.5, False, True), (2.0, False, False)):
        same = equal(CURRENT, base + np.float32(step), base)[0]
        assert (same[whole], same[broken]) == (is_whole, is_broken), step
    none = np.full_like(base, np.nan)
    assert equal(CURRENT, none, none).all()
    assert not equal(CURRENT, none, base).any()


def test_one_value_in_a_thousand_is_the_limit():
    findings = found(lambda values: None)
    one = next(iter(findings.values()))
    assert LIMIT == 0.001
    assert one.share == 0
    few = found(
        put("purchases_30d", lambda v: column(v, "purchases_30d") + (np.arange(len(v)) == 0))
    )
    assert over(few) == ["purchases_30d"], "1 of 300"
    assert over(few, limit=0.01) == []


def test_windows_of_one_count_know_each_other():
    names = CURRENT.names
    item = CURRENT.features[CURRENT.place["item_positives_30d"]]
    assert [(names[place], window) for place, window in siblings(CURRENT, item)] == [
        ("item_positives_1h", "1 h"),
        ("item_positives_24h", "24 h"),
        ("item_positives_7d", "7 d"),
    ]


class Log:
    """Two partitions; the first has forgotten its oldest records."""

    partitions, begin = 2, 3

    def __init__(self, records: list[list[dict]]) -> None:
        self.records = records

    def end_offset(self, topic: str, partition: int) -> int:
        assert topic == "served"
        return len(self.records[partition])

    def read(self, topic: str, partition: int, offset: int, limit: int) -> list[Record]:
        if partition == 0 and offset < self.begin:
            raise RecordsGone("served 0", offset, self.begin)
        some = self.records[partition][offset : offset + limit]
        return [Record(offset + n, "u", value) for n, value in enumerate(some)]


def record(minute: int, **changes) -> dict:
    return {
        "request_id": f"r{minute}",
        "served_at": (AT + timedelta(minutes=minute)).isoformat(),
        "user_id": "u",
        "context": {"device": "app"},
        "bundle": "b",
        "item_ids": ["i1", "i2"],
        "features": [[1.0, None], [2.0, 3.0]],
        **changes,
    }


def test_the_newest_slates_with_features_are_read(monkeypatch):
    monkeypatch.setattr("monitoring.skew.READ_AT_ONCE", 4)
    first = [record(minute) for minute in range(0, 20, 2)]
    second = [record(minute) for minute in range(1, 21, 2)]
    second[9] |= {"features": []}  # not sampled, or nothing was ranked
    del second[8]["context"]  # from before it was logged
    found = read_slates(Log([first, second]), 4)
    assert [slate.request_id for slate in found] == ["r14", "r15", "r16", "r18"]
    assert np.isnan(found[0].features[0, 1])
    assert found[0].features.dtype == np.float32
    some = read_slates(
        Log([first, second]), 99, AT + timedelta(minutes=10), AT + timedelta(minutes=13)
    )
    assert [slate.request_id for slate in some] == ["r10", "r11", "r12"]
    assert len(read_slates(Log([first, second]), 99)) == (10 - Log.begin) + 8, (
        "what is gone is gone"
    )
