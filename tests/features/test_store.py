"""Online reads and writes: equal to Feast's own answer, honest about age, newer wins.

One suite over every online store that is present; what only one of them can do stands at the end.
"""

import sqlite3
import threading
from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
import pytest

from features.definitions import BY_NAME, STREAM_TTL, of_view
from features.errors import FeaturesUnavailable
from features.request import UserRow, microseconds
from features.store import OnlineStore, stream_frame
from infra.clients import open_feast
from infra.workspace import Workspace
from tests.features.workspaces import CATEGORIES, NOW, built_workspace


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
        "history_items": list(items), "history_at": [version] * len(items),
        "last_event_at": version, "version": version,
    }  # fmt: skip


def push(online, user_id, version, items=("a",)):
    return online.push_user_stream(stream_frame({user_id: row(version, items)}, NOW))


def test_a_users_values_equal_feasts_own_answer(online, feast):
    names = [f"{v}:{f.name}" for v in ("user_daily", "user_stream") for f in of_view(v)]
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
    fields = [f"item_daily:{f.name}" for f in of_view("item_daily")]
    item_ids = ["i3", "nobody", "i0"]
    rows = [{"item_id": item_id} for item_id in item_ids]
    asked = feast.get_online_features(features=fields, entity_rows=rows).to_dict()
    got = online.read_items(item_ids)
    assert got.shape == (3, len(fields))
    for column, f in enumerate(of_view("item_daily")):
        assert got[1, column] == BY_NAME[f.name].default
        np.testing.assert_array_equal(got[[0, 2], column], np.array(asked[f.name])[[0, 2]])


def test_more_items_than_one_statement_takes_come_back_in_order(online):
    item_ids = [f"i{number % 10}" for number in range(1203)]
    got = online.read_items(item_ids)
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
    feast.push("user_stream_push", stream_frame({"pushed": row(at - 1, ["late"])}, NOW))
    assert online.read_user("pushed", (), NOW).history_items == ["late"]


def test_of_two_rows_in_one_push_the_newer_is_kept(online):
    at = microseconds(NOW)
    both = [stream_frame({"twice": row(at + step, [str(step)])}, NOW) for step in (2, 1)]
    assert online.push_user_stream(pd.concat(both)) == 1
    assert online.read_user("twice", (), NOW).history_items == ["2"]


def test_an_empty_push_writes_nothing(online):
    frame = stream_frame({"u": row(1)}, NOW).iloc[:0]
    assert online.push_user_stream(frame) == 0


def test_of_two_racing_writers_the_newer_value_stays(workspace, monkeypatch):
    """The older writer has looked at the store, and is overtaken before it writes."""
    at, inside, go_on = microseconds(NOW), threading.Event(), threading.Event()
    slow_store = open_feast(workspace)  # its own connection, as another process has
    real_push = slow_store.push

    def slowly(*args):
        inside.set()
        go_on.wait(10)
        real_push(*args)

    monkeypatch.setattr(slow_store, "push", slowly)
    writers = [
        threading.Thread(target=push, args=(OnlineStore(slow_store), "raced", at, ["older"])),
        threading.Thread(target=push, args=(OnlineStore(open_feast(workspace)), "raced", at + 1)),
    ]
    writers[0].start()
    inside.wait(10)
    writers[1].start()
    writers[1].join(0.3)  # it waits for the lock; without one it would be done here
    go_on.set()
    for writer in writers:
        writer.join(10)
    online = OnlineStore(open_feast(workspace))
    assert online.read_user("raced", (), NOW).history_at == [at + 1]


def test_a_failed_push_releases_the_lock(workspace, monkeypatch):
    store = open_feast(workspace)
    online = OnlineStore(store)

    def fail(*_args, **_kwargs):
        raise RuntimeError("no disk")

    monkeypatch.setattr(store, "push", fail)
    with pytest.raises(RuntimeError, match="no disk"):
        push(online, "locked", microseconds(NOW))
    other = sqlite3.connect(workspace.feast / "online.sqlite", timeout=0.1)
    other.execute("BEGIN IMMEDIATE")  # would raise if the lock were held
    other.close()


def test_without_views_the_remedy_is_named(tmp_path):
    with pytest.raises(FeaturesUnavailable, match=r"no view user_daily.*run `shortlist features`"):
        OnlineStore(open_feast(Workspace(tmp_path, "empty")))


def test_a_pushed_row_keeps_its_microseconds(online):
    at = microseconds(datetime(2026, 3, 1, 5, 59, 59, 123457, tzinfo=UTC))
    push(online, "exact", at)
    got = online.read_user("exact", (), NOW)
    assert got.history_at == [at]
    assert got.last_event_at == at
