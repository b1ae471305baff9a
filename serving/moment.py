"""What time it is for a request: the machine's, or a simulated day's that callers move on."""

from datetime import UTC, datetime, timedelta

from features.errors import ContractError
from infra.clock import Clock, SimulatedClock, SteadyClock, real_clock
from infra.settings import Settings
from serving.refusals import Refusal

HEADER = "X-Simulated-Now"
LEAP_MAX = timedelta(days=366)
"""A simulation moves by hours and days; a longer leap is a typing mistake that cannot be undone."""


def clock_of(settings: Settings) -> Clock:
    """The clock that the settings choose.

    Raises:
        ContractError: a simulated clock without a start.
    """
    if settings.clock == "real":
        return SteadyClock(real_clock)
    if settings.clock_start is None:
        raise ContractError(
            "SHORTLIST_CLOCK is simulated but SHORTLIST_CLOCK_START is not set; expected a time "
            "such as 2026-03-01T00:00:00Z, from which the simulated clock runs"
        )
    start = settings.clock_start
    start = start if start.tzinfo else start.replace(tzinfo=UTC)
    return SimulatedClock(start, runs=settings.clock_runs)


def moment(clock: Clock, said: str | None) -> datetime:
    """Now, after moving a simulated clock to where the caller says it is.

    Args:
        clock: from `clock_of`.
        said: the header `X-Simulated-Now`, ISO 8601; None where it is absent.

    Raises:
        Refusal: 400, the clock is real, or the time is not one.
    """
    if said is None:
        return clock()
    if not isinstance(clock, SimulatedClock):
        raise Refusal(
            400, HEADER, "this API runs on real time; SHORTLIST_CLOCK=simulated changes it"
        )
    try:
        wanted = datetime.fromisoformat(said)
    except ValueError:
        raise Refusal(400, HEADER, "expected ISO 8601, such as 2026-03-01T12:00:00Z") from None
    if wanted.tzinfo is None or not 1970 < wanted.year < 9999:
        raise Refusal(400, HEADER, "expected a time with its zone, in a year from 1971 to 9998")
    if wanted > clock() + LEAP_MAX:
        raise Refusal(
            400, HEADER, f"more than {LEAP_MAX.days} days after the clock, which never goes back"
        )
    clock.advance_to(wanted)
    return clock()
