"""Which days the line needs: where the data is split, and when serving may begin.

Real data lies still, so serving begins after its end. A running shop has no end: there the caller
says what time it is, and nothing is made of what is not known by then.
"""

from datetime import UTC, date, datetime, timedelta

from features.definitions import BATCH_LAG, HOURLY_LAG
from features.errors import ContractError
from infra.workspace import Workspace
from models.split import Split, time_split
from pipelines.lake import read_events, read_info


def split_of(workspace: Workspace) -> Split:
    """The time split of this lake; derived from the events, so every step sees the same one.

    Raises:
        ContractError: the lake is empty.
    """
    info = read_info(workspace.lake)
    events = read_events(workspace.lake, columns=["event_type", "event_at"])
    positives = events.loc[events["event_type"].isin(info.positive_types), "event_at"]
    if positives.empty:
        raise ContractError(
            f"the lake of '{workspace.name}' holds no event of type {', '.join(info.positive_types)}; "
            "ingest a file with at least one, or name its type with --event-type"
        )
    return time_split(positives.astype("datetime64[us, UTC]").astype("int64").to_numpy())


def serve_from(split: Split) -> datetime:
    """The first moment after the data at which a new day's batch rows are known."""
    end = split.end.astimezone(UTC)
    midnight = end.replace(hour=0, minute=0, second=0, microsecond=0)
    if midnight < end:
        midnight += timedelta(days=1)
    return midnight + BATCH_LAG


def known_day(now: datetime) -> date:
    """The newest day whose batch rows are known at `now`.

    Examples:
        >>> known_day(datetime(2026, 3, 2, 1, 59, tzinfo=UTC)).isoformat()
        '2026-03-01'
        >>> known_day(datetime(2026, 3, 2, 2, 0, tzinfo=UTC)).isoformat()
        '2026-03-02'
    """
    return (now.astimezone(UTC) - BATCH_LAG).date()


def known_hour(now: datetime) -> datetime:
    """The newest hour whose batch rows are known at `now`.

    Examples:
        >>> known_hour(datetime(2026, 3, 2, 2, 9, tzinfo=UTC)).isoformat()
        '2026-03-02T01:00:00+00:00'
    """
    known = now.astimezone(UTC) - HOURLY_LAG
    return known.replace(minute=0, second=0, microsecond=0)


def feature_days(split: Split, now: datetime | None = None) -> list[date]:
    """The days whose batch rows training, evaluation and serving will ask for.

    Args:
        split: of the data.
        now: when serving reads them; None = as soon as the data's last day is known.
    """
    first = split.ranker_from.date() - timedelta(days=1)
    last = known_day(serve_from(split) if now is None else now)
    return [first + timedelta(days=step) for step in range((last - first).days + 1)]
