"""Item features by the second: what was shown and clicked in the last hour and day, by item.

The second stage of the stream. The first, which owns users, says which events count; this one owns
items, folds what all users did to one of them, and so is the only writer of the item's row.

An item that nobody touches must cool down all the same. So its row holds at the *watermark* of its
partition, the newest event time of any item there, and is due again as soon as the watermark passes
the end of its oldest step: event time ticks, not a clock, and a replay ends in the same rows.
"""

from collections.abc import Iterable
from typing import Any

from features.windows import DAY, HOUR, add, total

ItemState = dict[str, Any]
"""version, at (the watermark that the row holds at, µs), hour, day (steps of features/windows.py)."""

Touch = tuple[int, bool]
"""event_at (µs), whether it was a click; else it was an impression."""

WINDOWS = (("hour", HOUR), ("day", DAY))


def fold_item(state: ItemState | None, touches: Iterable[Touch], watermark: int) -> ItemState:
    """The item's state after these touches, as of the watermark.

    Args:
        state: from the previous call; None = never touched. It is not changed.
        touches: in any order; none = only time went on.
        watermark: newest event time of the partition, µs; not before any touch.

    Interview: Item counts come from every user's events. Who may write them?
        One worker per item. A worker that owns users would hold a part of each item's count and
        overwrite the parts of others; increments would add up and count twice after a replay. So
        the first stage re-sends what it accepted, keyed by item, and each delta names the offsets
        it covers: the owner of the item takes each offset once, and pushes absolute values.
        Trade-off: a second topic and a second hop, some hundred milliseconds of freshness.
        Shown by: tests/pipelines/test_stream_items.py::test_a_delta_that_comes_twice_counts_once
    """
    after: ItemState = {"version": 0, "at": 0} | (state or {})
    for name, window in WINDOWS:
        counts = [step[:] for step in after.get(name, ())]
        for event_at, is_click in touches:
            add(counts, window, event_at, int(not is_click), int(is_click))
        last = watermark // window.step_us
        after[name] = [step for step in counts if step[0] > last - window.steps]
    after["at"] = watermark
    after["version"] = max(watermark, after["version"] + 1)
    return after


def item_row(state: ItemState) -> dict[str, int]:
    """The values of `item_stream` that a state stands for."""
    row = {"version": state["version"]}
    for name, window in WINDOWS:
        shown, clicked = total(state[name], window, state["at"])
        row |= {f"item_impressions_{SPAN[name]}": shown, f"item_clicks_{SPAN[name]}": clicked}
    return row


def due(state: ItemState) -> int | None:
    """The watermark at which the row changes although nobody touched the item; None = never.

    Examples:
        >>> state = fold_item(None, [(7 * 60_000_000, True)], 7 * 60_000_000)
        >>> due(state) // 60_000_000  # the step 00:05 to 00:10 leaves the hour at 01:05
        65
    """
    ends = [
        (state[name][0][0] + window.steps) * window.step_us
        for name, window in WINDOWS
        if state[name]
    ]
    return min(ends, default=None)


SPAN = {"hour": "1h", "day": "24h"}
