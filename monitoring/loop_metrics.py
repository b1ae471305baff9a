"""What the monitor counts, in Prometheus' format."""

from prometheus_client import CollectorRegistry, Counter, Gauge, values

# Feast, where it was imported first, has changed how the client keeps its values; see metrics.py.
values.ValueClass = values.MutexValue

OUTCOMES = ("promoted", "refused", "failed", "blocked")
STEPS = ("features", "online", "drift", "skew", "train", "track")


class LoopMetrics:
    """One registry per monitor."""

    def __init__(self) -> None:
        registry = self.registry = CollectorRegistry()
        self.checked_at = Gauge(
            "shortlist_monitor_last_check_timestamp_seconds",
            "When the last round ended, as Unix time.",
            registry=registry,
        )
        self.drift_share = Gauge(
            "shortlist_monitor_drift_share",
            "Share of the input columns that drifted, at the last check.",
            registry=registry,
        )
        self.trainings = Counter(
            "shortlist_monitor_trainings", "Trainings by outcome.", ["outcome"], registry=registry
        )
        self.failures = Counter(
            "shortlist_monitor_failures",
            "Steps that failed; each is tried again in a later round.",
            ["step"],
            registry=registry,
        )
        self.training_seconds = Gauge(
            "shortlist_monitor_last_training_seconds",
            "Seconds of the last training, from the log to the gate.",
            registry=registry,
        )
        self.data_age_seconds = Gauge(
            "shortlist_monitor_data_age_seconds",
            "Age of the newest event that features and models know.",
            registry=registry,
        )
        self.trained = Gauge(
            "shortlist_monitor_champion_trained",
            "1 when the promoted bundle was trained, 0 while it is a popular list.",
            registry=registry,
        )
        for outcome in OUTCOMES:  # a rate() needs the zero before the first one
            self.trainings.labels(outcome)
        for step in STEPS:
            self.failures.labels(step)
