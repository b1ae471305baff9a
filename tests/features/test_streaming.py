"""The fold: hand-computed values, and what must hold for any events in any order."""

import copy
import itertools
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features import streaming, streaming_fast
from features.definitions import HISTORY_LENGTH, of_view
from features.errors import ContractError
from features.streaming import RECENT_IDS, fold, judged, parsed, row_of, upgraded
from features.streaming_fast import checked, fold_run

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
        "impressions_1h": 1,
        "clicks_1h": 1,
        "impressions_24h": 1,
        "clicks_24h": 1,
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
    state, _ = run([event(str(n), n / 100) for n in range(3 * RECENT_IDS)])
    assert RECENT_IDS - 100 <= len(state["recent"]) <= RECENT_IDS
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


def test_an_event_out_of_order_enters_the_history_but_not_the_current_session():
    _, rows = run(
        [
            event("1", 0, session_id="s1"),
            event("2", 120, session_id="s2"),
            event("3", 61, item_id="late", session_id="s1"),
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


def test_an_hour_late_is_counted_and_more_is_late():
    state, rows = run([event("1", 120), event("2", 60), event("3", 59)])
    assert rows[1] is not None
    assert rows[1]["history_at"] == [T0 + 120 * MINUTE, T0 + 60 * MINUTE]
    assert rows[2] is None
    assert judged(state, "3", T0 + 59 * MINUTE) == "late"
    assert judged(state, "2", T0 + 60 * MINUTE) == "repeated"
    assert judged(state, "4", T0 + 60 * MINUTE) == "new"


def test_windows_slide_with_the_users_newest_event():
    _, rows = run(
        [
            event("1", 0, "impression"),
            event("2", 1),
            event("3", 64, "view"),
            event("4", 1500, "view"),
        ]
    )
    found = [
        [row[f"{n}_{w}"] for n in ("impressions", "clicks") for w in ("1h", "24h")] for row in rows
    ]
    assert found == [[1, 1, 0, 0], [1, 1, 1, 1], [0, 1, 0, 1], [0, 0, 0, 0]]


def test_a_state_from_before_windows_goes_on():
    state, _ = run([event("1", 0), event("2", 1, item_id="b")])
    old = {
        n: v for n, v in state.items() if n not in ("recent", "floor", "watermark", "hour", "day")
    }
    new = upgraded(old | {"recent_ids": ["1", "2"]})
    assert fold(new, event("2", 1), POSITIVE)[1] is None
    row = fold(new, event("3", 2), POSITIVE)[1]
    assert row["history_items"] == ["a", "b", "a"]
    assert upgraded(state) is state


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
    one, other = run(near(unique))[0], run(near(shuffled))[0]
    assert one["history_at"] == other["history_at"]
    assert sorted(zip(one["history_at"], one["history_items"], strict=True)) == sorted(
        zip(other["history_at"], other["history_items"], strict=True)
    )
    assert one["last_event_at"] == other["last_event_at"]


def near(events):
    """The same with times within the allowed lateness."""
    return [each | {"event_at": T0 + (each["event_at"] - T0) // 5} for each in events]


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
    unique = list({each["event_id"]: each for each in events}.values())
    once, _ = run(unique)
    twice, _ = run(unique, once)
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


@given(EVENTS, st.data())
@settings(max_examples=150, deadline=None)
def test_no_repeat_counts_twice_however_late_it_comes(events, data):
    """The worst that can come: everything again, in any order, after hundreds of other events."""
    unique = list({each["event_id"]: each for each in events}.values())
    state, _ = run([*unique, *(event(f"x{n}", n / 100) for n in range(RECENT_IDS))])
    again, rows = run(data.draw(st.permutations(unique)), state)
    assert set(rows) <= {None}
    assert again == state


def as_tuple(offset, each):
    names = ("event_id", "event_type", "item_id", "session_id", "event_at")
    return (offset, *(each[name] for name in names))


@given(EVENTS, st.lists(st.integers(0, 40), max_size=4), st.integers(1, 12))
@settings(max_examples=300, deadline=None)
def test_the_fast_fold_equals_the_plain_one(events, cuts, limit):
    """States, rows and verdicts, wherever the batches are cut, also where ids run out."""
    with pytest.MonkeyPatch.context() as patched:
        for module in (streaming, streaming_fast):
            patched.setattr(module, "RECENT_IDS", limit)
        patched.setattr(streaming, "FORGOTTEN_TOGETHER", limit // 2 + 1)
        plain, new, late = None, [], []
        for offset, each in enumerate(events):
            verdict = judged(plain or streaming.empty(), each["event_id"], each["event_at"])
            new += [offset] * (verdict == "new")
            late += [offset] * (verdict == "late")
            plain, _ = fold(plain, each, POSITIVE)
        fast, found = streaming.empty(), ([], [])
        edges = [0, *sorted(cuts), len(events)]
        for start, end in itertools.pairwise(edges):
            runs = [as_tuple(n, e) for n, e in enumerate(events)][start:end]
            for kept, some in zip(found, fold_run(fast, runs, POSITIVE), strict=True):
                kept += [event[0] for event in some]
    assert found == (new, late)
    assert fast == (plain or streaming.empty())
    assert row_of(fast) == row_of(plain or streaming.empty())


AT = st.sampled_from(
    [
        "2026-03-01T00:00:00Z",
        "2026-03-01T09:00:00+09:00",
        "2026-03-01",
        "soon",
        None,
        5,
        "9999-01-01",
    ]
)
VALUES = st.fixed_dictionaries(
    {},
    optional={
        "event_id": st.sampled_from(["e", "", "x" * 129, "é", "\ud800", None, 7, ["e"]]),
        "event_type": st.sampled_from(["click", "hover", None, [], {}]),
        "user_id": st.sampled_from(["u", "v", None, 7]),
        "item_id": st.sampled_from(["i", "", "x" * 200, None]),
        "session_id": st.sampled_from(["s", "", None, 7, "x" * 300, "\udfff"]),
        "event_at": AT,
        "seen_at": AT,
    },
)


@given(st.lists(VALUES.map(lambda more: GOOD | {"session_id": None} | more), max_size=6))
@settings(max_examples=300, deadline=None)
def test_records_are_checked_alike_fast_and_plainly(values):
    found = checked((n, "u", json.dumps(value).encode()) for n, value in enumerate(values))
    events, refused = [], []
    for offset, value in enumerate(values):
        try:
            events.append(as_tuple(offset, parsed(value, "u")))
        except ContractError as error:
            refused.append((offset, str(error)))
    assert found.runs.get("u", []) == events
    assert found.refused == refused
