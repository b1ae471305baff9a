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
from pipelines.world import truth as store
from pipelines.world.behaviour import appraise
from pipelines.world.config import configure
from pipelines.world.generate import make, make_world, open_world
from pipelines.world.history import latencies
from pipelines.world.planning import at_no_moment, exactly
from pipelines.world.play import play_day
from pipelines.world.population import DAY_US, NEW_DEVICE, NEW_LOCATION, to_us
from pipelines.world.state import begin_day, fresh_state
from pipelines.world.visit import visit
from serving.schemas import EventIn
from tests.pipelines.oracle_words import keys_of, leaks

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
    truth = world.truth
    rows = {str(user_id): ix for ix, user_id in enumerate(truth.users.ids)}
    every, fresh = np.arange(truth.config.items)[None, :], fresh_state(truth)

    def choose(user_id):
        visit = at_no_moment(truth, np.array([rows[user_id]]), to_us(DAY))
        liked = appraise(truth, fresh, visit, every).attraction[0]
        return [str(truth.items.ids[ix]) for ix in np.argsort(-liked)[:10]]

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
        skew = timedelta(minutes=2)  # some clocks are wrong
        assert datetime.fromisoformat(event["event_at"]) > api.shown_at[event["request_id"]] - skew
    kinds = [event["event_type"] for event in api.events]
    assert kinds.count("click") >= kinds.count("cart") >= kinds.count("purchase")


def test_the_clock_header_never_falls(world, serve):
    api = FakeApi(first_ten)
    visit(world, serve(api), day=DAY, requests=250, seed=1, workers=1)
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


def test_over_http_users_do_what_they_do_in_process(world, serve, tmp_path):
    """The same plan, the same lists: the same clicks, chances and memories."""
    twin = make_world(tmp_path / "twin", "tiny", seed=0)
    rows = visit(world, serve(FakeApi(first_ten)), day=DAY, requests=120, seed=9)
    truth, state = twin.truth, store.load_state(twin.home)
    begin_day(truth, state, to_us(DAY) // DAY_US)
    planned = exactly(truth, state, to_us(DAY), 120, 9)
    ten = np.arange(10)
    waited = latencies(truth, planned)
    played = play_day(truth, state, planned, lambda wave: np.tile(ten, (len(wave), 1)), waited)
    assert rows["user_id"].tolist() == truth.users.ids[played.visits.user_ix].tolist()
    assert rows["clicks"].tolist() == played.reaction.click.sum(axis=1).tolist()
    assert rows["true_utility"].to_numpy() == pytest.approx(played.reaction.utility.sum(axis=1))
    after = store.load_state(world.home)
    np.testing.assert_array_equal(after.seen_item, state.seen_item)
    np.testing.assert_allclose(after.satisfaction, state.satisfaction)


def test_what_happens_later_is_posted_when_its_time_has_come(serve, tmp_path):
    world = make(configure("tiny", 0, cart_rate=1.0, purchase_rate=1.0, late=0.0), tmp_path)
    api = FakeApi(best_ten(world))
    address = serve(api)
    visit(world, address, day=DAY, requests=200, seed=2)
    waiting = store.load_pending(tmp_path)
    bought = waiting[waiting["event_type"] == "purchase"]
    posted = [event for event in api.events if event["event_type"] == "purchase"]
    assert len(posted) > 3
    assert len(bought) > len(posted) / 2
    visit(open_world(tmp_path), address, day=DAY + timedelta(days=1), requests=200, seed=3)
    due = set(waiting[waiting["seen_at"] < DAY + timedelta(days=1, hours=18)]["event_id"])
    assert due <= {event["event_id"] for event in api.events}
    later = waiting[waiting["seen_at"] > DAY + timedelta(days=3)]["event_id"]
    assert set(later) <= set(store.load_pending(tmp_path)["event_id"])


def test_the_truth_of_a_day_over_http_is_kept_by_request(world, serve, tmp_path):
    rows = visit(world, serve(FakeApi(first_ten)), day=DAY, requests=40, seed=4)
    told = store.load_responses(tmp_path).set_index("request_id")
    assert set(told.index) == set(rows["request_id"])
    expected = told["true_utility"].reindex(rows["request_id"]).to_numpy()
    assert rows["true_utility"].to_numpy() == pytest.approx(expected)


def test_what_visitors_send_says_nothing_of_what_they_think(world, serve):
    """Every body and header of a day: names that the API documents, and no other."""
    api = FakeApi(first_ten)
    visit(world, serve(api), day=DAY, requests=300, seed=4)
    assert keys_of(api.asked) == {"user_id", "k", "context", "device", "location"}
    assert keys_of(api.events) == {*EventIn.model_fields, "device", "location"}
    assert {event["event_type"] for event in api.events} >= {"click", "cart"}
    assert leaks(keys_of(api.asked) | keys_of(api.events)) == []
    for event in api.events:
        worth = {"purchase": event["value"], "rating": event["value"]}
        assert event["value"] == worth.get(event["event_type"])
        if event["event_type"] == "rating":
            assert event["value"] in {1.0, 2.0, 3.0, 4.0, 5.0}


def test_a_shifted_day_is_in_the_timeline(world, serve, tmp_path):
    visit(world, serve(FakeApi(first_ten)), day=DAY, requests=20, seed=6, shift="new_segment")
    told = json.loads((tmp_path / "truth" / "world" / "timeline.json").read_text())
    arrival = next(change for change in told if change["kind"] == "covariate")
    assert arrival["begins_at"] == "2026-03-01T00:00:00+00:00"
    assert arrival["size"] == 0.5
    later = DAY + timedelta(days=2)
    visit(world, serve(FakeApi(first_ten)), day=later, requests=20, seed=7, shift="new_segment")
    arrivals = [
        c["begins_at"][:10] for c in store.load_timeline(tmp_path) if c["kind"] == "covariate"
    ]
    assert arrivals == ["2026-03-01", "2026-03-03"], "a second day does not hide the first"


def test_a_slow_world_loses_visitors(serve, tmp_path):
    world = make(configure("tiny", 0, preset="slow_backend", latency_loss=2.0), tmp_path)
    rows = visit(world, serve(FakeApi(first_ten)), day=DAY, requests=200, seed=1)
    assert len(rows) < 160
