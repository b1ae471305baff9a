"""Where the past ends: one cut in time for everybody.

    first ... ranker_from ... test_from ... end
    |  retrieval learns  |  ranker learns |  everything is tested

The ranker must see retrieval at work on time that retrieval has not learned from, as it will be
when serving; and the test must come after both.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np

from features.errors import ContractError

DAY_US = 86_400_000_000
SHORT = timedelta(days=5)
"""Shorter data is cut to the microsecond: rounding to midnight could leave one side empty."""

SKEW = 2.0
"""So many times more or less than asked for may lie after a cut that is moved to midnight. Where one
day holds most of the data, midnight is too coarse, and the cut stays where the share puts it."""


@dataclass(frozen=True, slots=True)
class Split:
    """Moments in UTC; every interval is closed below and open above."""

    ranker_from: datetime
    test_from: datetime
    end: datetime  # just after the last positive


def time_split(event_at: np.ndarray, test_share: float = 0.2) -> Split:
    """Cut so that about `test_share` of the positives lie in the test, and of the rest likewise.

    Args:
        event_at: (E,) µs since 1970 of all positives, in any order.
        test_share: of the positives; in (0, 1).

    Raises:
        ContractError: there is no positive.

    Interview: Why split by time and not leave one item out per user?
        Leave-one-out trains on what other users did after the test moment, so models learn next
        week's hits and their order changes. One cut for everybody asks the question that serving
        asks: knowing the past, what comes?
        Trade-off: users and items that appear after the cut drop out of the test, and one cut is
        one sample of one season.
        Shown by: tests/models/test_split.py::test_nothing_trained_on_is_later_than_what_is_tested
    """
    if len(event_at) == 0:
        raise ContractError(
            "no positive event in the lake, expected at least one to split by time; "
            "ingest events of a positive type first"
        )
    event_at = np.sort(event_at)
    midnight = bool(event_at[-1] - event_at[0] >= SHORT // timedelta(microseconds=1))
    test_from = _cut(event_at, test_share, midnight)
    before = event_at[event_at < test_from]
    ranker_from = _cut(before, test_share, midnight) if len(before) else test_from
    return Split(_utc(ranker_from), _utc(test_from), _utc(int(event_at[-1]) + 1))


def _cut(event_at: np.ndarray, share_after: float, midnight: bool) -> int:
    """Where `share_after` of the sorted times lies behind; the nearest midnight if that will do."""
    cut = int(event_at[min(int(len(event_at) * (1 - share_after)), len(event_at) - 1)])
    at_midnight = round(cut / DAY_US) * DAY_US
    share = float((event_at >= at_midnight).mean())
    fits = share_after / SKEW <= share <= share_after * SKEW
    return at_midnight if midnight and fits else cut


def _utc(us: int) -> datetime:
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=us)
