"""The fold: hand-computed values, and what must hold for any events in any order."""

import copy
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.definitions import HISTORY_LENGTH, of_view
from features.errors import ContractError
from features.streaming import RECENT_IDS, fold, parsed, row_of

POSITIVE = ("click", "purchase")
T0 = 1_700_000_000_000_000
MINUTE, DAY = 60_000_000, 86_400_000_000


def event(event_id, minutes, event_type="click", item_id="a", session_id=None):
    return {
        "event_id": event_id,
        "event_type": event_type,
        "item_id": item_id,
        "session_id": session_id,
        "event_at": T0 + int(minutes * MINUTE),
    }


def run(events, state=None):
    rows = []
    for each in events:
        state, row = fold(state, each, POSITIVE)
        rows.append(row)
    return state, rows


def test_three_events_by_hand():
    _, rows = run([event("1", 0), event("2", 1, "impression", "b"), event("3", 3, "purchase", "c")])
    assert rows[-1] == {
        "session_events": 3,
        "session_positives": 2,
        "session_minutes": 3.0,
        "positives_24h": 2,
        "history_items": ["c", "a"],
        "history_at": [T0 + 3 * MINUTE, T0],
        "last_event_at": T0 + 3 * MINUTE,
        "version": T0 + 3 * MINUTE,
    }
    assert rows[1]["last_event_at"] == T0  # an impression is ours, not the user's
    assert {f.name for f in of_view("user_stream")} < set(rows[-1])


def test_a_repeated_event_changes_nothing():
    state, _ = run([event("1", 0), event("2", 1)])
    again, row = fold(state, event("1", 0), POSITIVE)
    assert row is None
    assert again == state


def test_the_memory_of_ids_is_bounded():
    state, _ = run([event(str(n), n) for n in range(3 * RECENT_IDS)])
    assert len(state["recent_ids"]) == RECENT_IDS
    assert len(state["history_items"]) == len(state["history_at"]) == HISTORY_LENGTH


def test_a_gap_of_31_minutes_opens_a_session_and_29_do_not():
    _, rows = run([event("1", 0), event("2", 29), event("3", 60)])
    assert [row["session_events"] for row in rows] == [1, 2, 1]
    assert [row["session_minutes"] for row in rows] == [0.0, 29.0, 0.0]


def test_session_ids_decide_where_both_name_one():
    _, rows = run(
        [
            event("1", 0, session_id="s1"),
            event("2", 90, session_id="s1"),  # long, but the caller says it is one session
            event("3", 91, "impression"),  # names none: the gap decides
            event("4", 92, session_id="s2"),
        ]
    )
    assert [row["session_events"] for row in rows] == [1, 2, 3, 1]


def test_a_late_event_enters_the_history_but_not_the_current_session():
    _, rows = run(
        [
            event("1", 0, session_id="s1"),
            event("2", 120, session_id="s2"),
            event("3", 5, item_id="late", session_id="s1"),
        ]
    )
    last = rows[-1]
    assert last["history_items"] == ["a", "late", "a"]
    assert last["session_events"] == 1
    assert last["last_event_at"] == T0 + 120 * MINUTE
    assert last["version"] == rows[-2]["version"] + 1  # still newer than what was pushed before


def test_positives_24h_looks_back_from_the_last_event():
    day = 24 * 60
    events = [event("1", 0), event("2", 1), event("3", day + 0.5), event("4", day + 2, "view")]
    _, rows = run(events)
    assert [row["positives_24h"] for row in rows] == [1, 2, 2, 1]


EVENTS = st.lists(
    st.builds(
        event,
        event_id=st.integers(0, 30).map(str),
        minutes=st.integers(0, 300),
        event_type=st.sampled_from(["impression", "view", "click", "purchase"]),
        item_id=st.sampled_from("abc"),
        session_id=st.sampled_from([None, "s1", "s2"]),
    ),
    max_size=40,
)


@given(EVENTS)
@settings(max_examples=150, deadline=None)
def test_versions_only_grow_and_the_input_state_is_never_changed(events):
    state, last = None, 0
    for each in events:
        before = copy.deepcopy(state)
        after, row = fold(state, each, POSITIVE)
        assert state == before
        if row is not None:
            assert row["version"] > last
            last = row["version"]
            assert row["history_at"] == sorted(row["history_at"], reverse=True)
        state = after


@given(EVENTS, st.randoms(use_true_random=False))
@settings(max_examples=150, deadline=None)
def test_history_does_not_depend_on_the_order_of_arrival(events, random):
    unique = list({each["event_id"]: each for each in events}.values())
    shuffled = unique[:]
    random.shuffle(shuffled)
    if not unique:
        return
    one, other = run(unique)[0], run(shuffled)[0]
    assert one["history_at"] == other["history_at"]
    assert sorted(zip(one["history_at"], one["history_items"], strict=True)) == sorted(
        zip(other["history_at"], other["history_items"], strict=True)
    )
    assert one["last_event_at"] == other["last_event_at"]


@given(EVENTS, st.integers(0, 40))
@settings(max_examples=100, deadline=None)
def test_a_state_that_went_through_json_continues_the_same(events, cut):
    whole, rows = run(events)
    head, _ = run(events[:cut])
    tail, later = run(events[cut:], None if head is None else json.loads(json.dumps(head)))
    assert tail == whole
    assert later == rows[cut:]


@given(EVENTS)
@settings(max_examples=100, deadline=None)
def test_delivering_everything_twice_equals_once(events):
    once, _ = run(events)
    twice, _ = run(events, once)
    assert (once and row_of(once)) == (twice and row_of(twice))


GOOD = {
    "event_id": "e", "event_type": "click", "user_id": "u", "item_id": "i",
    "event_at": "2026-03-01T00:00:00.000001Z", "bundle": "ignored",
}  # fmt: skip


def test_a_record_becomes_an_event_with_microseconds():
    assert parsed(GOOD, "u") == {
        "event_id": "e", "event_type": "click", "item_id": "i", "session_id": None,
        "event_at": 1_772_323_200_000_001,
    }  # fmt: skip
    naive = parsed({**GOOD, "event_at": "2026-03-01T00:00:00.000001"}, "u")
    assert naive["event_at"] == 1_772_323_200_000_001


@pytest.mark.parametrize(
    ("record", "key", "message"),
    [
        ([1], "u", "record is list, expected a JSON object"),
        ({**GOOD, "item_id": ""}, "u", "item_id is '', expected 1 to 128 characters"),
        ({**GOOD, "event_id": "x" * 129}, "u", "event_id is 'x+', expected 1 to 128"),
        ({**GOOD, "user_id": 7}, "u", "user_id is '7', expected"),
        ({**GOOD, "event_type": "hover"}, "u", "event_type is 'hover', expected one of"),
        (GOOD, "v", "user_id 'u' under key 'v': it belongs to another partition"),
        ({**GOOD, "event_at": "soon"}, "u", "event_at is 'soon', expected ISO 8601"),
        ({**GOOD, "event_at": None}, "u", "event_at is 'None', expected ISO 8601"),
        ({**GOOD, "event_at": "1969-01-01T00:00:00Z"}, "u", "expected a moment after 1970"),
    ],
)
def test_what_is_no_event_is_refused_with_field_and_value(record, key, message):
    with pytest.raises(ContractError, match=message):
        parsed(record, key)
