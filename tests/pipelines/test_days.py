from datetime import UTC, date, datetime, timedelta

import pyarrow as pa
import pytest

from features.errors import ContractError
from features.schema import EVENTS, DatasetInfo
from infra.workspace import Workspace
from models.split import Split
from pipelines.days import feature_days, known_day, serve_from, split_of
from pipelines.lake import append_events, write_info


def test_serving_starts_when_the_first_batch_rows_after_the_data_are_known():
    def split(*end):
        return Split(
            datetime(2026, 1, 5, tzinfo=UTC),
            datetime(2026, 1, 8, tzinfo=UTC),
            datetime(*end, tzinfo=UTC),
        )

    assert serve_from(split(2026, 1, 10, 17, 30)) == datetime(2026, 1, 11, 2, tzinfo=UTC)
    assert serve_from(split(2026, 1, 10)) == datetime(2026, 1, 10, 2, tzinfo=UTC)
    days = feature_days(split(2026, 1, 10))
    assert (days[0], days[-1]) == (date(2026, 1, 4), date(2026, 1, 10))


def test_a_running_shop_asks_for_no_day_that_is_not_known_yet():
    split = Split(
        datetime(2026, 1, 5, tzinfo=UTC),
        datetime(2026, 1, 8, tzinfo=UTC),
        datetime(2026, 1, 10, 17, 30, tzinfo=UTC),
    )
    now = datetime(2026, 1, 10, 17, 31, tzinfo=UTC)
    assert feature_days(split, now)[-1] == known_day(now) == date(2026, 1, 10)
    # Nobody came for a week: rows age by the day all the same, and serving asks for young ones.
    assert feature_days(split, now + timedelta(days=7))[-1] == date(2026, 1, 17)
    early = datetime(2026, 1, 12, 1, 59, tzinfo=UTC)
    assert feature_days(split, early)[-1] == date(2026, 1, 11)


def test_a_lake_without_a_positive_is_refused_with_a_remedy(tmp_path):
    workspace = Workspace(tmp_path, "shop")
    write_info(workspace.lake, DatasetInfo("shop", positive_types=("purchase",)))
    at = datetime(2026, 1, 1, tzinfo=UTC)
    view = {
        "event_id": "1",
        "event_type": "view",
        "user_id": "u",
        "item_id": "i",
        "event_at": at,
        "seen_at": at,
    }
    append_events(workspace.lake, pa.Table.from_pylist([view], schema=EVENTS))
    with pytest.raises(
        ContractError, match="no event of type purchase; ingest a file with at least one"
    ):
        split_of(workspace)
