"""Online reads and writes: equal to Feast's own answer, honest about age, newer wins.

One suite over every online store that is present; what only one of them can do stands at the end.
"""

import sqlite3
import threading
from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from features.definitions import BY_NAME, STREAM_TTL, USER_VIEWS, of_view, stored_of
from features.errors import FeaturesUnavailable
from features.feature_set import CURRENT
from features.request import UserRow, microseconds
from features.store import OnlineStore
from infra.clients import REGISTRY, OpenedStore, clear_online, open_feast
from infra.workspace import Workspace
from pipelines.materialize import apply_views, materialize
from tests.features.workspaces import CATEGORIES, NOW, built_workspace

from features.repo.views import stored_views  # isort: skip  # imports Feast: after infra.clients


@pytest.fixture(scope="module")
def workspace(new_workspace, tmp_path_factory):
    return built_workspace(new_workspace(tmp_path_factory.mktemp("store")))


@pytest.fixture(scope="module")
def feast(workspace):
    return open_feast(workspace)


@pytest.fixture(scope="module")
def online(feast):
    return OnlineStore(feast)


def row(version: int, items=("a",)) -> dict:
    return {
        "session_events": 1, "session_positives": 1, "session_minutes": 0.5, "positives_24h": 1,
        "impressions_1h": 1, "clicks_1h": 1, "impressions_24h": 1, "clicks_24h": 1,
        "history_items": list(items), "history_at": [version] * len(items),
        "last_event_at": version, "version": version,
    }  # fmt: skip


def frame(rows: dict) -> pd.DataFrame:
    """As the offline store has them."""
    made = pd.DataFrame([{"user_id": user_id, **values} for user_id, values in rows.items()])
    made["as_of"] = pd.to_datetime(made["version"], unit="us", utc=True)
    return made.assign(created_at=NOW)


def push(online, user_id, version, items=("a",)):
    return online.push("user_stream", {user_id: row(version, items)})


def test_a_users_values_equal_feasts_own_answer(online, feast):
    names = [f"{v}:{f.column}" for v in USER_VIEWS for f in stored_of(v)]
    extras = ["user_stream:history_items", "user_stream:history_at", "user_stream:last_event_at"]
    for number in range(7):
        user_id = f"u{number}"
        asked = feast.get_online_features(
            features=names + extras, entity_rows=[{"user_id": user_id}]
        ).to_dict()
        got = online.read_user(user_id, CATEGORIES, NOW)
        assert got.missing == ()
        for name, value in got.values.items():
            assert value == asked[name][0], (user_id, name)
        assert got.history_items == asked["history_items"][0]
        assert got.history_at == asked["history_at"][0]
        assert got.last_event_at == asked["last_event_at"][0]
        fields = [f"user_category_daily:{f.name}" for f in of_view("user_category_daily")]
        keys = {"user_id": [user_id] * len(CATEGORIES), "category": list(CATEGORIES)}
        asked = feast.get_online_features(features=fields, entity_rows=keys).to_dict()
        for place, category in enumerate(CATEGORIES):
            known = got.category_rows.get(category, {})
            for f in of_view("user_category_daily"):
                assert known.get(f.name) == asked[f.name][place]


def test_items_equal_feasts_own_answer_and_unknown_ones_get_defaults(online, feast):
    fields = [f"{f.view}:{f.column}" for f in CURRENT.item]
    item_ids = ["i3", "nobody", "i0"]
    rows = [{"item_id": item_id} for item_id in item_ids]
    asked = feast.get_online_features(features=fields, entity_rows=rows).to_dict()
    got = online.read_items(item_ids).matrix
    assert got.shape == (3, len(fields))
    for column, f in enumerate(CURRENT.item):
        assert got[1, column] == f.default
        known = [f.default if v is None else v for v in asked[f.column]]
        np.testing.assert_array_equal(got[:, column], known)


