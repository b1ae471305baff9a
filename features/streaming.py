"""Streaming features: a pure fold over one user's events, in the order in which they arrive.

    state, event  ->  state, row

`state` is all that is remembered of a user and is plain JSON; `row` is what gets pushed, in
absolute values, so that pushing it twice changes nothing. The worker, the offline history of the
views and the tests all run this one function.

Order of arrival is not order of happening. A late event is put where it belongs in the history, but
never turns the session back; a repeated event is known by its id, among the last RECENT_IDS.
"""

from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from typing import Any

from features.definitions import HISTORY_LENGTH, SESSION_GAP
from features.errors import ContractError
from features.request import DAY_US, MINUTE_US, microseconds
from features.schema import EVENT_TYPES, MAX_ID_LENGTH

State = dict[str, Any]
"""version, last_event_at, history_items, history_at, session_*, recent_ids; times in µs."""

Row = dict[str, Any]
"""Values of `user_stream` by column name, for one user."""

SESSION_GAP_US = int(SESSION_GAP.total_seconds() * 1e6)

RECENT_IDS = 200
"""Event ids remembered per user against repeats: a client retries within seconds, not weeks."""


def fold(
    state: State | None, event: Mapping[str, Any], positive_types: Collection[str]
) -> tuple[State, Row | None]:
    """What is known after one more event.

    Args:
        state: from the previous call; None = the user's first event. It is not changed.
        event: event_id, event_type, item_id, session_id (or None), event_at (µs); see `parsed`.
        positive_types: event types that enter the history.

    Returns:
        The new state and the row to push; the same state and None for a repeated event.

    Interview: How do you make a streaming feature exact when the worker can be killed anywhere?
        Keep the arithmetic a pure fold and commit its state together with the next offset in one
        transaction, so each event counts once; then push absolute values with a version that only
        grows, so repeating a push is harmless. No step needs the log and the store to commit
        together.
        Trade-off: one state row is rewritten per event; a counter increment would be cheaper and
        wrong after the first replay.
        Shown by: tests/pipelines/test_stream.py::test_kill_9_loses_and_repeats_nothing
    """
    if state is None:
        state = _empty()
    elif event["event_id"] in state["recent_ids"]:
        return state, None
    event_at, is_positive = event["event_at"], event["event_type"] in positive_types
    after = dict(state)
    after["version"] = max(event_at, state["version"] + 1)
    after["recent_ids"] = [*state["recent_ids"][1 - RECENT_IDS :], event["event_id"]]
    if event["event_type"] != "impression":
        after["last_event_at"] = max(event_at, state["last_event_at"])
    if is_positive:
        _remember(after, event["item_id"], event_at)
    _count(after, event, is_positive)
    return after, row_of(after)


def row_of(state: State) -> Row:
    """The values of `user_stream` that a state stands for."""
    day_ago = state["last_event_at"] - DAY_US
    return {
        "session_events": state["session_events"],
        "session_positives": state["session_positives"],
        "session_minutes": (state["session_last_at"] - state["session_first_at"]) / MINUTE_US,
        "positives_24h": sum(at >= day_ago for at in state["history_at"]),
        "history_items": state["history_items"],
        "history_at": state["history_at"],
        "last_event_at": state["last_event_at"],
        "version": state["version"],
    }


def parsed(value: Any, key: str) -> dict[str, Any]:
    """One log record as the fold wants it.

    Args:
        value: the record's JSON.
        key: the record's key, which chose its partition.

    Raises:
        ContractError: the record is no event; the message names field and value.
    """
    if not isinstance(value, dict):
        raise ContractError(f"record is {type(value).__name__}, expected a JSON object")
    for name in ("event_id", "user_id", "item_id"):
        text = value.get(name)
        if not isinstance(text, str) or not 0 < len(text) <= MAX_ID_LENGTH:
            raise ContractError(
                f"{name} is {str(text)[:40]!r}, expected 1 to {MAX_ID_LENGTH} characters"
            )
    if value.get("event_type") not in EVENT_TYPES:
        raise ContractError(
            f"event_type is {str(value.get('event_type'))[:40]!r}, expected one of {EVENT_TYPES}"
        )
    if value["user_id"] != key:
        raise ContractError(
            f"user_id {value['user_id']!r} under key {key!r}: it belongs to another partition"
        )
    session_id = value.get("session_id")
    return {
        "event_id": value["event_id"],
        "event_type": value["event_type"],
        "item_id": value["item_id"],
        "session_id": None if session_id is None else str(session_id)[:MAX_ID_LENGTH],
        "event_at": _moment(value.get("event_at")),
    }


def _empty() -> State:
    return {
        "version": 0,
        "last_event_at": 0,
        "history_items": [],
        "history_at": [],
        "session_id": None,
        "session_first_at": 0,
        "session_last_at": 0,
        "session_events": 0,
        "session_positives": 0,
        "recent_ids": [],
    }


def _remember(state: State, item_id: str, event_at: int) -> None:
    """Put a positive at its place in the history, newest first; makes new lists."""
    times = state["history_at"]
    # Nearly always 0: only late events look further.
    place = next((ix for ix, at in enumerate(times) if at <= event_at), len(times))
    for name, value in (("history_items", item_id), ("history_at", event_at)):
        old = state[name]
        state[name] = [*old[:place], value, *old[place : HISTORY_LENGTH - 1]][:HISTORY_LENGTH]


def _count(state: State, event: Mapping[str, Any], is_positive: bool) -> None:
    """Count the event for the session it belongs to: the current one, a new one, or a past one."""
    event_at, session_id = event["event_at"], event["session_id"]
    if state["session_events"] and _is_same_session(state, event_at, session_id):
        state["session_id"] = session_id or state["session_id"]
        state["session_first_at"] = min(state["session_first_at"], event_at)
        state["session_last_at"] = max(state["session_last_at"], event_at)
        state["session_events"] += 1
        state["session_positives"] += is_positive
    elif event_at >= state["session_last_at"]:
        state["session_id"] = session_id
        state["session_first_at"] = state["session_last_at"] = event_at
        state["session_events"], state["session_positives"] = 1, int(is_positive)
    # else: a late event of a session that is over; what counts is the current one.


def _is_same_session(state: State, event_at: int, session_id: str | None) -> bool:
    """By id where both sides name one, else by the gap; impressions of our own name none."""
    if session_id is not None and state["session_id"] is not None:
        return bool(session_id == state["session_id"])
    return (
        state["session_first_at"] - SESSION_GAP_US
        <= event_at
        <= state["session_last_at"] + SESSION_GAP_US
    )


def _moment(value: Any) -> int:
    """ISO 8601 text as µs since 1970; text without an offset is read as UTC."""
    try:
        moment = datetime.fromisoformat(value)
    except (TypeError, ValueError):
        raise ContractError(
            f"event_at is {str(value)[:40]!r}, expected ISO 8601 such as 2026-03-01T12:00:00Z"
        ) from None
    at_us = microseconds(moment if moment.tzinfo else moment.replace(tzinfo=UTC))
    if at_us <= 0:
        raise ContractError(f"event_at is {value!r}, expected a moment after 1970")
    return at_us
