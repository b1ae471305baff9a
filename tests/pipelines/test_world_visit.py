"""Visitors against a tiny API: a real server in a thread, with a clock that callers may move on."""

import json
import socket
import threading
import time
from collections import defaultdict
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from features.errors import ContractError, Unavailable
from pipelines.world.generate import make_world, open_world
from pipelines.world.population import NEW_DEVICE, NEW_LOCATION
from pipelines.world.visit import visit

DAY = datetime(2026, 3, 1, 2, tzinfo=UTC)


class FakeApi:
    """Shows each user the items that `choose` gives; keeps every call, and a clock like serving's."""

    def __init__(self, choose, arms=None, status=200):
        self.choose, self.arms, self.status = choose, arms or {}, status
        self.lock = threading.Lock()
        self.clock = datetime(2026, 1, 1, tzinfo=UTC)
        self.headers, self.asked, self.events, self.shown_at = [], [], [], {}
        self.connections = set()

    def answer(self, path, body, now):
        with self.lock:
            self.headers.append(now)
            self.clock = max(self.clock, now)
            if path == "/v1/recommendations":
                return self._slate(body)
            for event in body["events"]:
                ahead = datetime.fromisoformat(event["event_at"]) - self.clock
                assert ahead <= timedelta(minutes=5)
            self.events += body["events"]
            return 202, {"accepted": len(body["events"])}

    def _slate(self, body):
        request_id = f"r{len(self.asked):05d}"
        self.asked.append(body)
        self.shown_at[request_id] = self.clock
        items = [
            {"item_id": item_id, "position": place + 1, "price": 2.5}
            for place, item_id in enumerate(self.choose(body["user_id"]))
        ]
        return self.status, {
            "request_id": request_id,
            "user_id": body["user_id"],
            "rung": 0,
            "arms": self.arms,
            "items": items,
        }


@pytest.fixture
def serve():
    servers = []

    def serve(api):
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"  # keeps connections

            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                now = datetime.fromisoformat(self.headers["X-Simulated-Now"])
                api.connections.add(self.client_address)
                status, content = api.answer(self.path, body, now)
                text = json.dumps(content).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)

            def log_message(self, *_):
                pass

        # Without it every small answer waits 40 ms for the client's delayed acknowledgement.
        Handler.disable_nagle_algorithm = True
        Handler.wbufsize = -1
        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_port}"

    yield serve
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture
def world(tmp_path):
    return make_world(tmp_path, "tiny", seed=0)


def first_ten(user_id):
    return [f"i{n:05d}" for n in range(10)]


def best_ten(world):
    """What the truth likes best for each user: as good as a list can be."""
    from pipelines.world.behaviour import attraction

    users, items = world.truth.users, world.truth.items
    rows = {str(user_id): ix for ix, user_id in enumerate(users.ids)}
    every = np.arange(len(items.ids))[None, :]

    def choose(user_id):
        liked = attraction(users, items, np.array([rows[user_id]]), every, None)[0]
        return [str(items.ids[ix]) for ix in np.argsort(-liked)[:10]]

    return choose


def test_one_row_per_slate_with_what_became_of_it(world, serve):
    api = FakeApi(first_ten, arms={"full-vs-popular": "popular"})
    rows = visit(world, serve(api), day=DAY, requests=60, seed=1)
    assert list(rows.columns) == [
        "user_id", "request_id", "arm", "rung", "clicks", "purchases", "true_utility",
    ]  # fmt: skip
    assert len(rows) == len(api.asked) == 60
    assert rows["request_id"].is_unique
    assert set(rows["arm"]) == {"popular"}
    clicks = [event for event in api.events if event["event_type"] == "click"]
    assert rows["clicks"].sum() == len(clicks)
    assert rows["true_utility"].between(0, 10).all()


def test_without_an_experiment_the_arm_is_full(world, serve):
    assert set(visit(world, serve(FakeApi(first_ten)), day=DAY, requests=5, seed=1)["arm"]) == {
        "full"
    }


def test_requests_say_who_and_where_and_nothing_else(world, serve):
    api = FakeApi(first_ten)
    visit(world, serve(api), day=DAY, requests=20, seed=1)
    for body in api.asked:
        assert set(body) == {"user_id", "k", "context"}
        assert set(body["context"]) == {"device", "location"}
        assert body["k"] == 10


def test_events_answer_the_slate_they_name_and_come_after_it(world, serve):
    api = FakeApi(best_ten(world))
    visit(world, serve(api), day=DAY, requests=120, seed=2, workers=4)
    assert {event["event_type"] for event in api.events} >= {"click", "cart"}
    for event in api.events:
        body = api.asked[int(event["request_id"][1:])]
        shown = api.choose(body["user_id"])
        assert event["user_id"] == body["user_id"]
        assert event["item_id"] == shown[event["position"] - 1]
        assert datetime.fromisoformat(event["event_at"]) > api.shown_at[event["request_id"]]
    ids = [event["event_id"] for event in api.events]
    assert len(ids) == len(set(ids))


