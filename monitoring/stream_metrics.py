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
        self.item_lag = Gauge(
            "shortlist_stream_item_lag",
            "Deltas that the owner of the items has not folded yet.",
            ["partition"],
            registry=registry,
        )
        self.gone = Gauge(
            "shortlist_stream_records_gone",
            "Records that retention took before they were folded: lost, and the partition stands.",
            ["partition"],
            registry=registry,
        )
        self.late = Counter(
            "shortlist_stream_events_late",
            "Events later than the allowed lateness: set aside, left to the batch.",
            registry=registry,
        )
        self.repeated = Counter(
            "shortlist_stream_events_repeated", "Events known by their id.", registry=registry
        )
        self.gaps = Counter(
            "shortlist_stream_item_gaps",
            "Deltas that do not follow on the one before: item counts are too low.",
            registry=registry,
        )
        self.partitions = Gauge(
            "shortlist_stream_partitions", "Partitions that this worker owns.", registry=registry
        )
        self.fenced = Counter(
            "shortlist_stream_fenced",
            "Batches refused because another worker had taken the partition.",
            registry=registry,
        )
        self.waiting = Gauge(
            "shortlist_stream_users_waiting",
            "Users whose newest state is not in the online store yet.",
            ["partition"],
            registry=registry,
        )
        self.item_delay_seconds = Histogram(
            "shortlist_stream_item_delay_seconds",
            "As shortlist_stream_delay_seconds, until the item's row is in the online store.",
            buckets=DELAY_BUCKETS_S,
            registry=registry,
        )
        self.folded = Counter(
            "shortlist_stream_records_folded", "Events folded into states.", registry=registry
        )
        self.refused = Counter(
            "shortlist_stream_records_refused",
            "Records that are no events; they are dead letters.",
            registry=registry,
        )
        self.pushed = Counter(
            "shortlist_stream_rows_pushed", "Rows handed to the online store.", registry=registry
        )
        self.item_rows = Counter(
            "shortlist_stream_item_rows_pushed",
            "Rows of items handed to the online store.",
            registry=registry,
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
