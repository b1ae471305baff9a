import threading
import time
from dataclasses import replace

import numpy as np
import pytest

from infra.event_log import SqliteEventLog
from models.funnel import popular
from monitoring.metrics import Metrics
from serving.deadline import Deadline
from serving.outbox import Outbox
from serving.recommend import Answer, Asked
from tests.serving.conftest import NOW, until
from tests.worlds import tiny_bundle


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return tiny_bundle(tmp_path_factory.mktemp("outbox"))


@pytest.fixture
def log(tmp_path):
    opened = SqliteEventLog(tmp_path / "log.sqlite", partitions=2)
    yield opened
    opened.close()


def answered(bundle, request_id="0" * 32, **changes) -> Answer:
    asked = Asked("ann", 3, {"device": "app"}, NOW, Deadline(100), **changes)
    slate = replace(popular(bundle, None, 3), features=np.array([[1.0, 2.0]] * 3))
    return Answer(asked, bundle, "full", {}, request_id, slate=slate)


def records(log, topic) -> list[dict]:
    return [r.value for p in range(log.partitions) for r in log.read(topic, p, 0, 1000)]


class StalledLog:
    """A log whose appends wait until they are released."""

    partitions = 1

    def __init__(self) -> None:
        self.release = threading.Event()
        self.appended: list = []

    def append(self, topic, found):
        self.release.wait()
        self.appended += found


def value_of(metrics: Metrics, name: str) -> float:
    return metrics.registry.get_sample_value(name) or 0.0


def test_what_waits_is_written_before_the_end(log, bundle):
    metrics = Metrics()
    outbox = Outbox(log, metrics, feature_share=1.0)
    for n in range(250):
        outbox.put(answered(bundle, f"{n:032x}"))
    outbox.close()
    assert len(records(log, "events")) == 750
    assert len({event["event_id"] for event in records(log, "events")}) == 750
    assert len(records(log, "served")) == 250
    assert value_of(metrics, "shortlist_outbox_written_total") == 1000
    assert value_of(metrics, "shortlist_outbox_dropped_total") == 0


def test_a_stalled_log_drops_and_counts_but_never_waits(bundle):
    log, metrics = StalledLog(), Metrics()
    outbox = Outbox(log, metrics, feature_share=1.0, waiting=5)
    outbox.put(answered(bundle))
    until(lambda: value_of(metrics, "shortlist_outbox_depth") == 0)  # the thread holds it
    started = time.monotonic()
    for _ in range(20):
        outbox.put(answered(bundle))
    assert time.monotonic() - started < 0.5
    assert value_of(metrics, "shortlist_outbox_depth") == 5
    assert value_of(metrics, "shortlist_outbox_dropped_total") == 15
    log.release.set()
    outbox.close()
    assert len(log.appended) == 6 * (3 + 1)


def test_a_log_that_stays_stalled_does_not_hold_the_shutdown(bundle):
    log, metrics = StalledLog(), Metrics()
    outbox = Outbox(log, metrics, feature_share=1.0, waiting=2)
    for _ in range(3):
        outbox.put(answered(bundle))
        time.sleep(0.02)
    started = time.monotonic()
    outbox.close(timeout_s=0.1)
    assert time.monotonic() - started < 1.0
    assert value_of(metrics, "shortlist_outbox_dropped_total") >= 2
    log.release.set()


def test_a_failing_log_is_survived_and_counted(log, bundle, monkeypatch):
    metrics = Metrics()

    def full(topic, found):
        raise OSError("disk full")

    monkeypatch.setattr(log, "append", full)
    outbox = Outbox(log, metrics, feature_share=1.0)
    outbox.put(answered(bundle))
    until(lambda: value_of(metrics, "shortlist_outbox_dropped_total") == 1)
    monkeypatch.undo()
    outbox.put(answered(bundle))
    outbox.close()
    assert len(records(log, "served")) == 1


def test_features_are_logged_for_a_share_of_the_requests(log, bundle):
    outbox = Outbox(log, Metrics(), feature_share=0.25)
    outbox.put(answered(bundle, "3fffffff" + "0" * 24))  # just below a quarter of 16^8
    outbox.put(answered(bundle, "40000000" + "0" * 24))
    outbox.close()
    assert [slate["features"] for slate in records(log, "served")] == [[[1.0, 2.0]] * 3, []]
    assert len(records(log, "events")) == 6  # every impression is logged all the same


def test_a_missing_feature_is_null_and_breaks_nothing(log, bundle):
    outbox = Outbox(log, Metrics(), feature_share=1.0)
    answer = answered(bundle)
    assert answer.slate is not None
    answer.slate = replace(answer.slate, features=np.array([[np.nan, np.inf, 1.5]] * 3))
    outbox.put(answer)
    outbox.close()
    assert records(log, "served")[0]["features"] == [[None, None, 1.5]] * 3


def test_a_look_is_not_logged(log, bundle):
    outbox = Outbox(log, Metrics(), feature_share=1.0)
    outbox.put(answered(bundle, look="full"))
    outbox.close()
    assert records(log, "events") == records(log, "served") == []
