"""The lake: exact in, exact out, safe to repeat, whole days only."""

import hashlib
import os
from datetime import UTC, datetime, timedelta

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.errors import ContractError
from features.schema import EVENTS, ITEMS, USERS, DatasetInfo
from pipelines import lake
from pipelines.catalogue import table_of

NOON = datetime(2026, 2, 1, 12, tzinfo=UTC)


def events(*rows):
    """(event_id, hours after NOON) -> a table of purchases."""
    frame = pd.DataFrame(
        {
            "event_id": [event_id for event_id, _ in rows],
            "event_type": "purchase",
            "user_id": "u",
            "item_id": "i",
            "event_at": [NOON + timedelta(hours=hours) for _, hours in rows],
            "seen_at": [NOON + timedelta(hours=hours) for _, hours in rows],
        }
    )
    return table_of(frame, EVENTS)


def digests(folder):
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_events_come_back_sorted_by_time_and_then_by_id(tmp_path):
    assert lake.append_events(tmp_path, events(("c", 14), ("b", 1), ("a", 1))) == 3
    assert lake.read_events(tmp_path)["event_id"].tolist() == ["a", "b", "c"]


def test_a_day_is_one_file_named_by_its_utc_date(tmp_path):
    lake.append_events(tmp_path, events(("a", 0), ("b", 11.9), ("c", 12)))
    files = sorted(path.parent.name for path in tmp_path.rglob("part.parquet"))
    assert files == ["event_date=2026-02-01", "event_date=2026-02-02"]


def test_times_are_microseconds_in_utc_in_the_file_and_in_the_frame(tmp_path):
    lake.append_events(tmp_path, events(("a", 0)))
    (file,) = tmp_path.rglob("part.parquet")
    assert pq.read_schema(file) == EVENTS
    assert lake.read_events(tmp_path)["event_at"].dtype == "datetime64[us, UTC]"


def test_the_window_holds_its_start_and_not_its_end(tmp_path):
    lake.append_events(tmp_path, events(("a", 0), ("b", 12), ("c", 24)))
    got = lake.read_events(tmp_path, NOON, NOON + timedelta(hours=24))
    assert got["event_id"].tolist() == ["a", "b"]
    midnight = lake.read_events(tmp_path, end=NOON + timedelta(hours=12), columns=["event_id"])
    assert midnight["event_id"].tolist() == ["a"]
    assert lake.read_events(tmp_path, NOON + timedelta(days=9)).empty


def test_columns_come_in_the_order_asked_for(tmp_path):
    lake.append_events(tmp_path, events(("a", 0)))
    assert list(lake.read_events(tmp_path, columns=["item_id", "event_at"]).columns) == [
        "item_id",
        "event_at",
    ]


def test_known_ids_add_nothing_and_change_no_byte(tmp_path):
    lake.append_events(tmp_path, events(("a", 0), ("b", 30)))
    before = digests(tmp_path)
    assert lake.append_events(tmp_path, events(("b", 30), ("a", 0))) == 0
    assert digests(tmp_path) == before


def test_a_retry_after_midnight_is_still_the_same_event(tmp_path):
    lake.append_events(tmp_path, events(("a", 11)))
    assert lake.append_events(tmp_path, events(("a", 13))) == 0
    assert lake.append_events(tmp_path, events(("b", 1), ("b", 2))) == 1


def test_a_late_event_is_sorted_into_its_day(tmp_path):
    lake.append_events(tmp_path, events(("b", 5)))
    lake.append_events(tmp_path, events(("a", 1)))
    assert lake.read_events(tmp_path)["event_id"].tolist() == ["a", "b"]


def test_a_crash_between_days_is_healed_by_a_second_run(tmp_path, monkeypatch):
    table = events(("a", 0), ("b", 24), ("c", 48))
    real, calls = os.replace, []

    def dies_at_the_second_file(source, target):
        calls.append(target)
        if len(calls) == 2:
            raise KeyboardInterrupt
        real(source, target)

    monkeypatch.setattr(os, "replace", dies_at_the_second_file)
    with pytest.raises(KeyboardInterrupt):
        lake.append_events(tmp_path, table)
    monkeypatch.setattr(os, "replace", real)
    assert lake.read_events(tmp_path)["event_id"].tolist() == ["a"]  # whole days, never half of one
    assert lake.append_events(tmp_path, table) == 2
    assert lake.read_events(tmp_path)["event_id"].tolist() == ["a", "b", "c"]


@settings(max_examples=15, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from("abcdefgh"), st.integers(0, 100)), max_size=20), st.data()
)
def test_any_split_into_batches_holds_the_same_ids(tmp_path_factory, rows, data):
    cut = data.draw(st.integers(0, len(rows)))
    folder = tmp_path_factory.mktemp("lake")
    new = lake.append_events(folder, events(*rows[:cut]))
    new += lake.append_events(folder, events(*rows[cut:]))
    assert new == len({event_id for event_id, _ in rows})
    if rows:
        kept = lake.read_events(folder)
        assert sorted(kept["event_id"]) == sorted({event_id for event_id, _ in rows})
        assert kept["event_at"].is_monotonic_increasing


def test_items_users_and_info_come_back_as_written(tmp_path):
    lake.write_items(
        tmp_path, table_of(pd.DataFrame({"item_id": ["b", "a"], "price": [1.5, None]}), ITEMS)
    )
    lake.write_users(tmp_path, table_of(pd.DataFrame({"user_id": ["u"]}), USERS))
    info = DatasetInfo("shop", positive_types=("purchase",), seen_filter=True)
    lake.write_info(tmp_path, info)
    assert lake.read_items(tmp_path)["item_id"].tolist() == ["a", "b"]
    assert lake.read_items(tmp_path)["price"].isna().tolist() == [True, False]
    assert list(lake.read_users(tmp_path).columns) == USERS.names
    assert lake.read_info(tmp_path) == info


def test_what_was_never_written_says_what_to_do(tmp_path):
    with pytest.raises(ContractError, match=r"no events in .*; run `shortlist ingest` first"):
        lake.read_events(tmp_path)
    with pytest.raises(ContractError, match=r"no items\.parquet in .*; run `shortlist ingest`"):
        lake.read_items(tmp_path)
    (tmp_path / "dataset.json").write_text('{"nonsense": 1}')
    with pytest.raises(
        ContractError, match=r"is not a data set's description .*ingest the data again"
    ):
        lake.read_info(tmp_path)


def test_a_table_of_another_shape_is_refused(tmp_path):
    with pytest.raises((KeyError, pa.ArrowInvalid)):
        lake.append_events(tmp_path, pa.table({"event_id": ["a"]}))
