"""Dashboards and alerts ask for what is counted: a metric that was renamed leaves no silent panel.

`python -m tests.chaos.queries` asks them all of a running Prometheus.
"""

import json
import re

import pytest
import yaml
from prometheus_client import generate_latest

from infra.settings import PROJECT
from monitoring.loop_metrics import LoopMetrics
from monitoring.metrics import Metrics
from monitoring.stream_metrics import StreamMetrics
from pipelines.relay import RelayMetrics
from tests.chaos.queries import expressions

COMPOSE = yaml.safe_load((PROJECT / "docker-compose.yml").read_text())


def test_every_query_names_metrics_that_are_counted():
    counted = _counted(Metrics(), StreamMetrics(), RelayMetrics(), LoopMetrics())
    asked = {
        name
        for _, expression in expressions()
        for name in re.findall(r"shortlist_\w+", re.sub(r'"[^"]*"', "", expression))
    }
    assert len(asked) > 12
    assert asked <= counted


def test_alerts_say_what_they_mean_and_where_to_look():
    (group,) = yaml.safe_load((PROJECT / "infra/prometheus/alerts.yml").read_text())["groups"]
    for rule in group["rules"]:
        assert {"summary", "look"} == set(rule["annotations"]), rule["alert"]


def test_every_part_that_counts_is_scraped_where_it_listens():
    config = yaml.safe_load((PROJECT / "infra/prometheus/prometheus.yml").read_text())
    scraped = {}
    for job in config["scrape_configs"]:
        for found in job.get("dns_sd_configs", []):
            scraped[job["job_name"]] = str(found["port"])
        for found in job.get("static_configs", []):
            name, port = found["targets"][0].split(":")
            scraped[name] = port
    services = COMPOSE["services"]
    for name in ("stream", "relay", "monitor"):
        assert services[name]["environment"]["SHORTLIST_METRICS_PORT"] == scraped[name]
        assert services[name]["healthcheck"]["test"][-2:] == [scraped[name], "/metrics"]
    assert scraped["api"] == "8000"


@pytest.mark.parametrize("name", ["datasource.yml", "dashboards.yml", "shortlist.json"])
def test_grafana_is_given_every_file_that_is_there(name):
    files = {found["file"] for found in COMPOSE["configs"].values()}
    assert f"infra/grafana/{name}" in files
    if name == "shortlist.json":
        panels = json.loads((PROJECT / "infra/grafana" / name).read_text())["panels"]
        datasource = yaml.safe_load((PROJECT / "infra/grafana/datasource.yml").read_text())
        (uid,) = {p["datasource"]["uid"] for p in panels if p["type"] != "row"}
        assert uid == datasource["datasources"][0]["uid"]


def _counted(*metrics):
    """Names as Prometheus sees them; a histogram has three."""
    names = set()
    for text in (generate_latest(found.registry).decode() for found in metrics):
        for name, kind in re.findall(r"^# TYPE (\w+) (\w+)$", text, re.MULTILINE):
            names |= (
                {f"{name}_{end}" for end in ("bucket", "sum", "count")}
                if kind == "histogram"
                else {name}
            )
    return names