def test_an_items_old_rows_count_as_missing_view_by_view(online):
    """An hour's counts say nothing after a day; the day's row still stands."""
    items = [f"i{number}" for number in range(10)]
    young, late = (online.read_items(items, NOW + timedelta(days=days)) for days in (0, 1))
    newest = {"item_daily": NOW.replace(hour=0), "item_hourly": NOW.replace(hour=5)}
    assert young.as_of == late.as_of == newest
    hourly = [place for place, f in enumerate(CURRENT.item) if f.view == "item_hourly"]
    assert (young.matrix[:, hourly] != late.matrix[:, hourly]).any()
    assert (late.matrix[:, hourly] == [CURRENT.item[place].default for place in hourly]).all()
    daily = [place for place in range(len(CURRENT.item)) if place not in hourly]
    np.testing.assert_array_equal(young.matrix[:, daily], late.matrix[:, daily])


def test_more_items_than_one_statement_takes_come_back_in_order(online):
    item_ids = [f"i{number % 10}" for number in range(1203)]
    got = online.read_items(item_ids).matrix
    np.testing.assert_array_equal(got[:10], got[1200 - 10 : 1200])
    assert len(got) == 1203


def test_an_unknown_user_gets_defaults_and_every_view_is_missing(online):
    got = online.read_user("nobody", CATEGORIES, NOW)
    assert got.values == UserRow.unknown().values
    assert set(got.missing) == {"user_daily", "user_stream", "user_category_daily"}
    assert got.age_s == {}


def test_a_row_older_than_its_ttl_counts_as_missing(online):
    fresh = online.read_user("u1", CATEGORIES, NOW)
    assert fresh.missing == ()
    assert fresh.age_s["user_daily"] == 6 * 3600  # the row of 00:00, read at 06:00
    late = online.read_user("u1", CATEGORIES, NOW + timedelta(days=3))
    assert set(late.missing) == {"user_daily", "user_category_daily"}
    assert late.values["account_age_days"] == BY_NAME["account_age_days"].default
    assert late.category_rows == {}
    assert late.history_items == fresh.history_items  # the stream's TTL is longer
    assert late.age_s["user_daily"] == (3 * 24 + 6) * 3600
    gone = online.read_user("u1", CATEGORIES, NOW + STREAM_TTL + timedelta(days=3))
    assert "user_stream" in gone.missing
    assert gone.history_items == []
    assert gone.last_event_at == 0


def test_an_older_push_never_overwrites_a_newer_one(online, feast):
    at = microseconds(NOW)
    assert push(online, "pushed", at, ["new"]) == 1
    assert push(online, "pushed", at - 1, ["late"]) == 0
    assert push(online, "pushed", at, ["equal"]) == 0
    assert online.read_user("pushed", (), NOW).history_items == ["new"]
    # What Feast does by itself: the last write wins, however old.
    feast.push("user_stream_push", frame({"pushed": row(at - 1, ["late"])}))
    assert online.read_user("pushed", (), NOW).history_items == ["late"]


def test_of_two_rows_in_one_push_the_newer_is_kept(online):
    at = microseconds(NOW)
    both = [frame({"twice": row(at + step, [str(step)])}) for step in (2, 1)]
    assert online.push_user_stream(pd.concat(both)) == 1
    assert online.read_user("twice", (), NOW).history_items == ["2"]


def test_an_empty_push_writes_nothing(online):
    assert online.push("user_stream", {}) == 0
    assert online.push_user_stream(frame({"u": row(1)}).iloc[:0]) == 0


