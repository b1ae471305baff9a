"""What the stream worker counts, in Prometheus' format."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, values

# Feast, where it was imported first, has changed how the client keeps its values; see metrics.py.
values.ValueClass = values.MutexValue

DELAY_BUCKETS_S = (0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60, 300, 1800)
"""From what a quiet worker needs to half an hour of an outage."""


class StreamMetrics:
    """One registry per worker."""

    def __init__(self) -> None:
        registry = self.registry = CollectorRegistry()
        self.lag = Gauge(
            "shortlist_stream_lag",
            "Records of the log that are not folded yet.",
            ["partition"],
            registry=registry,
        )
        self.waiting = Gauge(
            "shortlist_stream_users_waiting",
            "Users whose newest state is not in the online store yet.",
            ["partition"],
            registry=registry,
        )
        self.folded = Counter(
            "shortlist_stream_records_folded", "Events folded into states.", registry=registry
        )
        self.refused = Counter(
            "shortlist_stream_records_refused", "Records that are no events.", registry=registry
        )
        self.pushed = Counter(
            "shortlist_stream_rows_pushed", "Rows handed to the online store.", registry=registry
        )
        self.delay_seconds = Histogram(
            "shortlist_stream_delay_seconds",
            "From an event's arrival at the API to its row in the online store; of the events "
            "behind one row the oldest. By this machine's clock.",
            buckets=DELAY_BUCKETS_S,
            registry=registry,
        )
        self.failures = Counter(
            "shortlist_stream_failures",
            "Calls that the server did not answer.",
            ["server"],
            registry=registry,
        )
        self.refills = Counter(
            "shortlist_stream_refills",
            "Times that the online store had lost rows, and every state was pushed again.",
            registry=registry,
        )
        for server in ("log", "store"):
            self.failures.labels(server)  # a rate() needs the zero before the first failure
