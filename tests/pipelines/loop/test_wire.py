"""The same days over HTTP, through the real API and the real stream worker, as in one process."""

import json
from contextlib import closing
from datetime import timedelta

import httpx
import numpy as np
import pandas as pd
import pytest

from features.definitions import BATCH_LAG
from features.errors import ContractError, Unavailable
from infra.event_log import SqliteEventLog
from infra.settings import Settings
from infra.workspace import Workspace
from models.versions import point_to
from pipelines.ingest import ingest
from pipelines.loop.api import Api
from pipelines.loop.pending import Pending
from pipelines.loop.plan import Plan
from pipelines.loop.twin import Twin, born, live
from pipelines.loop.wire import due, live_over_http
from pipelines.past import in_us
from pipelines.promote import publish_popular
from pipelines.world import truth as store
from pipelines.world.config import configure
from pipelines.world.generate import make
from pipelines.world.happenings import happenings, table
from pipelines.world.planning import plan_day
from pipelines.world.population import to_us
from pipelines.world.state import fresh_state

DAYS = 2
MOMENTS = ["event_id", "event_at", "seen_at"]


def of_day(twin, number):
    """Slates and events, each naming its request by user and moment; features by the same name."""
    folder = twin.book.day(number)
    slates = pd.read_parquet(folder / "slates.parquet")
    name = slates["user_id"] + "@" + slates["at_us"].astype(str)
    names = dict(zip(slates["request_id"], name, strict=True))
    events = pd.read_parquet(folder / "events.parquet")
    events["request_id"] = events["request_id"].replace(names)
    request = events["event_id"].str.split(":").str[0]
    events["event_id"] = request.replace(names) + events["event_id"].str.removeprefix(request)
    order = ["seen_at", "event_at", "user_id", "event_id"]
    events = events.sort_values(order, ignore_index=True)
    served = {names[record["request_id"]]: record for _, record in twin.book.served(number)}
    return slates.drop(columns="request_id"), events, served


@pytest.mark.timeout(900)  # two processes that share the machine with other tests
def test_over_http_two_days_are_those_of_one_process(seedling, tmp_path):
    """Each list, each click, each event and what everybody remembers; and it is the ranker's list."""
    here = Twin(tmp_path / "here", "full", "never")
    there = Twin(tmp_path / "there", "full", "never", over="http")
    for twin in (here, there):
        born(seedling, twin)
    for number in range(DAYS):
        for twin in (here, there):
            live(twin, number + 1)
        slates, events, served = of_day(here, number)
        over_http = of_day(there, number)
        assert len(slates) > 100
        pd.testing.assert_frame_equal(over_http[0], slates)
        columns = [*MOMENTS, "event_type", "user_id", "item_id", "session_id", "position", "value"]
        columns += ["context", "source"]
        pd.testing.assert_frame_equal(over_http[1][columns], events[columns], check_dtype=False)
        for request, mine in served.items():
            theirs = over_http[2][request]
            assert theirs["item_ids"] == mine["item_ids"], request
            assert theirs["rung"] == 0
            np.testing.assert_allclose(theirs["features"], mine["features"], rtol=1e-5)
    assert slates["clicks"].sum() > 20, "or there was nothing to learn on the way"
    one, other = (twin.book.state(DAYS - 1) for twin in (here, there))
    for field in ("seen_item", "seen_at", "clicked_item", "left", "gone"):
        np.testing.assert_array_equal(getattr(other[0], field), getattr(one[0], field))
    np.testing.assert_allclose(other[0].satisfaction, one[0].satisfaction)
    same = ["event_type", "user_id", "item_id", "event_at", "seen_at"]
    pd.testing.assert_frame_equal(other[1].table()[same], one[1].table()[same])


@pytest.fixture(scope="module")
def village(tmp_path_factory):
    """Few visits and many mishaps; a popular list and nothing that was trained."""
    workspace = Workspace(tmp_path_factory.mktemp("village"), "world")
    config = configure("tiny", 2, slates_a_day=60, late=0.4, duplicates=0.2, skewed=1.0)
    world = make(config, workspace.home)
    ingest(workspace, world.history(), now=world.truth.end)
    point_to(workspace.bundles, publish_popular(workspace))
    return world, workspace


@pytest.fixture(scope="module")
def day(village):
    """Pending events of before, the day, and what is pending after it."""
    world, workspace = village
    state, pending = store.load_state(world.home), Pending(store.load_pending(world.home))
    before, now = pending.table(), world.truth.end + BATCH_LAG
    lived = live_over_http(world.truth, state, pending, workspace, now, "full")
    return before, lived, pending.table()


def test_events_are_logged_with_the_worlds_own_moments(village, day):
    """Wrong clocks, retries and phones that were offline included; what comes later, comes later."""
    world, _ = village
    before, lived, after = day
    did = happenings(world.truth, lived.played.visits, lived.played.item_ix, lived.played.reaction)
    new = table(world.truth, lived.played.visits, lived.played.item_ix, did, lived.request_ids)
    every = pd.concat([before, new], ignore_index=True)[MOMENTS]
    begins = world.truth.end + BATCH_LAG
    is_today = every["seen_at"] < begins + timedelta(days=1)
    logged = lived.events[lived.events["event_type"] != "impression"]
    for expected, found in ((every[is_today], logged), (every[~is_today], after)):
        both = [t[MOMENTS].sort_values(MOMENTS, ignore_index=True) for t in (expected, found)]
        pd.testing.assert_frame_equal(*both)
        assert len(found)
    assert (logged["seen_at"] < begins).any(), "arrived between midnight and the first visit"
    assert logged["event_id"].duplicated().any()
    assert (logged["event_at"] > logged["seen_at"]).any()


