import subprocess
import sys

from monitoring.metrics import Metrics

FEAST_FIRST = """
import infra.clients  # imports Feast, which switches prometheus_client to shared files
from monitoring.metrics import Metrics
one, other = Metrics(), Metrics()
one.dropped.inc(3)
print(other.registry.get_sample_value("shortlist_outbox_dropped_total"))
"""


def test_two_applications_in_one_process_count_for_themselves():
    one, other = Metrics(), Metrics()
    one.recommendations.labels(0, "full").inc()
    assert b'shortlist_recommendations_total{arm="full",rung="0"} 1.0' in one.text()
    assert b'rung="0"' not in other.text()


def test_counts_do_not_run_together_where_feast_came_first():
    ran = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", FEAST_FIRST],
        capture_output=True,
        text=True,
        check=True,
    )
    assert ran.stdout.strip() == "0.0"


def test_the_depth_is_asked_for_at_every_scrape():
    metrics, waiting = Metrics(), [1, 2]
    metrics.watch_depth(lambda: len(waiting))
    assert b"shortlist_outbox_depth 2.0" in metrics.text()
    waiting.clear()
    assert b"shortlist_outbox_depth 0.0" in metrics.text()