def test_of_two_racing_writers_the_newer_value_stays(workspace, monkeypatch):
    """The older writer is overtaken just before it writes what it has made of its row."""
    at, inside, go_on = microseconds(NOW), threading.Event(), threading.Event()
    slow_store = open_feast(workspace)  # its own connection, as another process has
    real_write = slow_store.write_newer

    def slowly(*args):
        inside.set()
        go_on.wait(10)
        return real_write(*args)

    monkeypatch.setattr(slow_store, "write_newer", slowly)
    writers = [
        threading.Thread(target=push, args=(OnlineStore(slow_store), "raced", at, ["older"])),
        threading.Thread(target=push, args=(OnlineStore(open_feast(workspace)), "raced", at + 1)),
    ]
    writers[0].start()
    inside.wait(10)
    writers[1].start()
    writers[1].join(10)
    go_on.set()
    for writer in writers:
        writer.join(10)
    online = OnlineStore(open_feast(workspace))
    assert online.read_user("raced", (), NOW).history_at == [at + 1]


def test_many_racing_writers_leave_the_newest(workspace):
    """Each pushes its own versions of the same users, in an order of its own."""
    at, users = microseconds(NOW), [f"racer{number}" for number in range(3)]

    def write(seed):
        online, rng = OnlineStore(open_feast(workspace)), np.random.default_rng(seed)
        for step in rng.permutation(6):
            version = at + int(step) * 4 + seed
            online.push("user_stream", {u: row(version, [str(version)]) for u in users})

    writers = [threading.Thread(target=write, args=(seed,)) for seed in range(4)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(60)
    online, newest = OnlineStore(open_feast(workspace)), at + 5 * 4 + 3
    assert online.read_versions(users) == dict.fromkeys(users, newest)
    stored = online.read_stream(users)
    assert [stored[user]["history_items"] for user in users] == [[str(newest)]] * len(users)


def test_a_push_leaves_the_batch_views_alone_and_they_leave_it(workspace, online):
    before = online.read_user("u2", CATEGORIES, NOW)
    at = microseconds(NOW)
    push(online, "u2", at, ["pushed"])
    after = online.read_user("u2", CATEGORIES, NOW)
    assert after.category_rows == before.category_rows
    for f in of_view("user_daily"):
        assert after.values[f.name] == before.values[f.name]
    materialize(workspace, NOW)
    assert online.read_user("u2", CATEGORIES, NOW).history_items == ["pushed"]
    assert online.read_user("u2", CATEGORIES, NOW).category_rows == before.category_rows


def test_a_day_that_is_computed_again_replaces_its_row(workspace, online):
    """Equal in time, different in value: events that came late, or a mended bug."""
    path = max(workspace.offline.glob("user_daily/*.parquet"))
    table = pq.read_table(path)
    place = table.column_names.index("categories_90d")
    changed = pa.array([77] * len(table), table.schema.field(place).type)
    pq.write_table(table.set_column(place, table.schema.field(place), changed), path)
    materialize(workspace, NOW)
    assert online.read_user("u3", (), NOW).values["categories_90d"] == 77
    pq.write_table(table, path)
    materialize(workspace, NOW)
    assert online.read_user("u3", (), NOW).values["categories_90d"] != 77


def test_versions_and_raw_rows_are_told_of_those_who_have_some(online):
    at = microseconds(NOW)
    push(online, "told", at, [])
    assert online.read_versions(["nobody", "told"]) == {"nobody": 0, "told": at}
    stored = online.read_stream(["nobody", "told"])
    assert list(stored) == ["told"]
    assert stored["told"] | {"history_items": [], "history_at": []} == row(at, [])


def test_a_user_with_a_row_in_one_view_misses_the_others(online):
    push(online, "new here", microseconds(NOW))
    got = online.read_user("new here", CATEGORIES, NOW)
    assert set(got.missing) == {"user_daily", "user_category_daily"}
    assert got.age_s == {"user_stream": 0.0}
    for f in of_view("user_daily"):
        assert got.values[f.name] == f.default


def test_two_data_sets_do_not_mix(new_workspace, tmp_path):
    first, second = (new_workspace(tmp_path / name) for name in ("a", "b"))
    stores = []
    for workspace in (first, second):
        store = open_feast(workspace)
        apply_views(store, workspace.offline)
        stores.append(OnlineStore(store))
    for store, item in zip(stores, ("one", "two"), strict=True):
        push(store, "both", microseconds(NOW), [item])
    assert [s.read_user("both", (), NOW).history_items for s in stores] == [["one"], ["two"]]
    clear_online(first)
    assert [s.read_user("both", (), NOW).history_items for s in stores] == [[], ["two"]]


def test_without_views_the_remedy_is_named(new_workspace, tmp_path):
    with pytest.raises(FeaturesUnavailable, match=r"no view user_daily.*run `shortlist features`"):
        OnlineStore(open_feast(new_workspace(tmp_path)))


def test_who_brings_the_views_needs_no_registry(workspace, online):
    registry = workspace.feast / REGISTRY
    kept = registry.read_bytes()
    expected = online.read_user("u1", CATEGORIES, NOW)
    try:
        for spoiled in (None, b"no registry"):
            registry.unlink() if spoiled is None else registry.write_bytes(spoiled)
            without = OnlineStore(open_feast(workspace), stored_views(workspace.offline))
            assert without.read_user("u1", CATEGORIES, NOW) == expected
    finally:
        registry.write_bytes(kept)


def test_a_pushed_row_keeps_its_microseconds(online):
    at = microseconds(datetime(2026, 3, 1, 5, 59, 59, 123457, tzinfo=UTC))
    push(online, "exact", at)
    got = online.read_user("exact", (), NOW)
    assert got.history_at == [at]
    assert got.last_event_at == at


def test_a_busy_sqlite_store_is_unavailable_and_says_no_more(tmp_path, monkeypatch):
    workspace = Workspace(tmp_path, "small")
    store = open_feast(workspace)
    apply_views(store, workspace.offline)
    monkeypatch.setattr(
        store, "write_newer", failing(sqlite3.OperationalError(f"{tmp_path} is locked"))
    )
    with pytest.raises(FeaturesUnavailable) as told:
        push(OnlineStore(store), "u", microseconds(NOW))
    assert str(told.value) == "features: the store failed (OperationalError)"


def failing(error):
    def fail(*_args, **_kwargs):
        raise error

    return fail


def test_a_user_is_one_round_trip_to_redis(own_redis, tmp_path, monkeypatch):
    workspace = built_workspace(Workspace(tmp_path, "small", own_redis.services))
    store = open_feast(workspace)
    online, trips = OnlineStore(store), []
    backend = store._get_provider().online_store
    real = backend._read_hash_fields
    monkeypatch.setattr(
        backend, "_read_hash_fields", lambda *asked: trips.append(len(asked[1])) or real(*asked)
    )
    at_once = online.read_user("u1", CATEGORIES, NOW)
    assert trips == [2 + len(CATEGORIES)]  # two rows of the user, one for each category
    monkeypatch.setattr(store, "read_many", lambda asked: OpenedStore.read_many(store, asked))
    assert online.read_user("u1", CATEGORIES, NOW) == at_once  # view by view, as Feast reads
    assert trips[1:] == [1, 1, len(CATEGORIES)]


def test_a_redis_that_is_away_is_unavailable_until_it_is_back(own_redis, tmp_path):
    workspace = Workspace(tmp_path, "small", own_redis.services)
    store = open_feast(workspace)
    apply_views(store, workspace.offline)
    online, at = OnlineStore(store), microseconds(NOW)
    push(online, "u", at, ["kept"])
    own_redis.kill()
    for call in (
        lambda: online.read_user("u", CATEGORIES, NOW),
        lambda: online.read_items(["i"]),
        lambda: push(online, "u", at + 1),
    ):
        with pytest.raises(FeaturesUnavailable, match=r"the store failed \(ConnectionError\)"):
            call()
    assert OnlineStore(open_feast(workspace))  # opening asks Redis for nothing
    own_redis.start()
    assert online.read_user("u", (), NOW).history_items == ["kept"]
    assert push(online, "u", at + 1, ["newer"]) == 1
