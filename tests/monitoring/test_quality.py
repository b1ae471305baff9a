"""Each fault in a batch is found, named, and told from a healthy day; a busy day is no fault."""

from datetime import UTC, date, datetime, timedelta

import numpy as np
import pandas as pd
import pytest

from features.definitions import VIEWS, stored_of
from features.schema import EVENTS
from monitoring.quality import (
    DAYS_NEEDED,
    LIMITS,
    Known,
    day_findings,
    freshness,
    view_findings,
)

FIRST = date(2026, 2, 1)
DAYS, ROWS = 12, 400
ITEMS = [f"i{number}" for number in range(30)]
KNOWN = Known(
    category={**dict.fromkeys(ITEMS, "books"), "new": "garden", "bare": "books"},
    described=frozenset([*ITEMS, "new"]),
    users=frozenset(f"u{number}" for number in range(50)),
)


def a_day(number: int, rows: int = ROWS) -> pd.DataFrame:
    """An ordinary day: 60 % impressions, 30 % clicks, 10 % purchases at about 20."""
    rng = np.random.default_rng(number)
    kinds = np.array(["impression", "click", "purchase"])[
        np.repeat([0, 1, 2], [rows * 6 // 10, rows * 3 // 10, rows // 10])
    ]
    n = len(kinds)
    midnight = pd.Timestamp(FIRST + timedelta(days=number), tz="UTC")
    at = midnight + pd.to_timedelta(np.sort(rng.uniform(0, 86_399, n)), unit="s")
    events = pd.DataFrame(
        {
            "event_id": [f"e{number}-{place}" for place in range(n)],
            "event_type": kinds,
            "user_id": rng.choice(sorted(KNOWN.users), n),
            "item_id": rng.choice(ITEMS, n),
            "session_id": "s",
            "request_id": [f"r{number}-{place}" for place in range(n)],
            "position": np.where(kinds == "impression", rng.integers(1, 11, n), np.nan),
            "event_at": at,
            "seen_at": at,
            "value": np.where(kinds == "purchase", rng.lognormal(3, 0.5, n), np.nan),
            "context": "{}",
            "propensity": np.nan,
        }
    )
    return events.reindex(columns=EVENTS.names).astype({"propensity": float})


def month(last: pd.DataFrame) -> list[tuple[date, pd.DataFrame]]:
    ordinary = [(FIRST + timedelta(days=n), a_day(n)) for n in range(DAYS - 1)]
    return [*ordinary, (FIRST + timedelta(days=DAYS - 1), last)]


def found(last: pd.DataFrame, severity: str = "fail", **more) -> set[tuple[str, str]]:
    findings = day_findings(month(last), 1, KNOWN, **more)
    return {(f.check, f.column) for f in findings if f.severity == severity}


def last_day() -> pd.DataFrame:
    return a_day(DAYS - 1)


def cells(column: str, value, share: float = 1.0, kind: str | None = None) -> pd.DataFrame:
    events = last_day()
    rows = events.index if kind is None else events.index[events["event_type"] == kind]
    if events[column].dtype != object and value is None:
        value = np.nan
    events.loc[rows[: max(int(len(rows) * share), 1)], column] = value
    return events


def twice(events: pd.DataFrame, share: float) -> pd.DataFrame:
    again = events.iloc[: int(len(events) * share)]
    again = again.assign(event_id=[f"again-{place}" for place in range(len(again))])
    return pd.concat([events, again], ignore_index=True)


def test_a_healthy_batch_has_no_findings():
    assert day_findings(month(last_day()), DAYS, KNOWN) == []


FAULTS = {
    "an id is missing": (lambda: cells("event_id", None, 0.01), ("nulls", "event_id")),
    "an id is empty": (lambda: cells("user_id", "", 0.01), ("range", "user_id")),
    "a time is missing": (lambda: cells("seen_at", pd.NaT, 0.01), ("nulls", "seen_at")),
    "the place is no longer sent": (
        lambda: cells("position", None, kind="impression"),
        ("nulls", "position"),
    ),
    "most prices are no longer sent": (
        lambda: cells("value", None, 0.6, "purchase"),
        ("nulls", "value"),
    ),
    "sessions are no longer sent": (lambda: cells("session_id", None), ("nulls", "session_id")),
    "a negative price": (lambda: cells("value", -1.0, 0.01, "purchase"), ("range", "value")),
    "a place before the first": (lambda: cells("position", 0, 0.01), ("range", "position")),
    "a chance of two": (lambda: cells("propensity", 2.0, 0.01), ("range", "propensity")),
    "an event of no known type": (
        lambda: cells("event_type", "hover", 0.01),
        ("range", "event_type"),
    ),
    "cents for euros": (
        lambda: last_day().assign(value=lambda events: events["value"] * 100),
        ("level of purchases", "value"),
    ),
    "a partition's worth is left": (lambda: last_day().iloc[::12], ("volume", "")),
    "nothing came": (lambda: last_day().iloc[:0], ("volume", "")),
    "a burst of bots": (lambda: a_day(DAYS - 1, 20 * ROWS), ("volume", "")),
    "an id twice on a day": (
        lambda: pd.concat([last_day(), last_day().iloc[:1]], ignore_index=True),
        ("uniqueness", "event_id"),
    ),
    "an id of another day": (
        lambda: cells("event_id", "e0-0", 0.001),
        ("uniqueness", "event_id"),
    ),
    "events repeated under new ids": (
        lambda: twice(last_day(), 0.8),
        ("repeats under new ids", "event_id"),
    ),
    "an item that the catalogue lacks": (
        lambda: cells("item_id", "ghost", 0.01),
        ("unknown items", "item_id"),
    ),
    "a user that the table lacks": (
        lambda: cells("user_id", "ghost", 0.01),
        ("unknown users", "user_id"),
    ),
    "half of the items have no description": (
        lambda: cells("item_id", "bare", 0.5),
        ("undescribed items", "item_id"),
    ),
    "half of the events in a new category": (
        lambda: cells("item_id", "new", 0.5),
        ("new categories", "category"),
    ),
    "clicks no longer come": (
        lambda: cells("event_type", "impression", kind="click").assign(position=1.0),
        ("mix of types", "click"),
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_is_found_and_named(fault):
    make, wanted = FAULTS[fault]
    if fault == "clicks no longer come":  # 30 % of the rows: a warning, not yet a failure
        assert wanted in found(make(), "warn")
    else:
        assert wanted in found(make())


def test_a_finding_says_what_was_seen_what_was_expected_and_what_to_do():
    events = last_day().assign(value=lambda events: events["value"] * 100)
    (finding,) = day_findings(month(events), 1, KNOWN)
    assert finding.batch == "events 2026-02-12"
    assert 1_500 < float(finding.found) < 2_600
    assert finding.expected.startswith("about 2")
    assert "cents for euros" in finding.remedy


@pytest.mark.parametrize("times", [0.4, 2.5])
def test_a_quiet_or_a_busy_day_is_no_fault(times):
    assert found(a_day(DAYS - 1, int(ROWS * times))) == set()


def test_a_failed_day_is_no_example_for_the_next(monkeypatch):
    """Seven days of a fault stay seven failed days: they do not become what is usual."""
    days = month(last_day())
    broken = [(day, e.assign(value=e["value"] * 100)) if n > 5 else (day, e)
              for n, (day, e) in enumerate(days)]  # fmt: skip
    findings = day_findings(broken, DAYS - 6, KNOWN)
    assert [f.batch for f in findings] == [f"events {day}" for day, _ in days[6:]]


def test_an_accepted_day_warns_and_counts_as_usual():
    day = FIRST + timedelta(days=DAYS - 1)
    burst = a_day(DAYS - 1, 20 * ROWS)
    assert found(burst, accepted=frozenset([day])) == set()
    assert ("volume", "") in found(burst, "warn", accepted=frozenset([day]))


def test_a_day_that_the_file_cuts_off_is_not_blamed_for_its_volume():
    cut = last_day().iloc[: ROWS // 20]
    cut = cut.assign(event_at=pd.Timestamp(FIRST + timedelta(days=DAYS - 1), tz="UTC"))
    assert found(cut, may_be_cut=True) == set()
    assert ("volume", "") in found(cut)


def test_a_shop_of_few_days_is_judged_by_itself_only():
    days = month(a_day(DAYS - 1, 20 * ROWS))[-DAYS_NEEDED:]
    assert day_findings(days, 1, KNOWN) == []
    days[-1] = (days[-1][0], cells("value", -1.0, 0.01, "purchase"))
    assert {f.check for f in day_findings(days, 1, KNOWN)} == {"range"}


def test_old_news_warn_and_older_ones_fail():
    now = datetime(2026, 3, 1, tzinfo=UTC)
    ages = [timedelta(hours=26), *LIMITS.age]
    told = [freshness("events", now - age, now) for age in ages]
    assert [[f.severity for f in findings] for findings in told] == [[], ["warn"], ["fail"]]
    assert told[2][0].found == "72.0 h old"


MOMENT = datetime(2026, 2, 12, tzinfo=UTC)


def rows_of(view: str, seed: int, n: int = 150) -> pd.DataFrame:
    """A view's rows with plausible values."""
    rng = np.random.default_rng(seed)
    table = {key: [f"{key}-{place}" for place in range(n)] for key in VIEWS[view].entity}
    for feature in stored_of(view):
        table[feature.column] = rng.integers(0, 9, n) / (1 if feature.dtype == "int" else 10)
    return pd.DataFrame(table)


def found_in(view: str, rows: pd.DataFrame, known_until: datetime = MOMENT) -> set[tuple[str, str]]:
    before = [rows_of(view, seed) for seed in range(DAYS_NEEDED)]
    return {(f.check, f.column) for f in view_findings(view, MOMENT, rows, before, known_until)}


@pytest.mark.parametrize("view", ["user_daily", "item_daily", "user_category_daily"])
def test_healthy_rows_of_a_view_pass(view):
    assert found_in(view, rows_of(view, 9)) == set()


def test_faults_in_a_views_rows_are_named():
    def item_rows(**columns) -> pd.DataFrame:
        return rows_of("item_daily", 9).assign(**columns)

    rows = item_rows()
    gap = rows["item_coec_30d"].where(rows.index != 3)
    assert found_in("item_daily", item_rows(item_coec_30d=gap)) == {("nulls", "item_coec_30d")}
    rate = {"item_click_rate_30d": 1.2}
    assert ("range", "item_click_rate_30d") in found_in("item_daily", item_rows(**rate))
    assert found_in("item_daily", item_rows(item_age_days=rows["item_age_days"] - 5)) == {
        ("range", "item_age_days")
    }
    twice = pd.concat([rows, rows.iloc[:1]])
    assert found_in("item_daily", twice) == {("uniqueness", "item_id")}
    assert found_in("item_daily", item_rows(item_coec_30d=1.0)) == {("frozen", "item_coec_30d")}
    assert found_in("item_daily", rows.iloc[:10]) == {("volume", "")}
    late = MOMENT + timedelta(days=3)
    assert found_in("item_daily", rows, late) == {("freshness", "as_of")}
