"""Twins: the same people and luck, other slates; and an ordering that the truth must give."""

from dataclasses import replace
from datetime import timedelta

import numpy as np
import pandas as pd
import pytest

from features.definitions import USER_VIEWS, stored_of
from features.store import OnlineStore
from features.streaming import row_of
from infra.clients import open_feast
from pipelines.loop import morning
from pipelines.loop.book import gini
from pipelines.loop.day import live_through
from pipelines.loop.pending import Pending
from pipelines.loop.shop import request_id
from pipelines.loop.twin import ARMS, Twin, born, live, start_of
from pipelines.world.generate import fingerprint, open_world
from pipelines.world.population import to_us
from pipelines.world.state import fresh_state


@pytest.fixture(scope="module")
def twins(seedling, tmp_path_factory):
    """Each arm after two days."""
    home = tmp_path_factory.mktemp("twins")
    found = {}
    for arm in ARMS:
        twin = Twin(home / arm, arm, "never")
        born(seedling, twin)
        live(twin, 2)
        found[arm] = twin
    return found


def day(twin, number=0):
    folder = twin.book.day(number)
    return pd.read_parquet(folder / "slates.parquet"), pd.read_parquet(folder / "events.parquet")


def test_twins_meet_the_same_people_on_the_first_day(twins):
    """Who comes at which moment does not depend on the policy; what they click does."""
    found = {arm: day(twin)[0] for arm, twin in twins.items()}
    came = {arm: list(zip(t["user_id"], t["at_us"], strict=True)) for arm, t in found.items()}
    assert came["full"] == came["popular"] == came["oracle"]
    assert len(came["full"]) > 100
    clicks = {arm: table["clicks"].tolist() for arm, table in found.items()}
    assert clicks["full"] != clicks["popular"] != clicks["oracle"]


def test_who_knows_the_truth_earns_most_and_popularity_is_beaten(twins):
    told = {arm: [twin.book.told(n) for n in (0, 1)] for arm, twin in twins.items()}
    earned = {
        arm: sum(d["utility"] for d in days) / sum(d["slates"] for d in days)
        for arm, days in told.items()
    }
    assert earned["oracle"] > 2 * earned["full"]
    assert earned["full"] > 1.1 * earned["popular"]


def test_an_arm_learns_from_its_own_log_only(twins):
    for arm, other in (("full", "popular"), ("popular", "full")):
        mine, theirs = (
            {request_id for request_id in day(twins[name])[0]["request_id"]}
            for name in (arm, other)
        )
        lake = pd.read_parquet(twins[arm].workspace.lake / "events")["request_id"]
        assert mine <= set(lake)
        assert not theirs & set(lake)


def test_what_is_logged_is_what_was_shown_and_done(twins):
    table, events = day(twins["full"])
    shown = events[events["event_type"] == "impression"]
    assert (shown.groupby("request_id")["position"].agg(list).map(len) == 10).all()
    assert set(shown["request_id"]) == set(table["request_id"])
    own = events[events["request_id"].isin(table["request_id"])]
    clicks = (
        own[own["event_type"] == "click"].drop_duplicates("event_id").groupby("request_id").size()
    )
    late = table.set_index("request_id")["clicks"] - clicks.reindex(table["request_id"]).fillna(0)
    assert (late >= 0).all(), "no click out of nothing"
    assert late.sum() <= 0.05 * table["clicks"].sum(), "phones that were offline send theirs later"
    assert events["seen_at"].is_monotonic_increasing


def test_utility_is_what_clicks_amount_to(twins):
    tables = pd.concat([day(twin, n)[0] for twin in twins.values() for n in (0, 1)])
    assert tables["clicks"].sum() == pytest.approx(tables["utility"].sum(), rel=0.1)


