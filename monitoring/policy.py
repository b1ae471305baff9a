"""From a drift report to one decision, as a pure function: retrain or not, and the sentence why."""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from features.definitions import BY_COLUMN

MOMENTARY = frozenset(
    {"hour_of_day", "day_of_week", "position", "idle_minutes"}
    | {name for name, feature in BY_COLUMN.items() if feature.tier in ("hourly", "seconds")}
)
"""Not compared: they say when in the day, the hour or the session a slate was served. The reference was
taken at one moment, so these differ on every healthy day."""

NAMED = 6
"""Columns that a sentence names at most."""


@dataclass(frozen=True, slots=True)
class Thresholds:
    """When the policy acts."""

    rows_min: int = 1_000  # a hundred slates; below that, halves of one population look different
    share_max: float = 0.25  # of the compared columns; a few always move with season and stock
    score_max: float = 0.4  # standard deviations; the model's own output, so it counts by itself
    null_share_max: float = 0.05  # defaults fill every gap, so a missing value is a broken pipe
    outside_share_max: float = 0.02  # of one column, far beyond anything the reference had


@dataclass(frozen=True, slots=True)
class Decision:
    """What to do, and why."""

    retrain: bool
    because: str
    blocked: bool = False
    """The data itself is in doubt: training on it would teach the fault."""


def decide(drift: dict[str, Any], thresholds: Thresholds | None = None) -> Decision:
    """The decision that a report of `monitoring.drift.drift_report` leads to.

    Interview: The drift alarm fires. Do you retrain?
        First ask whether the data is broken: missing or impossible values come from a pipe, not
        from users, and a model trained on them learns the fault. Then whether there is enough of
        it. Only then does a shift of many inputs, or of the scores, justify a new training; and
        the gate at promotion still decides whether the result is any better.
        Trade-off: a policy of thresholds is crude, but each number in it can be argued about.
        Shown by: tests/monitoring/test_policy.py::test_broken_data_blocks_even_where_all_drifted
    """
    limits = thresholds or Thresholds()
    if broken := _broken(drift["quality"], limits):
        return Decision(False, f"training is blocked, the data looks broken: {broken}", True)
    rows = drift["rows"]["current"]
    if rows < limits.rows_min:
        return Decision(
            False, f"{rows} rows were served, too few to judge (needs {limits.rows_min})"
        )
    score = drift["columns"]["score"]
    if drift["share"] > limits.share_max:
        named = _drifted(drift["columns"])
        return Decision(
            True,
            f"{drift['share']:.0%} of the input columns drifted (limit {limits.share_max:.0%}), "
            f"most of all {named}",
        )
    if score["score"] > limits.score_max:
        return Decision(
            True,
            f"the scores moved by {score['score']:.2f} (limit {limits.score_max:.2f}) "
            f"while {drift['share']:.0%} of the input columns drifted",
        )
    return Decision(
        False,
        f"{drift['share']:.0%} of the input columns drifted (limit {limits.share_max:.0%}) and the "
        f"scores moved by {score['score']:.2f} (limit {limits.score_max:.2f})",
    )


def held(
    decision: Decision, trained_at: datetime | None, now: datetime, pause: timedelta
) -> Decision:
    """The decision, unless the last training is too recent for another one.

    Args:
        decision: from `decide`.
        trained_at: when the last training ended, whatever came of it; None = there was none.
        now: of the same clock.
        pause: at least so much between the end of one and the start of the next.

    Interview: The drift alarm goes on after the retraining. What keeps you from training all day?
        A pause that counts from the end of the last training, whatever its outcome: a challenger
        that the gate refused would be refused again on the same evidence. Drift that is still
        there after the pause has brought an hour of new data with it.
        Trade-off: a real change right after a training waits for the pause to end.
        Shown by: tests/monitoring/test_policy.py::test_a_recent_training_holds_the_next_one_back
    """
    if not decision.retrain or trained_at is None or now - trained_at >= pause:
        return decision
    minutes = (now - trained_at) / timedelta(minutes=1)
    return replace(
        decision,
        retrain=False,
        because=f"{decision.because}; but the last training ended {minutes:.0f} minutes ago "
        f"(pause {pause / timedelta(minutes=1):.0f})",
    )


def _broken(quality: dict[str, dict[str, float]], limits: Thresholds) -> str:
    """The faults, named; empty where there are none."""
    faults = [
        f"{name} is missing in {column['null_share']:.0%} of the rows"
        for name, column in quality.items()
        if column["null_share"] > limits.null_share_max
    ]
    faults += [
        f"{name} is out of range in {column['outside_share']:.0%} of the rows"
        for name, column in quality.items()
        if column["outside_share"] > limits.outside_share_max
    ]
    return _listed(faults)


def _drifted(columns: dict[str, dict[str, Any]]) -> str:
    """The drifted columns, the furthest first."""
    drifted = [name for name, column in columns.items() if column["drifted"] and name != "score"]
    return _listed(sorted(drifted, key=lambda name: -columns[name]["score"]))


def _listed(names: list[str]) -> str:
    more = len(names) - NAMED
    return ", ".join(names[:NAMED]) + (f" and {more} more" if more > 0 else "")
