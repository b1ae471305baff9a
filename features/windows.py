"""Sliding counts: how often in the last hour, the last day, kept as counts per step of time.

A window is its newest N whole steps, the step of the moment asked about included. Steps are what
bounds the memory: a popular item with a million clicks keeps as few numbers as a quiet one.
"""

from dataclasses import dataclass

from features.request import HOUR_US, MINUTE_US

Steps = list[list[int]]
"""[step, impressions, clicks] with ascending steps; a step is its start in µs / the step's length."""


@dataclass(frozen=True, slots=True)
class Window:
    """The newest `steps` steps of `step_us` each."""

    step_us: int
    steps: int


HOUR = Window(5 * MINUTE_US, 12)
DAY = Window(HOUR_US, 24)


def add(counts: Steps, window: Window, event_at: int, impressions: int, clicks: int) -> None:
    """Count one event where it belongs, in place; steps that left the window are forgotten.

    Args:
        counts: changed.
        window: says how long a step is, and how many are kept.
        event_at: µs since 1970; an event older than the window counts nowhere.
        impressions: 1 or 0.
        clicks: 1 or 0.

    Interview: How do you count clicks of the last hour without keeping the clicks?
        In steps: twelve counters of five minutes each, keyed by event time, so that a late click
        still finds its step and the oldest step falls out as a whole.
        Trade-off: the window's far edge moves in jumps of one step, so "an hour" means 55 to 60
        minutes; batch counts the same steps, and then both agree to the digit.
        Shown by: tests/features/test_windows.py::test_steps_count_what_the_plain_definition_counts
    """
    step = event_at // window.step_us
    if counts and counts[-1][0] == step:  # nearly always
        newest = counts[-1]
    elif not counts or counts[-1][0] < step:
        while counts and counts[0][0] <= step - window.steps:
            del counts[0]
        newest = [step, 0, 0]
        counts.append(newest)
    else:
        if step <= counts[-1][0] - window.steps:
            return
        place = len(counts)
        while place and counts[place - 1][0] > step:
            place -= 1
        if place and counts[place - 1][0] == step:
            newest = counts[place - 1]
        else:
            newest = [step, 0, 0]
            counts.insert(place, newest)
    newest[1] += impressions
    newest[2] += clicks


def total(counts: Steps, window: Window, at: int) -> tuple[int, int]:
    """Impressions and clicks of the window that ends with the step of `at` (µs since 1970).

    Examples:
        >>> counts: Steps = []
        >>> add(counts, HOUR, 0, 1, 0)
        >>> add(counts, HOUR, 59 * MINUTE_US, 0, 1)
        >>> total(counts, HOUR, 59 * MINUTE_US), total(counts, HOUR, 60 * MINUTE_US)
        ((1, 1), (0, 1))
    """
    last = at // window.step_us
    inside = [c for c in counts if last - window.steps < c[0] <= last]
    return sum(c[1] for c in inside), sum(c[2] for c in inside)
