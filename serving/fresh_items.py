"""The item features of the bundle that answers, kept equal to the online store.

A request gathers item features from a matrix in this process and never reads one online. The matrix
comes with the bundle; when item rows were written since, or have outlived their TTL, it is read anew
in the background and put in its place by one assignment.
"""

import time
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import numpy as np
import structlog

from features.definitions import VIEWS
from features.errors import FeaturesUnavailable
from features.store import ItemRows, OnlineStore
from infra.clock import Clock
from models.bundle import Bundle
from monitoring.metrics import Metrics
from serving.current import CurrentBundle, StoreReader

CHUNK = 100
"""Items read at once. A read holds the interpreter lock for milliseconds, and requests wait for it."""

REST = 1.0
"""Pause after each chunk, in times of what it took: half of the lock's time stays with requests."""

DEADLINE_S = 60.0
"""A refresh that takes longer is given up; the old matrix stays, and the next look tries again."""


class FreshItems:
    """Replaces the matrix of the current bundle when the store has newer item rows.

    Interview: Item features live in the serving process. How do they stay fresh without a restart?
        Whoever writes item rows leaves a mark; every second the mark is looked at, and when it
        moved, all items are read in small chunks beside the traffic and swapped in at once. A
        request sees the old matrix or the new one. The price per request stays one gather.
        Trade-off: all items are read although few changed, which suits a writer that comes once an
        hour; with a writer every second the changes themselves would have to be sent.
        Shown by: tests/serving/test_fresh_items.py::test_new_item_rows_are_served_without_a_restart
    """

    def __init__(
        self,
        current: CurrentBundle,
        reader: StoreReader,
        mark: Path,
        metrics: Metrics,
        clock: Clock,
        deadline_s: float = DEADLINE_S,
    ) -> None:
        """Nothing is read yet.

        Args:
            current: its bundle is replaced.
            reader: its store is read, once it is open.
            mark: file that changes whenever item rows were written.
            metrics: counts refreshes.
            clock: tells which rows have outlived their TTL.
            deadline_s: the longest that one refresh may take.
        """
        self._current, self._reader, self._mark = current, reader, mark
        self._metrics, self._clock, self._deadline_s = metrics, clock, deadline_s
        self._seen: tuple[str, str] | None = None
        self._good_until: datetime | None = None
        self._read_at: datetime | None = None

    def refresh(self) -> bool:
        """Read the items anew if there is a reason to; True after a swap. Blocks for its time."""
        bundle, store, now = self._current.bundle, self._reader.store, self._clock()
        if bundle is None or store is None or not self._mark.exists():
            return False
        seen = bundle.id, self._mark.read_text()
        expired = self._good_until is not None and now > self._good_until
        went_back = self._read_at is not None and now < self._read_at  # what expired may not have
        if seen == self._seen and not expired and not went_back:
            return False
        started = time.perf_counter()
        try:
            rows = _read(store, bundle, now, time.monotonic, self._deadline_s)
        except FeaturesUnavailable as error:
            self._metrics.item_refreshes.labels("failed").inc()
            structlog.get_logger().warning("items not refreshed", reason=str(error))
            return False
        self._seen, self._good_until, self._read_at = seen, _good_until(rows, now), now
        if not any(rows.as_of.values()):  # a store that lost its rows is not believed
            self._metrics.item_refreshes.labels("empty").inc()
            return False
        catalogue = replace(bundle.catalogue, matrix=rows.matrix)
        self._current.bundle = replace(bundle, catalogue=catalogue)
        self._metrics.item_refreshes.labels("done").inc()
        self._metrics.item_refresh_seconds.set(time.perf_counter() - started)
        return True


def _read(
    store: OnlineStore,
    bundle: Bundle,
    now: datetime,
    monotonic: Callable[[], float],
    deadline_s: float,
) -> ItemRows:
    """Every item of the bundle, chunk by chunk.

    Raises:
        FeaturesUnavailable: the store does not answer, or the deadline has passed.
    """
    ids, columns = bundle.catalogue.item_ids.tolist(), bundle.catalogue.features.item
    until = monotonic() + deadline_s
    blocks, as_of = [np.empty((0, len(columns)))], dict[str, datetime | None]()
    for start in range(0, len(ids), CHUNK):
        since = monotonic()
        if since > until:
            raise FeaturesUnavailable(
                f"features: {start} of {len(ids)} items read in {deadline_s:g} s"
            )
        rows = store.read_items(ids[start : start + CHUNK], now, columns)
        blocks.append(rows.matrix)
        for view, moment in rows.as_of.items():
            newest = [at for at in (as_of.get(view), moment) if at is not None]
            as_of[view] = max(newest, default=None)
        time.sleep(REST * (monotonic() - since))
    return ItemRows(np.concatenate(blocks), as_of)


def _good_until(rows: ItemRows, now: datetime) -> datetime | None:
    """When the next view's newest rows outlive their TTL; None = none is left that could."""
    ends = [
        as_of + ttl
        for view, as_of in rows.as_of.items()
        if as_of is not None and (ttl := VIEWS[view].ttl) is not None and as_of + ttl >= now
    ]
    return min(ends, default=None)
