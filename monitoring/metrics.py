"""What the API counts, in Prometheus' format. No other part of monitoring is loaded by serving."""

from collections.abc import Callable

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Info,
    ProcessCollector,
    values,
)
from prometheus_client import generate_latest as _generate

from infra.spool import Backlog

# Where Feast is imported first, it has switched the client to files that all registries of this
# process share, for pre-forking servers of its own; our counts would run together.
values.ValueClass = values.MutexValue

STAGE_BUCKETS_S = (0.0002, 0.0005, 0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.128, 0.5)
"""From a fifth of the fastest stage to far beyond the deadline, doubling."""


class Metrics:
    """One registry per application, so that two of them in one process do not share counts."""

    def __init__(self) -> None:
        registry = self.registry = CollectorRegistry()
        ProcessCollector(registry=registry)  # CPU seconds, memory, open files; where there is /proc
        self.recommendations = Counter(
            "shortlist_recommendations", "Slates served.", ["rung", "arm"], registry=registry
        )
        self.degraded = Counter(
            "shortlist_degraded", "Slates served without this part.", ["part"], registry=registry
        )
        self.missing_views = Counter(
            "shortlist_missing_views",
            "Reads that found no young enough row of this feature view.",
            ["view"],
            registry=registry,
        )
        self.item_refreshes = Counter(
            "shortlist_item_refreshes",
            "Readings of all item features: done, failed, or empty (nothing there, old ones kept).",
            ["outcome"],
            registry=registry,
        )
        self.item_refresh_seconds = Gauge(
            "shortlist_item_refresh_seconds", "What the last reading took.", registry=registry
        )
        self.stage_seconds = Histogram(
            "shortlist_stage_seconds",
            "Time in one stage of a recommendation; total is the whole.",
            ["stage"],
            buckets=STAGE_BUCKETS_S,
            registry=registry,
        )
        self.events = Counter(
            "shortlist_events_accepted", "Events answered with 202.", ["type"], registry=registry
        )
        self.refused = Counter(
            "shortlist_refused_requests", "Requests answered 4xx.", ["status"], registry=registry
        )
        self.written = Counter(
            "shortlist_outbox_written", "Records of served slates on the log.", registry=registry
        )
        self.dropped = Counter(
            "shortlist_outbox_dropped",
            "Served slates that never reached the log: the queue was full, or the log failed.",
            registry=registry,
        )
        self.bundle = Info("shortlist_bundle", "The bundle that answers.", registry=registry)
        self.bundle_refused = Counter(
            "shortlist_bundles_refused", "Published bundles that did not load.", registry=registry
        )
        self._depth = Gauge(
            "shortlist_outbox_depth", "Served slates waiting to be logged.", registry=registry
        )

    def watch_depth(self, depth: Callable[[], int]) -> None:
        """Ask `depth` for the queue's length at every scrape."""
        self._depth.set_function(depth)

    def watch_spool(self, backlog: Callable[[], Backlog], limit_bytes: int) -> None:
        """Ask `backlog` at every scrape what waits for the relay."""
        for name, told, value in (
            ("records", "Records that wait for the relay.", lambda: backlog().records),
            ("bytes", "Bytes that wait for the relay.", lambda: backlog().bytes),
            ("oldest_seconds", "Age of the oldest that waits.", lambda: backlog().oldest_s),
            ("limit_bytes", "Bytes that may wait; beyond it events get 429.", lambda: limit_bytes),
        ):
            gauge = Gauge(f"shortlist_spool_{name}", told, registry=self.registry)
            gauge.set_function(value)

    def text(self) -> bytes:
        """The exposition, as Prometheus scrapes it."""
        return _generate(self.registry)
