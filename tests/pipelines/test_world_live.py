"""People who come by themselves, to a real API that is killed and started again under them."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from features.errors import ContractError
from infra.event_log import SqliteEventLog
from infra.local.process import child, free_port
from infra.settings import Settings
from infra.workspace import Workspace
from pipelines.bootstrap import bootstrap
from pipelines.steps import Steps
from pipelines.world.generate import World, open_world
from pipelines.world.live import WORKERS, Tally, arrivals, live
from pipelines.world.truth import load_state

STALL_S = 0.3


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("home")
    bootstrap(Workspace(home, "world"), "tiny", 3, datetime.now(UTC), Steps())
    return home


@pytest.fixture
def world(home: Path) -> World:
    return open_world(home)


def until(holds: Callable[[], bool], seconds: float = 90.0) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, f"not within {seconds} s"
        time.sleep(0.05)


def api(home: Path, port: int) -> AbstractContextManager[subprocess.Popen[bytes]]:
    command = [sys.executable, "-m", "uvicorn", "serving.app:create_app", "--factory"]
    environment = Settings(home=home, dataset="world", deadline_ms=1000).environment()
    return child([*command, "--port", str(port)], home / "api.log", environment)


def logged(home: Path) -> list[dict]:
    log = SqliteEventLog(Workspace(home, "world").event_log, 4)
    found = [record.value for part in range(4) for record in log.read("events", part, 0, 10**6)]
    log.close()
    return found


@contextmanager
def visiting(world: World, url: str, rate: float) -> Iterator[tuple[threading.Event, list[Tally]]]:
    stop, totals = threading.Event(), list[Tally]()
    worker = threading.Thread(
        target=lambda: totals.append(live(world, url, rate=rate, seed=1, stop=stop))
    )
    worker.start()
    try:
        yield stop, totals
    finally:
        stop.set()
        worker.join(60)


def test_they_wait_for_the_api_survive_its_death_and_come_back(world: World, home: Path) -> None:
    port = free_port()
    began = datetime.now(UTC)
    with visiting(world, f"http://127.0.0.1:{port}", rate=30) as (stop, totals):
        with api(home, port) as first:
            until(lambda: any(event["event_type"] == "click" for event in logged(home)))
            first.send_signal(signal.SIGKILL)
            first.wait()
        before = len(logged(home))
        time.sleep(1)  # they notice
        with api(home, port):
            until(lambda: len(logged(home)) > before + 100)
            stop.set()
            until(lambda: bool(totals))
    total = totals[0]
    assert total.errors.total() >= 1
    assert total.clicks >= 1
    assert set(total.rungs) <= {1, 2, 3, 4}, "a popular list has no ranker"

    events = logged(home)
    slates = {event["request_id"] for event in events if event["event_type"] == "impression"}
    assert total.slates > 0
    assert len(slates) >= total.slates - WORKERS, (
        "the killed API takes along what it has not logged"
    )
    for click in events:
        if click["event_type"] != "click" or click["request_id"] not in slates:
            continue  # or a phone was offline since the past
        assert began < datetime.fromisoformat(click["event_at"]) < datetime.now(UTC)
        delay = datetime.fromisoformat(click["seen_at"]) - datetime.fromisoformat(click["event_at"])
        assert abs(delay) < timedelta(minutes=1)
    assert load_state(home).clicked.sum() >= total.clicks > 0


def test_people_come_by_their_own_clock(world: World) -> None:
    """A server that stalls is met by no fewer visits; who finds too many before him turns round."""

    class Stalling(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._say(200, {})

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            time.sleep(STALL_S)
            slate = {"request_id": "r", "user_id": "u", "rung": 1, "arms": {}, "items": []}
            self._say(200, slate)

        def _say(self, status: int, content: dict) -> None:
            text = json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Stalling)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        url = f"http://127.0.0.1:{server.server_port}"
        total = live(world, url, rate=100, seed=1, stop=threading.Event(), seconds=3)
    finally:
        server.shutdown()
        server.server_close()
    closed_loop = WORKERS * 3 / STALL_S  # what the same workers would do if each waited
    assert total.slates + total.skipped > 1.5 * closed_loop
    assert total.skipped > 0


def test_visits_are_a_poisson_process_of_sessions(world: World) -> None:
    coming = list(islice(arrivals(world, rate=4.0, seed=2), 4000))
    gaps = np.array([arrival.after_s for arrival in coming])
    assert gaps.mean() == pytest.approx(1 / 4, rel=0.1)
    assert gaps.std() == pytest.approx(gaps.mean(), rel=0.1)  # exponential
    pages = Counter(arrival.session for arrival in coming)
    often = {user for user, n in Counter(a.user_ix for a in coming).items() if n >= 50}
    theirs = Counter(a.session for a in coming if a.user_ix in often)  # few are cut by the end
    pages_mean = world.truth.config.pages_mean
    assert np.mean(list(theirs.values())) == pytest.approx(pages_mean, rel=0.15)
    intents = {(arrival.session, arrival.intent, arrival.user_ix) for arrival in coming}
    assert len(intents) == len(pages), "a session is one user with one intent"
    visits = np.bincount([a.user_ix for a in coming], minlength=len(world.truth.users.ids))
    assert np.corrcoef(visits, world.truth.users.activity)[0, 1] > 0.9
    assert not visits[world.truth.users.segment == 1].any()


def test_the_same_seed_brings_the_same_people(world: World) -> None:
    one, two, other = (list(islice(arrivals(world, 2.0, seed), 50)) for seed in (5, 5, 6))
    assert one == two != other


def test_a_rate_of_nothing_is_refused(world: World) -> None:
    with pytest.raises(ContractError, match="rate is 0, expected slates per second above 0"):
        live(world, "http://127.0.0.1:1", rate=0, seed=1, stop=threading.Event())


def test_the_command_ends_cleanly_while_it_still_waits(home: Path) -> None:
    command = [sys.executable, "-m", "pipelines.cli", "users", "--url"]
    users = subprocess.Popen(
        [*command, f"http://127.0.0.1:{free_port()}"],
        env={**os.environ, "SHORTLIST_HOME": str(home)}, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert users.stderr is not None
    assert "waiting for http" in users.stderr.readline()
    users.send_signal(signal.SIGTERM)
    _, told = users.communicate(timeout=30)
    assert users.returncode == 0
    assert "in all 0 slates" in told