def test_what_was_shown_is_logged_at_the_moment_of_the_visit(village, day):
    _, lived, _ = day
    impressions = lived.events[lived.events["event_type"] == "impression"]
    shown = dict(zip(lived.request_ids, lived.played.visits.at_us.tolist(), strict=True))
    assert len(impressions) == lived.played.item_ix.size
    for name in ("event_at", "seen_at"):
        assert in_us(impressions[name]).tolist() == impressions["request_id"].map(shown).tolist()
    assert [record["request_id"] for _, record in lived.served] != []
    assert {record["request_id"] for _, record in lived.served} == set(lived.request_ids)


def test_the_log_grows_in_order_of_time(village, day):
    _, workspace = village
    with closing(SqliteEventLog(workspace.event_log, Settings().partitions)) as log:
        for partition in range(log.partitions):
            seen = [r.value["seen_at"] for r in log.read("events", partition, 0, 100_000)]
            assert len(seen) > 10
            assert seen == sorted(seen)


def test_a_day_that_broke_off_is_not_begun_again(village, day):
    world, workspace = village
    now = world.truth.end + BATCH_LAG
    with pytest.raises(ContractError, match=r"broke off in the middle .* again without --resume"):
        live_over_http(
            world.truth, fresh_state(world.truth), Pending(pd.DataFrame()), workspace, now, "full"
        )


def test_what_is_due_comes_in_order_of_arrival_from_everybody():
    at = pd.date_range("2026-03-01", periods=4, freq="s", tz="UTC").as_unit("us")
    events = pd.DataFrame(
        {"event_id": ["a", "b", "c", "d", "e"], "user_id": ["v", "u", "v", "u", "v"],
         "event_at": at[[0, 0, 0, 1, 0]], "seen_at": at[[2, 1, 0, 2, 3]]}
    )  # fmt: skip
    pending = Pending(events)
    found = due(pending, int(at[2].value // 1000))
    assert [event["event_id"] for event in found] == ["c", "b", "a", "d"]
    assert pending.table()["event_id"].tolist() == ["e"]


class Calm:
    """Everything has arrived."""

    def known(self, user_id):
        pass

    def written(self, user_id):
        pass

    def sent(self, topic, user_id, records):
        pass


@pytest.fixture
def ask(village):
    """Ask an API that gives a made-up answer."""
    truth = village[0].truth
    visit = plan_day(truth, fresh_state(truth), to_us(truth.end + BATCH_LAG)).take(np.array([0]))

    def ask(status, content):
        asked = []

        def answer(request):
            asked.append(request)
            return httpx.Response(status, json=content)

        client = httpx.Client(transport=httpx.MockTransport(answer), base_url="http://api")
        return Api(client, Calm(), best_rung=0).ask(truth, visit), asked[0], visit

    return ask


def test_a_visit_says_who_where_and_when_and_nothing_else(ask, village):
    users = village[0].truth.users
    answer, request, visit = ask(200, {"rung": 0, "items": [], "reasons": []})
    who = visit.user_ix[0]
    assert json.loads(request.content) == {
        "user_id": users.ids[who],
        "k": 10,
        "context": {"device": visit.device[0], "location": users.location[who]},
    }
    said = pd.Timestamp(request.headers["X-Simulated-Now"])
    assert said.value // 1000 == visit.at_us[0]
    assert answer["rung"] == 0


def test_a_slate_from_a_lower_rung_is_an_error(ask):
    low = {"rung": 3, "items": [], "reasons": ["features: the store failed"]}
    with pytest.raises(Unavailable, match=r"rung 3, expected 0: features: the store failed"):
        ask(200, low)


def test_a_refusal_is_quoted(ask):
    with pytest.raises(Unavailable, match=r"/v1/recommendations answered 422 .*: .*too odd"):
        ask(422, {"error": "too odd"})


def test_only_the_trained_line_runs_over_http(village):
    world, workspace = village
    with pytest.raises(ContractError, match=r"arm 'popular' cannot run over HTTP, only 'full'"):
        Plan(2, ("full", "popular"), "never", ("trust",), (0,), "tiny", over="http")
    with pytest.raises(ContractError, match=r"arm 'oracle' cannot .* name --arms full"):
        live_over_http(
            world.truth, fresh_state(world.truth), Pending(pd.DataFrame()), workspace,
            world.truth.end, "oracle",
        )  # fmt: skip


def test_an_experiment_in_the_settings_is_refused(village, monkeypatch):
    world, workspace = village
    monkeypatch.setenv("SHORTLIST_EXPERIMENT", "full-vs-popular")
    with pytest.raises(ContractError, match=r"SHORTLIST_EXPERIMENT is 'full-vs-popular'.*; unset"):
        live_over_http(
            world.truth, fresh_state(world.truth), Pending(pd.DataFrame()), workspace,
            world.truth.end + BATCH_LAG, "full",
        )  # fmt: skip
