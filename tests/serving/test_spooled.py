"""Mode services: the API keeps what it accepts on its own disk, and never waits for a broker."""

import json
import signal
import socket
import subprocess
import sys
from contextlib import closing, contextmanager
from pathlib import Path

import httpx

from infra.kafka_log import KafkaEventLog
from infra.spool import SpoolReader, file_name
from serving.events import RETRY_AFTER_S
from tests.serving.conftest import Shop, running, runtime, until
from tests.serving.processes import environment, served

PARTITIONS = 3
AWAY = "127.0.0.1:1"
PATIENCE_S = 120.0
"""For processes that start while the machine does other things; no figure is tested here."""
TOGETHER = 250
"""Events of one request: about 100 KB in the spool."""


def services(kafka: str, folder: Path, **more: str) -> dict[str, str]:
    return {
        "SHORTLIST_MODE": "services",
        "SHORTLIST_KAFKA": kafka,
        "SHORTLIST_REDIS": AWAY,
        "SHORTLIST_SPOOL": str(folder / "spool"),
        "SHORTLIST_PARTITIONS": str(PARTITIONS),
        **more,
    }


@contextmanager
def relaying(shop: Shop, mode: dict[str, str]):
    child = subprocess.Popen(
        [sys.executable, "-m", "pipelines.relay"], env=environment(shop, **mode)
    )
    try:
        yield child
    finally:
        child.kill()
        child.wait()


def spool_of(folder: Path) -> SpoolReader:
    """This machine's spool, as the relay sees it."""
    return SpoolReader(folder / "spool" / f"{file_name(socket.gethostname())}.sqlite")


def click(name: str) -> dict[str, str]:
    return {"event_id": name, "event_type": "click", "user_id": f"u-{name}", "item_id": "i1"}


def test_what_was_accepted_without_a_broker_is_delivered_later(shop, tmp_path, later_broker):
    mode, accepted = services(later_broker.address, tmp_path), []
    with (
        served(shop, ready=False, **mode) as (address, child),
        httpx.Client(timeout=PATIENCE_S) as client,
    ):
        for n in range(25):
            answer = client.post(f"{address}/v1/events", json=click(f"e{n}"))
            assert answer.status_code == 202
            accepted.append(f"e{n}")
        child.send_signal(signal.SIGKILL)
        child.wait()
    with closing(spool_of(tmp_path)) as spool:
        kept = [json.loads(record.value)["event_id"] for record in spool.take(100)]
        assert kept == accepted
        with relaying(shop, mode), later_broker.running():
            until(lambda: spool.backlog().records == 0, PATIENCE_S)
            log = KafkaEventLog(later_broker.address, shop.workspace.name, PARTITIONS)
            with closing(log):
                delivered = {
                    record.value["event_id"]
                    for partition in range(PARTITIONS)
                    for record in log.read("events", partition, 0, 1000)
                }
    assert delivered == set(accepted)


def test_a_full_spool_is_429_until_it_is_drained(shop, tmp_path, kafka_address):
    mode = services(AWAY, tmp_path, SHORTLIST_SPOOL_MB="1")
    with (
        served(shop, ready=False, **mode) as (address, _),
        httpx.Client(base_url=address, timeout=PATIENCE_S) as api,
    ):
        accepted = 0
        while (answer := api.post("/v1/events", json=many(accepted))).status_code == 202:
            accepted += TOGETHER
            assert accepted < 10_000, "never full"
        assert answer.status_code == 429
        assert answer.headers["Retry-After"] == str(RETRY_AFTER_S)
        assert answer.json() == {
            "detail": [
                {
                    "field": "events",
                    "message": "no room until the log is back; send them again later",
                }
            ]
        }
        told = api.get("/metrics").text
        assert f"shortlist_spool_records {accepted}.0" in told
        assert "shortlist_spool_limit_bytes 1.048576e+06" in told
        assert 'shortlist_refused_requests_total{status="429"} 1.0' in told
        with (
            closing(spool_of(tmp_path)) as spool,
            relaying(shop, services(kafka_address, tmp_path)),
        ):
            until(lambda: spool.backlog().records == 0, PATIENCE_S)
        assert api.post("/v1/events", json=many(accepted)).status_code == 202


def many(first: int) -> dict[str, list[dict[str, str]]]:
    return {"events": [click(f"f{first + n}") for n in range(TOGETHER)]}


def test_slates_stop_before_events_do(shop, tmp_path):
    shop = shop.with_settings(
        mode="services", redis=AWAY, spool=tmp_path / "spool", spool_mb=1, features_timeout_ms=100
    )
    with running(shop) as client:
        spool = runtime(client).log
        slates = 0.75 * spool.max_bytes
        while spool.backlog().bytes <= slates:
            assert client.post("/v1/events", json=many(spool.backlog().records)).status_code == 202
        before = spool.backlog().records
        assert client.post("/v1/recommendations", json={"user_id": "ann"}).status_code == 200
        until(lambda: b"shortlist_outbox_dropped_total 1.0" in runtime(client).metrics.text())
        assert spool.backlog().records == before
        assert client.post("/v1/events", json=click("later")).status_code == 202
    assert not shop.workspace.event_log.exists()


def test_slates_and_events_share_the_spool(shop, tmp_path):
    shop = shop.with_settings(mode="services", redis=AWAY, spool=tmp_path / "spool")
    with running(shop) as client:
        request_id = client.post("/v1/recommendations", json={"user_id": "ann"}).json()[
            "request_id"
        ]
        assert client.post("/v1/events", json=click("after")).status_code == 202
    with closing(spool_of(tmp_path)) as spool:
        found = [(record.topic, json.loads(record.value)) for record in spool.take(100)]
    assert {topic for topic, _ in found} == {"events", "served"}
    assert {value["event_id"] for topic, value in found if topic == "events"} == {
        "after", *(f"{request_id}:{place}" for place in range(1, 11)),
    }  # fmt: skip