def test_the_shop_reads_what_the_online_store_would_answer(seedling, tmp_path):
    """Batch rows, stream states, ages and defaults: for every user, and one whom nobody knows."""
    twin = Twin(tmp_path / "full", "full", "never")
    born(seedling, twin)
    world, workspace = open_world(twin.home), twin.workspace
    now = start_of(world, 0)
    rows = morning.batch_rows(workspace, now)
    shop = morning.opened(workspace, rows, morning.first_states(workspace), now)
    online = OnlineStore(open_feast(workspace))
    states = {user_id: row_of(state) for user_id, state in shop.states.items()}
    online.push("user_stream", states)
    categories = shop.bundle.catalogue.vocabulary["category"]
    ages = []
    for user_id in [*world.truth.users.ids.tolist(), "nobody"]:
        for later in (timedelta(), timedelta(hours=47), timedelta(days=2, hours=1)):
            mine, theirs = (
                shop.user(user_id, now + later),
                online.read_user(user_id, categories, now + later),
            )
            assert mine.values == pytest.approx(theirs.values, rel=1e-9), user_id  # order of sums
            assert replace(theirs, values=mine.values, missing=(), age_s={}) == mine
            ages.append(len(mine.category_rows))
    assert max(ages) > 0
    assert len(mine.values) == sum(len(stored_of(view)) for view in USER_VIEWS)


def test_what_is_under_way_arrives_once_and_in_order():
    at = pd.date_range("2026-03-01", periods=4, freq="h", tz="UTC").as_unit("us")
    events = pd.DataFrame(
        {"event_id": ["c", "a", "b", "a"], "user_id": ["u", "u", "v", "u"], "event_at": at[[0, 0, 0, 0]],
         "seen_at": at[[2, 1, 1, 1]]}
    )  # fmt: skip
    pending = Pending(events)
    noon = int(at[1].value // 1000)
    assert [e["event_id"] for e in pending.due("u", noon)] == ["a", "a"], "a retry arrives too"
    assert not list(pending.due("u", noon))
    kept = Pending(pending.table())
    assert [e["event_id"] for e in kept.all_due(int(at[3].value // 1000))] == ["c", "b"]
    assert pd.DataFrame(kept.table()).empty


@pytest.mark.parametrize(("ahead_us", "heard_at"), [(1, "before"), (0, "after")])
def test_what_arrives_at_the_moment_of_a_visit_is_heard_after_it(seedling, ahead_us, heard_at):
    """A training join takes what lies strictly before a request; so must the arm that answered it."""
    world = open_world(seedling)
    start_us = to_us(start_of(world, 0))

    def lived(pending):
        arm = Listening(world)
        live_through(world.truth, fresh_state(world.truth), pending, arm, "full", start_us)
        return arm.told

    kind, user_id, at_us = lived(Pending(pd.DataFrame()))[0]
    assert kind == "asked"
    arrives = pd.to_datetime([at_us - ahead_us], unit="us", utc=True).as_unit("us")
    event = {"event_id": ["e"], "user_id": user_id, "event_at": arrives, "seen_at": arrives}
    mine = [told for told in lived(Pending(pd.DataFrame(event))) if told[1] == user_id]
    order = [("asked", user_id, at_us), ("heard", user_id, at_us - ahead_us)]
    assert mine[:2] == (order if heard_at == "after" else order[::-1])


class Listening:
    """Shows everybody the first items, and notes what it is told when."""

    def __init__(self, world):
        self.slots = world.truth.config.slots
        self.ids = world.truth.users.ids
        self.told, self.events, self.served = [], [], []

    def hear(self, event):
        self.told.append(("heard", event["user_id"], event["seen_at"]))

    def choose(self, visits, request_ids):
        asked = zip(self.ids[visits.user_ix].tolist(), visits.at_us.tolist(), strict=True)
        self.told += [("asked", *one) for one in asked]
        return np.tile(np.arange(self.slots), (len(visits), 1))


def test_requests_have_names_of_their_own():
    names = {request_id(luck, arm) for luck in range(100) for arm in ARMS}
    assert len(names) == 300
    assert request_id(7, "full") == request_id(7, "full")
    assert all(len(name) == 32 and int(name, 16) >= 0 for name in names)


def test_inequality_of_exposure():
    assert gini(np.ones(50)) == 0
    assert gini(np.r_[np.zeros(99), 1.0]) == pytest.approx(0.99)
    assert gini(np.zeros(5)) == 0


def test_a_day_is_the_same_when_it_is_lived_again(seedling, tmp_path, twins):
    again = Twin(tmp_path / "full", "full", "never")
    born(seedling, again)
    live(again, 1)
    assert again.book.told(0)["log_sha256"] == twins["full"].book.told(0)["log_sha256"]
    assert fingerprint(day(again)[1]) == again.book.told(0)["log_sha256"]
