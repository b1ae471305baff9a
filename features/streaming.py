"""Streaming features: a pure fold over one user's events, in the order in which they arrive.

    state, event  ->  state, row

`state` is all that is remembered of a user and is plain JSON; `row` is what gets pushed, in
absolute values, so that pushing it twice changes nothing. This file is the definition, event by
event; the worker and the offline history run features/streaming_fast.py, which a test holds equal.

Order of arrival is not order of happening. The *watermark* is the newest event time seen of this
user. An event up to ALLOWED_LATENESS behind it is put where it belongs in history and windows, but
never turns the session back; what is later still is `late`: it changes nothing here, is counted and
set aside by the worker, and reaches the features with the next batch run, since the lake has it. So
ids need remembering no longer than that, and no repeat is ever counted twice.
"""

from collections.abc import Collection, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from features.definitions import HISTORY_LENGTH, SESSION_GAP
from features.errors import ContractError
from features.request import DAY_US, MINUTE_US, microseconds
from features.schema import EVENT_TYPES, MAX_ID_LENGTH
from features.windows import DAY, HOUR, add, total

State = dict[str, Any]
"""version, watermark, floor, last_event_at, history_items, history_at, session_*, recent, hour, day.

Times in µs; `recent` is event id -> event_at of what may still be repeated; `hour` and `day` are
steps of features/windows.py."""

Row = dict[str, Any]
"""Values of `user_stream` by column name, for one user."""

Verdict = Literal["new", "repeated", "late"]

SESSION_GAP_US = int(SESSION_GAP.total_seconds() * 1e6)

ALLOWED_LATENESS = timedelta(hours=1)
"""A phone in a tunnel sends within minutes, one in a drawer within days: this is for the first."""

ALLOWED_LATENESS_US = int(ALLOWED_LATENESS.total_seconds() * 1e6)

FUTURE_SLACK_US = 5 * MINUTE_US
"""Clocks are wrong by so much; an event from further ahead would make all that follow it late."""

LATEST_US = microseconds(datetime(2100, 1, 1, tzinfo=UTC))
"""Bounds the time of an event that does not say when it arrived."""

RECENT_IDS = 500
"""Event ids remembered per user. Who sends more within ALLOWED_LATENESS gets less lateness: what
is older than the ids that were forgotten (`floor`) is late, for nobody could tell a repeat."""

FORGOTTEN_TOGETHER = 100


def fold(
    state: State | None, event: Mapping[str, Any], positive_types: Collection[str]
) -> tuple[State, Row | None]:
    """What is known after one more event.

    Args:
        state: from the previous call; None = the user's first event. It is not changed.
        event: event_id, event_type, item_id, session_id (or None), event_at (µs); see `parsed`.
        positive_types: event types that enter the history.

    Returns:
        The new state and the row to push; the same state and None for an event that is not new.

    Interview: How do you make a streaming feature exact when the worker can be killed anywhere?
        Keep the arithmetic a pure fold and commit its state together with the next offset in one
        transaction, so each event counts once; then push absolute values with a version that only
        grows, so repeating a push is harmless. No step needs the log and the store to commit
        together.
        Trade-off: the whole state of each changed user is rewritten once per batch; a counter
        increment would be cheaper and wrong after the first replay.
        Shown by: tests/pipelines/test_stream_crash.py::test_kill_9_loses_and_repeats_nothing
    """
    state = empty() if state is None else state
    if judged(state, event["event_id"], event["event_at"]) != "new":
        return state, None
    event_at, kind = event["event_at"], event["event_type"]
    after = dict(state)
    after["version"] = max(event_at, state["version"] + 1)
    after["watermark"] = max(event_at, state["watermark"])
    after["recent"] = state["recent"] | {event["event_id"]: event_at}
    forget(after)
    if kind != "impression":
        after["last_event_at"] = max(event_at, state["last_event_at"])
    if kind in positive_types:
        _remember(after, event["item_id"], event_at)
    if kind in ("impression", "click"):
        for name, window in (("hour", HOUR), ("day", DAY)):
            after[name] = [step[:] for step in state[name]]
            add(after[name], window, event_at, kind == "impression", kind == "click")
    _count(after, event, kind in positive_types)
    return after, row_of(after)


def judged(state: State, event_id: str, event_at: int) -> Verdict:
    """Whether an event is new, late, or a repeat.

    A repeat of what is no longer remembered is late: the two cannot be told apart.

    Interview: An event arrives two hours late. Do you count it?
        Not in the stream. Duplicates are known by their ids, and ids can be forgotten only because
        nothing older than the allowed lateness is let in any more: lateness, memory and exactness
        are one setting. A late event is counted and set aside, and the nightly batch, which reads
        the lake, has it the next morning.
        Trade-off: an hour costs some kilobytes per active user; a day would cost most of the state.
        Shown by: tests/features/test_streaming.py::test_no_repeat_counts_twice_however_late_it_comes
    """
    if event_at < max(state["watermark"] - ALLOWED_LATENESS_US, state["floor"]):
        return "late"
    return "repeated" if event_id in state["recent"] else "new"


