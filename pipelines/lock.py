"""One writer: who changes the lake, the features or the models of a data set holds its lock.

The lock is the operating system's (flock): a process that dies leaves none behind. It belongs to the
open file and not to the process, so a child that is handed the file keeps it locked even when its
parent is killed, and nobody else begins meanwhile.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager

from features.errors import RecommenderError
from infra.workspace import Workspace


class Busy(RecommenderError):
    """Somebody else is at work on this data set."""


@contextmanager
def only_one(workspace: Workspace, doing: str, *, wait: bool = False) -> Iterator[int]:
    """Hold the data set's lock; yields its file descriptor, for children to keep.

    Args:
        workspace: whose lock.
        doing: what for; whoever finds it taken is told.
        wait: until it is free, however long that takes; False = refuse.

    Raises:
        Busy: taken, and `wait` is False.

    Interview: A training takes an hour and cron starts it every half hour. What happens?
        The second one finds the lock taken, says who holds it, and leaves. The lock is held by an
        open file, so a training that was killed blocks nobody: no stale file to remove by hand.
        Trade-off: it holds on one machine; several need a lease in a store that they share, which
        can expire while its holder still works.
        Shown by: tests/pipelines/test_lock.py::test_a_killed_holder_leaves_no_lock_behind
    """
    workspace.lock.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(workspace.lock, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            holder = os.pread(descriptor, 200, 0).decode(errors="replace").strip()
            raise Busy(
                f"data set '{workspace.name}' is in use by {holder or 'another process'}; "
                "wait for its end, or end it first"
            ) from None
        os.truncate(descriptor, 0)
        os.pwrite(descriptor, f"process {os.getpid()}: {doing}\n".encode(), 0)
        yield descriptor
    finally:
        os.close(descriptor)
