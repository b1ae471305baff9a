"""What is sent when, decided before the first request leaves.

Throughout: n requests, U users.
"""

from dataclasses import dataclass

import numpy as np

ZIPF_EXPONENT = 1.0
"""Rank r visits 1 / r as often as rank 1: of 1,000 users the first 100 make two thirds."""

NEW_SHARE = 0.1
"""Of the users, as long as there are known ones; they cost less, for they have no history."""

USERS = 1_000
"""Different users, unless told otherwise."""


@dataclass(frozen=True, slots=True)
class Plan:
    """One row per request, in the order of their times.

    Interview: Why is the load test open loop, and what goes wrong otherwise?
        Users do not wait for each other. A client that sends its next request only after the last
        answer stops asking while the server stalls, so a second of standstill is one slow sample
        among thousands. Here all times are drawn beforehand, as a Poisson process, and latency
        runs from the planned moment: whoever was due in the stall has waited.
        Trade-off: past saturation the queue grows without end and the tail says how long the test
        was; so the rate is given, and a rate that the server cannot do shows as a failure.
        Shown by: tests/pipelines/test_load.py::test_a_stall_is_counted_for_everybody_who_was_due
    """

    due_s: np.ndarray  # (n,) float64 seconds after the start, ascending
    is_event: np.ndarray  # (n,) bool a click; else a recommendation
    user_ix: np.ndarray  # (n,) int64 who asks; a click is by whoever was shown the slate
    draw: np.ndarray  # (n, 2) float64 in [0, 1): which of the last slates, which of its items

    def __len__(self) -> int:
        return len(self.due_s)


def plan(
    rate: float, seconds: float, events_share: float, users: int, rng: np.random.Generator
) -> Plan:
    """Poisson arrivals of Zipf users.

    Args:
        rate: requests per second, reads and events together; the plan's own count varies.
        seconds: length of the plan.
        events_share: part of the requests that are clicks, 0 to 1.
        users: U.
        rng: seeded; the same one gives the same plan.
    """
    count = rng.poisson(rate * seconds)  # given their number, the times are uniform
    return Plan(
        np.sort(rng.uniform(0.0, seconds, count)),
        rng.random(count) < events_share,
        rng.choice(users, count, p=zipf(users)),
        rng.random((count, 2)),
    )


def zipf(users: int) -> np.ndarray:
    """Share of all visits by rank, (U,), adding to 1.

    Examples:
        >>> [round(float(share), 3) for share in zipf(3)]  # 1, 1/2, 1/3 of 11/6
        [0.545, 0.273, 0.182]
    """
    weights = 1.0 / np.arange(1, users + 1) ** ZIPF_EXPONENT
    return weights / weights.sum()


def visitors(known: list[str], users: int | None, rng: np.random.Generator) -> list[str]:
    """Who visits, by rank: known users in random order, and every so often somebody new.

    Args:
        known: users with a history, without repeats.
        users: U; None = as many as the known ones allow, at most `USERS`.
        rng: seeded.
    """
    count = users or max(min(round(len(known) / (1 - NEW_SHARE)), USERS), 1)
    waiting = [known[place] for place in rng.permutation(len(known))]
    is_new = rng.random(count) < NEW_SHARE
    return [
        waiting.pop() if waiting and not is_new[rank] else f"load-{rank}" for rank in range(count)
    ]
