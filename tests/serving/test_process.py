"""The API as it really runs: uvicorn in a process of its own."""

import signal
import subprocess
import sys

import httpx
import psutil

from tests.serving.processes import served

STARTUP_MAX_S = 15.0
"""Of one core's time: start-up is imports, one after the other, so on a machine that does nothing
else this is the wall clock's time, and on a busy one it stays the same."""

FORBIDDEN = ("torch", "pyspark", "mlflow", "evidently")


def test_importing_the_app_loads_no_training_library():
    code = f"import sys, serving.app; print([m for m in {FORBIDDEN} if m in sys.modules])"
    ran = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=True
    )
    assert ran.stdout.strip() == "[]"


def test_an_accepted_event_survives_kill_9_and_the_next_start_is_in_time(shop):
    with served(shop, ready=False) as (address, child), httpx.Client(base_url=address) as client:
        accepted = []
        for n in range(25):
            body = {"event_id": f"e{n}", "event_type": "click", "user_id": f"u{n}", "item_id": "i1"}
            assert client.post("/v1/events", json=body).status_code == 202
            accepted.append(f"e{n}")
        child.send_signal(signal.SIGKILL)
        child.wait()
    assert sorted(event["event_id"] for event in shop.logged("events")) == sorted(accepted)

    with served(shop) as (address, child):
        spent = psutil.Process(child.pid).cpu_times()
        slate = httpx.post(f"{address}/v1/recommendations", json={"user_id": "ann"}, timeout=5.0)
        assert slate.json()["rung"] == 0
        child.send_signal(signal.SIGTERM)
        assert child.wait(timeout=30) in (0, -signal.SIGTERM)
    # What it had shown was written on the way out.
    shown = {event["event_id"] for event in shop.logged("events")} - set(accepted)
    assert shown == {f"{slate.json()['request_id']}:{place}" for place in range(1, 11)}
    assert spent.user + spent.system <= STARTUP_MAX_S
