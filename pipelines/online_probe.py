"""Are the batch rows still in the online store? A sample, read as serving reads it."""

from datetime import datetime

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from features.batch import AS_OF
from features.definitions import BATCH_LAG, VIEWS
from features.errors import FeaturesUnavailable
from features.schema import TIMESTAMP
from features.store import OnlineStore
from infra.clients import open_feast
from infra.workspace import Workspace

VIEW = "user_daily"
SAMPLE = 20
"""Users asked for. A store that was emptied has none of them; one that lost some has most."""


def batch_rows_gone(workspace: Workspace, now: datetime) -> bool:
    """Whether most of the users who should have a young batch row online have none.

    Args:
        workspace: its offline store says who should.
        now: UTC.

    Raises:
        FeaturesUnavailable: the online store does not answer: then nobody knows.

    Interview: Redis came back empty. Who notices?
        Not the API: a missing row is a default, and it answers. So somebody asks for rows that
        must be there, by the offline store, and fills the store again when they are not. The
        online store is a view that can be made anew, never the only copy.
        Trade-off: a sample sees a store that was emptied and not one that lost a few rows; those
        wait for the next day's materialize.
        Shown by: tests/pipelines/test_monitor.py::test_an_emptied_store_is_filled_again
    """
    expected = _users_with_a_row(workspace, now)
    if not expected:
        return False
    try:
        online = OnlineStore(open_feast(workspace))
    except FeaturesUnavailable:  # no views: nothing was ever written
        return True
    try:
        missing = sum(VIEW in online.read_user(user, (), now).missing for user in expected)
    except FeaturesUnavailable as error:
        if "no such table" in str(error.__cause__):  # the embedded store's file was removed
            return True
        raise
    return missing > len(expected) / 2


def _users_with_a_row(workspace: Workspace, now: datetime) -> list[str]:
    """A few users of the newest day that is known, evenly spread."""
    paths = [str(path) for path in workspace.offline.glob(f"{VIEW}/*.parquet")]
    if not paths:
        return []
    ttl = VIEWS[VIEW].ttl
    assert ttl is not None, f"{VIEW} is a batch view and has a TTL"
    young = (pc.field(AS_OF) <= pa.scalar(now - BATCH_LAG, TIMESTAMP)) & (
        pc.field(AS_OF) >= pa.scalar(now - ttl, TIMESTAMP)
    )
    rows = pq.read_table(paths, columns=["user_id", AS_OF], filters=young)
    if not rows.num_rows:
        return []
    newest = rows.filter(pc.equal(rows[AS_OF], pc.max(rows[AS_OF])))
    users = newest["user_id"].to_pylist()
    return users[:: max(len(users) // SAMPLE, 1)][:SAMPLE]