def test_the_clock_header_never_falls(world, serve):
    api = FakeApi(first_ten)
    visit(world, serve(api), day=DAY, requests=50, seed=1, workers=1)
    assert api.headers == sorted(api.headers)
    assert api.headers[0] >= DAY
    assert api.headers[-1] < DAY + timedelta(days=1)
    assert api.headers[-1] - api.headers[0] > timedelta(hours=12)


def test_the_same_seed_meets_the_same_list_with_the_same_reaction(world, serve, tmp_path):
    one = visit(world, serve(FakeApi(first_ten)), day=DAY, requests=80, seed=3, workers=1)
    twin = make_world(tmp_path / "twin", "tiny", seed=0)
    other = visit(twin, serve(FakeApi(first_ten)), day=DAY, requests=80, seed=3, workers=4)
    columns = ["user_id", "clicks", "purchases", "true_utility"]
    assert one[columns].equals(other[columns])


def test_better_lists_get_more_clicks(world, serve, tmp_path):
    good = visit(world, serve(FakeApi(best_ten(world))), day=DAY, requests=150, seed=4)
    twin = make_world(tmp_path / "twin", "tiny", seed=0)
    plain = visit(twin, serve(FakeApi(first_ten)), day=DAY, requests=150, seed=4)
    assert good["clicks"].mean() > 1.5 * plain["clicks"].mean()
    assert good["clicks"].mean() == pytest.approx(good["true_utility"].mean(), rel=0.25)


def test_what_was_clicked_is_remembered_and_bores(world, serve, tmp_path):
    api = FakeApi(best_ten(world))
    address = serve(api)
    fresh = visit(world, address, day=DAY, requests=150, seed=5)
    again = visit(open_world(tmp_path), address, day=DAY + timedelta(days=1), requests=150, seed=5)
    assert again["true_utility"].mean() < 0.8 * fresh["true_utility"].mean()


def test_half_of_a_shifted_day_is_newcomers_of_another_kind(world, serve):
    api = FakeApi(first_ten)
    visit(world, serve(api), day=DAY, requests=400, seed=6, shift="new_segment")
    new = [body for body in api.asked if body["context"]["device"] == NEW_DEVICE]
    assert 0.3 < len(new) / 400 < 0.7
    assert {body["context"]["location"] for body in new} == {NEW_LOCATION}
    quiet = FakeApi(first_ten)
    visit(world, serve(quiet), day=DAY, requests=100, seed=6)
    assert NEW_DEVICE not in {body["context"]["device"] for body in quiet.asked}


def test_nobody_looks_at_two_slates_at_once(world, serve):
    busy, seen = defaultdict(int), []

    def choose(user_id):
        return first_ten(user_id)

    api = FakeApi(choose)
    inner = api.answer

    def watching(path, body, now):
        user_id = body.get("user_id") or body["events"][0]["user_id"]
        busy[user_id] += 1
        seen.append(busy[user_id])
        time.sleep(0.002)
        result = inner(path, body, now)
        busy[user_id] -= 1
        return result

    api.answer = watching
    visit(world, serve(api), day=DAY, requests=100, seed=7, workers=8)
    assert max(seen) == 1


def test_a_day_costs_one_connection_per_worker(world, serve):
    """What makes hundreds of slates a second possible; the rate itself is the machine's."""
    api = FakeApi(first_ten)
    visit(world, serve(api), day=DAY, requests=100, seed=8, workers=3)
    assert len(api.headers) > 100
    assert 1 <= len(api.connections) <= 3


def test_an_api_that_is_not_there_says_how_to_start_it(world):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with pytest.raises(
        Unavailable, match=r"no answer from .*; start the API with `shortlist serve`"
    ):
        visit(world, f"http://127.0.0.1:{port}", day=DAY, requests=20, seed=1)


def test_an_api_that_refuses_is_quoted(world, serve):
    with pytest.raises(
        Unavailable, match=r"answered 503 where 200 or 202 was expected: .*request_id"
    ):
        visit(world, serve(FakeApi(first_ten, status=503)), day=DAY, requests=20, seed=1)


def test_items_of_another_world_are_noticed(world, serve):
    with pytest.raises(ContractError, match="shows 'film', which this world has not"):
        visit(world, serve(FakeApi(lambda user_id: ["film"])), day=DAY, requests=5, seed=1)


def test_an_unknown_shift_is_refused(world):
    with pytest.raises(ContractError, match="no shift 'flood'; expected new_segment, or none"):
        visit(world, "http://127.0.0.1:9", day=DAY, requests=5, seed=1, shift="flood")
