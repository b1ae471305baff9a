"""Ids from content: the same rows give the same ids, wherever they stand."""

import pandas as pd

from pipelines.event_ids import with_event_ids


def rows(*items):
    return pd.DataFrame(
        {
            "event_type": "purchase",
            "user_id": "u",
            "item_id": list(items),
            "event_at": pd.to_datetime(["2026-02-01T10:00:00Z"] * len(items)).as_unit("us"),
            "value": [2.5] * len(items),
        }
    )


def test_shuffled_rows_get_the_same_ids():
    one = with_event_ids(rows("a", "b", "c"))
    other = with_event_ids(rows("c", "a", "b"))
    assert dict(zip(one["item_id"], one["event_id"], strict=True)) == dict(
        zip(other["item_id"], other["event_id"], strict=True)
    )


def test_two_equal_rows_are_two_events():
    ids = with_event_ids(rows("a", "a", "b"))["event_id"]
    assert ids.nunique() == 3
    assert set(with_event_ids(rows("a"))["event_id"]) < set(ids)  # a file that grew adds only


def test_given_ids_are_kept_and_gaps_are_filled():
    events = rows("a", "b").assign(event_id=["mine", None])
    ids = with_event_ids(events)["event_id"].tolist()
    assert ids[0] == "mine"
    assert len(ids[1]) == 32


def test_an_id_depends_on_value_and_time():
    one, other = rows("a"), rows("a")
    other["value"] = 2.6
    assert with_event_ids(one)["event_id"][0] != with_event_ids(other)["event_id"][0]
    later = rows("a")
    later["event_at"] += pd.Timedelta("1us")
    assert with_event_ids(one)["event_id"][0] != with_event_ids(later)["event_id"][0]
