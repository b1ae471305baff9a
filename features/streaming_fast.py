"""The fold of features/streaming.py for batches of many users: same values, several times the speed.

What makes it quick: records are checked by one expression on the usual path, a user's events of a
batch are folded in a run with the state in local variables and changed in place, ids are forgotten
once per run, and a row is made once per user and batch. What is unusual goes through the plain
functions, so there is one place that says why a record is refused.
"""

import json
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from typing import Any

from features.definitions import HISTORY_LENGTH
from features.errors import ContractError
from features.schema import EVENT_TYPES, MAX_ID_LENGTH
from features.streaming import (
    ALLOWED_LATENESS_US,
    FUTURE_SLACK_US,
    LATEST_US,
    RECENT_IDS,
    SESSION_GAP_US,
    State,
    forget,
    moment,
    parsed,
)
from features.windows import DAY, HOUR, add

Raw = tuple[int, str, bytes]
"""offset, key, the record's bytes"""

Event = tuple[int, str, str, str, str | None, int]
"""offset, event_id, event_type, item_id, session_id, event_at (µs)"""

KINDS = frozenset(EVENT_TYPES)


@dataclass(slots=True)
class Batch:
    """Records of one partition, checked."""

    runs: dict[str, list[Event]] = field(default_factory=dict)
    """User -> events in order."""

    arrived: dict[str, int] = field(default_factory=dict)
    """User -> arrival of the first of them, µs since 1970; only where it says so."""

    refused: list[tuple[int, str]] = field(default_factory=list)
    """(offset, reason) of what is no event."""


def checked(records: Iterable[Raw]) -> Batch:
    """Records as events by user; what is no event is told with the reason of `parsed`."""
    batch, moments = Batch(), _Moments()
    runs, arrived = batch.runs, batch.arrived
    for offset, key, raw in records:
        try:
            value = decoded(raw)
            event_id, kind, item_id = value["event_id"], value["event_type"], value["item_id"]
            session_id, seen_at = value["session_id"], moments[value["seen_at"]]
            event_at = moments[value["event_at"]]
            usual = (
                value["user_id"] == key
                and kind in KINDS
                and 0 < len(event_id) <= MAX_ID_LENGTH
                and 0 < len(item_id) <= MAX_ID_LENGTH
                and 0 < len(key) <= MAX_ID_LENGTH
                and event_id.isascii()
                and item_id.isascii()
                and key.isascii()
                and (session_id is None or (session_id.isascii() and len(session_id) < 99))
                and event_at <= seen_at + FUTURE_SLACK_US
            )
        except (KeyError, TypeError, AttributeError, ContractError):
            usual, seen_at = False, LATEST_US
        if usual:
            event = (offset, event_id, kind, item_id, session_id, event_at)
        else:
            try:
                event = _by_the_book(offset, key, raw)
            except ContractError as error:
                batch.refused.append((offset, str(error)))
                continue
        if (run := runs.get(key)) is None:
            runs[key] = [event]
            if seen_at < LATEST_US:
                arrived[key] = seen_at
        else:
            run.append(event)
    return batch


def decoded(raw: bytes) -> Any:
    """A record's JSON.

    Raises:
        ContractError: it is none, is nested too deeply, or holds NaN or infinity.
    """
    try:
        text = raw.decode()
        value, end = _scan(text, 0)
        if end == len(text):
            return value
        return _DECODER.decode(text)  # white space around it, or something behind it
    except StopIteration:
        raise ContractError("record is empty or no JSON") from None
    except (ValueError, RecursionError) as error:
        raise ContractError(f"record is no JSON: {ascii(str(error))[1:80]}") from None


def fold_run(
    state: State, events: Iterable[Event], positive_types: Collection[str]
) -> tuple[list[Event], list[Event]]:
    """Fold one user's events, in order, into `state`, which is changed in place.

    Returns:
        Events that were new, and those that were late; the others were repeats.
    """
    new: list[Event] = []
    late: list[Event] = []
    version, watermark, floor = state["version"], state["watermark"], state["floor"]
    recent, last_event_at = state["recent"], state["last_event_at"]
    items, times = state["history_items"], state["history_at"]
    hour, day = state["hour"], state["day"]
    session_id, session_events = state["session_id"], state["session_events"]
    first_at, last_at = state["session_first_at"], state["session_last_at"]
    positives = state["session_positives"]
    hour_us, day_us = HOUR.step_us, DAY.step_us
    for event in events:
        _, event_id, kind, item_id, session, event_at = event
        horizon = watermark - ALLOWED_LATENESS_US
        if event_at < horizon or event_at < floor:
            late.append(event)
            continue
        known_at = recent.get(event_id)
        if known_at is not None and known_at >= horizon:  # older ones are as good as forgotten
            continue
        new.append(event)
        version = event_at if event_at > version else version + 1
        if event_at > watermark:
            watermark = event_at
        recent[event_id] = event_at
        if len(recent) > RECENT_IDS:
            state["watermark"], state["recent"] = watermark, recent
            forget(state)
            recent, floor = state["recent"], state["floor"]
        is_positive = kind in positive_types
        if kind == "impression":
            shown, clicked = 1, 0
        else:
            shown, clicked = 0, int(kind == "click")
            if event_at > last_event_at:
                last_event_at = event_at
        if is_positive:
            place = 0
            while place < len(times) and times[place] > event_at:
                place += 1
            if place < HISTORY_LENGTH:
                items.insert(place, item_id)
                times.insert(place, event_at)
                del items[HISTORY_LENGTH:], times[HISTORY_LENGTH:]
        if shown or clicked:
            if hour and hour[-1][0] == event_at // hour_us:
                step = hour[-1]
                step[1] += shown
                step[2] += clicked
            else:
                add(hour, HOUR, event_at, shown, clicked)
            if day and day[-1][0] == event_at // day_us:
                step = day[-1]
                step[1] += shown
                step[2] += clicked
            else:
                add(day, DAY, event_at, shown, clicked)
        if session is not None and session_id is not None:
            is_same = session == session_id
        else:
            is_same = first_at - SESSION_GAP_US <= event_at <= last_at + SESSION_GAP_US
        if session_events and is_same:
            session_id = session or session_id
            first_at = event_at if event_at < first_at else first_at
            last_at = event_at if event_at > last_at else last_at
            session_events += 1
            positives += is_positive
        elif event_at >= last_at:
            session_id, first_at, last_at = session, event_at, event_at
            session_events, positives = 1, int(is_positive)
    state["version"], state["watermark"], state["last_event_at"] = version, watermark, last_event_at
    state["session_id"], state["session_events"] = session_id, session_events
    state["session_first_at"], state["session_last_at"] = first_at, last_at
    state["session_positives"], state["recent"] = positives, recent
    if new:
        forget(state)
    return new, late


class _Moments(dict[str, int]):
    """ISO 8601 text -> µs; the impressions of a slate share theirs."""

    def __missing__(self, text: str) -> int:
        found = self[text] = moment(text)
        return found


def _by_the_book(offset: int, key: str, raw: bytes) -> Event:
    event = parsed(decoded(raw), key)
    return (
        offset, event["event_id"], event["event_type"], event["item_id"], event["session_id"],
        event["event_at"],
    )  # fmt: skip


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


_DECODER = json.JSONDecoder(parse_constant=_no_constant)
_scan = _DECODER.scan_once  # type: ignore[attr-defined]  # of C, unknown to the stubs
"""The C scanner itself: `loads` spends as long again on finding the encoding and the white space."""
