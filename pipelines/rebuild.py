"""The online store again, from what it is a view of: the offline store, and what the stream is made of.

    batch rows and seeds     <- offline store (pipelines/materialize.py)
    rows of the stream       <- states, one file per partition; or the log, or the lake (replay.py)

Rows are absolute and carry a version, so this may run beside a running worker: whatever the worker
pushes meanwhile is newer and stays. Nothing of the worker's is written.
"""

from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime
from typing import Any

from features.item_streaming import item_row
from features.store import OnlineStore
from features.streaming import row_of, upgraded
from infra.clients import clear_online
from infra.workspace import Workspace
from pipelines.days import serve_from, split_of
from pipelines.materialize import materialize
from pipelines.stream import open_online
from pipelines.stream_push import ROWS_PER_PUSH
from pipelines.stream_state import ITEMS, USERS, PartitionState


def rebuild(
    workspace: Workspace,
    now: datetime,
    partitions: int,
    *,
    empty: bool = False,
    stream: Callable[[OnlineStore], int] | None = None,
) -> dict[str, Any]:
    """Fill the online store.

    Args:
        workspace: its offline store and state folder are read.
        now: UTC; batch rows as they are known then.
        partitions: of the event log.
        empty: first forget every row; what is wrong but newer goes only that way.
        stream: pushes the rows of the stream views, returns how many; None = the worker's states.

    Returns:
        What `materialize` returns, and states: rows of the stream views that were written.

    Raises:
        FeaturesUnavailable: the online store does not answer; repeating it is safe.

    Interview: You lost the feature store. What is your recovery plan?
        Nothing in it is original. Batch rows come from the offline store, stream rows from the
        states that the worker commits with its offsets, and those from the log. So a lost store
        is filled in one command while the API answers from lower rungs and the worker goes on.
        Trade-off: the states are a second copy of what is online, on the worker's disk; without
        them the log would be folded from its beginning, and must be kept that long.
        Shown by: tests/pipelines/test_rebuild.py::test_an_emptied_store_is_whole_again
    """
    workspace.online_mark.unlink(missing_ok=True)  # the rows may be gone, whatever it says
    if empty:
        clear_online(workspace)
    filled, online = materialize(workspace, now), open_online(workspace)
    states = stream(online) if stream else _push_states(workspace, online, partitions)
    return {**filled, "states": states}


def rebuilt_as_of(workspace: Workspace) -> datetime:
    """This machine's time where services run by it; embedded, the end of the data."""
    if workspace.services is not None:
        return datetime.now(UTC)
    return serve_from(split_of(workspace))


def _push_states(workspace: Workspace, online: OnlineStore, partitions: int) -> int:
    written = 0
    for view, stage, made in (
        ("user_stream", USERS, lambda state: row_of(upgraded(state))),
        ("item_stream", ITEMS, item_row),
    ):
        for partition in range(partitions):
            with closing(PartitionState(workspace.state, partition, partitions, stage)) as states:
                place = ""
                while some := states.after(place, ROWS_PER_PUSH):
                    written += online.push(view, {key: made(state) for key, state in some.items()})
                    place = max(some)
    return written
