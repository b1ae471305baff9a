"""From what was sent to what may be said about it.

Latency runs from the moment a request was *due*. It holds every good answer, and every request
that was given up with the time it had waited by then: leaving those out would flatter the server
most when it is worst. Other failures are counted, not timed: a refusal is quick.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from hdrh.histogram import HdrHistogram  # type: ignore[import-untyped]

from pipelines.load.budget import ABSENT, STAGES
from pipelines.load.generator import Sent

HIGHEST_US, DIGITS = 120_000_000, 3
"""Two minutes, longer than any request may wait; every value to one part in a thousand."""

PERCENTILES = {"p50_ms": 50.0, "p95_ms": 95.0, "p99_ms": 99.0, "p999_ms": 99.9, "max_ms": 100.0}

LAG_FLOOR_MS = 1.0
"""A lag that the timers and the scheduler of an idle machine make by themselves."""

LAG_SHARE = 0.1
"""Of the same percentile of latency: a figure that is a tenth too high still tells a story."""


def histogram(values_ms: Iterable[float]) -> HdrHistogram:
    """Microseconds, three significant digits."""
    counted = HdrHistogram(1, HIGHEST_US, DIGITS)
    for value in values_ms:
        counted.record_value(min(max(round(value * 1000), 1), HIGHEST_US))
    return counted


def percentiles(counted: HdrHistogram) -> dict[str, float | None]:
    """Milliseconds; all None where nothing was counted."""
    return {name: at(counted, percent) for name, percent in PERCENTILES.items()}


def at(counted: HdrHistogram, percent: float) -> float | None:
    """One percentile in milliseconds; None where nothing was counted."""
    if counted.get_total_count() == 0:
        return None
    return counted.get_value_at_percentile(percent) / 1000


def latencies_ms(sent: Iterable[Sent]) -> list[float]:
    """From the planned moment to the answer, or to giving up."""
    return [(one.done_s - one.due_s) * 1000 for one in sent if one.problem is None or one.timed_out]


def withheld(lag: HdrHistogram, latency: HdrHistogram) -> str | None:
    """Why no latency may be reported; None where it may.

    Interview: How do you know that the load test measured the server and not itself?
        The generator notes how late it sent each request. Lateness is part of what it reports as
        latency, so where the lag is more than a tenth of the figure (or a millisecond, which any
        scheduler may take), the figure is about the generator, and none is given. Better no number
        than a wrong one that gets quoted.
        Trade-off: on a busy machine whole runs are thrown away; and a lag below the limit still
        makes the server look a little slower than it is.
        Shown by: tests/pipelines/test_load.py::test_a_generator_that_cannot_keep_up_reports_no_latency
    """
    for percent in (50.0, 99.0):
        late, measured = at(lag, percent), at(latency, percent)
        if late is None or measured is None:
            return "no request was answered"
        limit = max(LAG_FLOOR_MS, LAG_SHARE * measured)
        if late > limit:
            return (
                f"the generator was itself {late:.1f} ms late (p{percent:.0f}), more than "
                f"{limit:.1f} ms; give it a core of its own or ask for a lower rate"
            )
    return None


def summary(sent: Sequence[Sent], rate: float, seconds: float) -> dict[str, Any]:
    """The report's metrics as far as they come from the requests; latency is that of reads.

    Args:
        sent: every request of the measured plan.
        rate: requests per second that were asked for.
        seconds: length of the plan; the run is longer where the last answers were late.
    """
    reads = histogram(latencies_ms(one for one in sent if not one.is_event))
    events = histogram(latencies_ms(one for one in sent if one.is_event))
    lag = histogram((one.sent_s - one.due_s) * 1000 for one in sent)
    took = max([seconds, *(one.done_s for one in sent)])
    reason = withheld(lag, reads if reads.get_total_count() else events)
    problems = Counter(one.problem for one in sent if one.problem is not None)
    nothing: dict[str, float | None] = dict.fromkeys(PERCENTILES)
    return {
        "rate": round((len(sent) - problems.total()) / took, 2),
        "asked_rate": rate,
        "seconds": round(took, 3),
        "requests": len(sent),
        **(nothing if reason else percentiles(reads)),
        "latency_withheld": reason,
        "errors": problems.total(),
        "errors_by_kind": dict(problems),
        "rungs": dict(sorted(Counter(str(s.rung) for s in sent if s.rung is not None).items())),
        "events": {
            "requests": sum(one.is_event for one in sent),
            "errors": sum(one.is_event and one.problem is not None for one in sent),
            **(nothing if reason else percentiles(events)),
        },
        "generator_lag_ms_p50": at(lag, 50.0),
        "generator_lag_ms_p99": at(lag, 99.0),
        "generator_lag_ms_max": at(lag, 100.0),
        "stages": stages([one for one in sent if one.stages_ms]),
    }


def stages(timed: Sequence[Sent]) -> dict[str, dict[str, Any]]:
    """Each stage's time in the server, beside its budget; the server measured it, not we."""
    measured = {name: [s.stages_ms[name] for s in timed if name in s.stages_ms] for name in STAGES}
    measured["outside"] = [
        max((one.done_s - one.sent_s) * 1000 - one.stages_ms.get("total", 0.0), 0.0)
        for one in timed
    ]
    told: dict[str, dict[str, Any]] = {}
    for name, budget in STAGES.items():
        counted = histogram(measured[name])
        told[name] = {
            "p50_ms": at(counted, 50.0),
            "p99_ms": at(counted, 99.0),
            "budget_ms": budget.source_ms,
            "our_budget_ms": budget.ours_ms,
        }
        if name in ABSENT:
            told[name]["absent"] = ABSENT[name]
    return told