def forget(state: State) -> None:
    """Forget ids that can only come back late, and the oldest where there are too many; in place.

    `recent` is replaced, never changed.
    """
    horizon = state["watermark"] - ALLOWED_LATENESS_US
    recent = {i: at for i, at in state["recent"].items() if at >= horizon}
    if len(recent) > RECENT_IDS:
        oldest = sorted(recent, key=recent.__getitem__)[:FORGOTTEN_TOGETHER]
        state["floor"] = recent[oldest[-1]] + 1
        recent = {i: at for i, at in recent.items() if at >= state["floor"]}
    state["recent"] = recent


def row_of(state: State) -> Row:
    """The values of `user_stream` that a state stands for."""
    day_ago = state["last_event_at"] - DAY_US
    impressions_1h, clicks_1h = total(state["hour"], HOUR, state["watermark"])
    impressions_24h, clicks_24h = total(state["day"], DAY, state["watermark"])
    return {
        "session_events": state["session_events"],
        "session_positives": state["session_positives"],
        "session_minutes": (state["session_last_at"] - state["session_first_at"]) / MINUTE_US,
        "positives_24h": sum(at >= day_ago for at in state["history_at"]),
        "impressions_1h": impressions_1h,
        "clicks_1h": clicks_1h,
        "impressions_24h": impressions_24h,
        "clicks_24h": clicks_24h,
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
                f"{name} is {str(text)[:40]!a}, expected 1 to {MAX_ID_LENGTH} characters"
            )
    session_id = value.get("session_id")
    session_id = None if session_id is None else str(session_id)[:MAX_ID_LENGTH]
    for name in ("event_id", "user_id", "item_id", "session_id"):
        if not is_text(value.get(name)):
            raise ContractError(f"{name} is {value[name][:40]!a}, which is no Unicode text")
    if value.get("event_type") not in EVENT_TYPES:
        raise ContractError(
            f"event_type is {str(value.get('event_type'))[:40]!r}, expected one of {EVENT_TYPES}"
        )
    if value["user_id"] != key:
        raise ContractError(
            f"user_id {value['user_id']!r} under key {key!r}: it belongs to another partition"
        )
    return {
        "event_id": value["event_id"],
        "event_type": value["event_type"],
        "item_id": value["item_id"],
        "session_id": session_id,
        "event_at": _bounded(moment(value.get("event_at")), value),
    }


def moment(value: Any) -> int:
    """ISO 8601 text as µs since 1970; text without an offset is read as UTC.

    Raises:
        ContractError: it is none, or lies before 1970.
    """
    try:
        found = datetime.fromisoformat(value)
        at_us = microseconds(found if found.tzinfo else found.replace(tzinfo=UTC))
    except (TypeError, ValueError, OverflowError):
        raise ContractError(
            f"event_at is {str(value)[:40]!a}, expected ISO 8601 such as 2026-03-01T12:00:00Z"
        ) from None
    if at_us <= 0:
        raise ContractError(f"event_at is {value!r}, expected a moment after 1970")
    return at_us


def is_text(value: Any) -> bool:
    """Whether a store can hold it: half a surrogate pair is valid JSON, and no UTF-8."""
    if isinstance(value, str) and not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            return False
    return True


def upgraded(state: State) -> State:
    """A stored state in today's shape; of one from before windows and lateness, what it knows."""
    if "recent_ids" not in state:
        return state
    kept = {name: value for name, value in state.items() if name != "recent_ids"}
    watermark = max(state["session_last_at"], state["last_event_at"])
    ids = dict.fromkeys(state["recent_ids"], watermark)
    return {**empty(), **kept, "watermark": watermark, "recent": ids}


def _bounded(event_at: int, value: Mapping[str, Any]) -> int:
    """The event's time, if it can be: not further ahead of its arrival than clocks are wrong."""
    try:
        seen_at = moment(value.get("seen_at"))
    except ContractError:
        seen_at = LATEST_US  # it does not say when it arrived
    if event_at > seen_at + FUTURE_SLACK_US:
        raise ContractError(
            f"event_at is {str(value.get('event_at'))[:40]!r}, later than its arrival at "
            f"{str(value.get('seen_at'))[:40]!r} by more than 5 minutes"
        )
    return event_at


def empty() -> State:
    """Of a user of whom nothing is known."""
    return {
        "version": 0,
        "watermark": 0,
        "floor": 0,
        "last_event_at": 0,
        "history_items": [],
        "history_at": [],
        "session_id": None,
        "session_first_at": 0,
        "session_last_at": 0,
        "session_events": 0,
        "session_positives": 0,
        "recent": {},
        "hour": [],
        "day": [],
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
