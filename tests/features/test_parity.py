"""One definition, several ways to compute it: equal on whatever order events arrive in."""

from datetime import timedelta

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from features.batch import Wanted, rows_duckdb
from features.definitions import BATCH_VIEWS, stored_of
from features.request import microseconds
from features.schema import EVENTS, ITEMS, USERS, DatasetInfo
from infra.settings import Settings
from infra.workspace import Workspace
from pipelines.ingest import ingest
from pipelines.lake import append_events, write_items, write_users
from pipelines.parity import FOLDED, compare, differences, from_history, is_equal, states_at
from pipelines.stream_history import COLUMNS
from tests.features.plain_batch import PlainBatch
from tests.features.small_lake import DAY, POSITIVE, event, item, random_lake, user
from tests.worlds import filled, slates

ITEMS_OF_SHOP = [item(f"i{n}", "xy"[n % 2], 3.0 * n + 1) for n in range(4)]
USERS_OF_SHOP = [user(f"u{n}", 50.0) for n in range(3)]


@st.composite
def arrivals(draw):
    """Events as they reach the lake: in any order, some twice, some long after they happened."""
    n = draw(st.integers(1, 25))
    happened = [
        event(
            f"e{number}",
            draw(st.one_of(st.sampled_from([0.0, 1.0, 7.0, 30.0, 90.0]), st.floats(-1, 95))),
            draw(st.sampled_from(["impression", "view", "click", "purchase", "rating"])),
            user_id=f"u{draw(st.integers(0, 3))}",
            item_id=f"i{draw(st.integers(0, 4))}",
            session_id=draw(st.sampled_from([None, "s1", "s2"])),
            request_id=draw(st.sampled_from([None, "r"])),
            position=draw(st.sampled_from([None, 1, 3, 99])),
            value=draw(st.sampled_from([None, 2.0, 5.0])),
        )
        for number in range(n)
    ]
    late = [
        {**e, "seen_at": e["event_at"] + draw(st.sampled_from([0, 1, 3])) * timedelta(hours=9)}
        for e in happened
    ]
    repeated = draw(st.lists(st.sampled_from(late), max_size=5))
    return draw(st.permutations([*late, *repeated])), late


@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
@given(arrivals(), st.integers(1, 4))
def test_however_events_arrive_batch_plain_python_and_fold_agree(tmp_path_factory, arrived, parts):
    """The lake takes them in several loads; what is computed depends on none of it."""
    order, happened = arrived
    workspace = Workspace(tmp_path_factory.mktemp("parity"), "small")
    for load in np.array_split(np.arange(len(order)), parts):
        rows = [order[place] for place in load]
        append_events(workspace.lake, pa.Table.from_pylist(rows, EVENTS))
    write_items(workspace.lake, pa.Table.from_pylist(ITEMS_OF_SHOP, ITEMS))
    write_users(workspace.lake, pa.Table.from_pylist(USERS_OF_SHOP, USERS))
    hours = [DAY - timedelta(hours=back) for back in (0, 1, 24)]
    with duckdb.connect(config={"threads": 1}) as connection:
        wanted = Wanted(POSITIVE, [DAY.date()], hours)
        tables = rows_duckdb(connection, workspace.lake, wanted)
    for view, table in tables.items():
        got = {}
        for row in table.to_pylist():
            key = (row["as_of"], *(row[k] for k in ("user_id", "item_id", "category") if k in row))
            got[key] = {f.column: row[f.column] for f in stored_of(view)}
        expected = {}
        for moment in hours if view == "item_hourly" else [DAY]:
            plain = PlainBatch(happened, ITEMS_OF_SHOP, USERS_OF_SHOP, moment, POSITIVE, {})
            for key in keys_of(view):
                if (values := getattr(plain, view)(*key)) is not None:
                    expected[moment, *key] = values
        assert set(got) == set(expected)
        for key, values in expected.items():
            assert got[key] == pytest.approx(values, rel=1e-9), (view, key)
    frame = pd.DataFrame(happened)[COLUMNS]
    for name in ("event_at", "seen_at"):
        frame[name] = frame[name].astype("datetime64[us, UTC]")
    states, late = states_at(frame, DAY.date(), POSITIVE)
    heard = [e for e in happened if e["event_id"] not in late]
    plain = PlainBatch(heard, ITEMS_OF_SHOP, USERS_OF_SHOP, DAY, POSITIVE, {})
    for user_id, state in states.items():
        batch = plain.user_daily(user_id)
        for column, value in from_history(state["history_at"], microseconds(DAY)).items():
            assert batch[column] == pytest.approx(value, rel=1e-9)


def keys_of(view):
    users, items = [f"u{n}" for n in range(4)], [f"i{n}" for n in range(5)]
    if view == "user_category_daily":
        return [(u, c) for u in users for c in "xy"]
    return [(u,) for u in users] if view.startswith("user") else [(i,) for i in items]


@pytest.fixture(scope="module")
def site_lake(tmp_path_factory):
    workspace = Workspace(tmp_path_factory.mktemp("parity"), "site")
    filled(workspace, slates(n_users=20), DatasetInfo("site", has_impressions=True))
    return workspace


@pytest.mark.spark
def test_every_column_is_compared_and_equal_on_a_shop_with_slates(site_lake):
    compared = compare(site_lake, days=2, seed=0)
    assert is_equal(compared), compared
    fold = compared["pairs"]["fold and duckdb"]
    assert set(fold) == set(FOLDED)
    assert all(column["values"] > 20 for column in fold.values())
    if isinstance(engines := compared["pairs"]["spark and duckdb"], dict):
        assert set(engines) == {f.column for view in BATCH_VIEWS for f in stored_of(view)}
        assert engines["item_coec_30d"]["values"] > 20


def test_a_value_that_differs_and_a_row_that_is_missing_are_found(tmp_path):
    random_lake(tmp_path)
    with duckdb.connect(config={"threads": 1}) as connection:
        tables = rows_duckdb(connection, tmp_path, Wanted(POSITIVE, [DAY.date()], [DAY]))
    assert not any(told["different"] for told in differences(tables, tables).values())
    view = tables["item_daily"]
    place = view.column_names.index("item_positives_7d")
    more = pa.array([value + 1 for value in view["item_positives_7d"].to_pylist()], pa.int64())
    wrong = view.set_column(place, "item_positives_7d", more)
    told = differences({**tables, "item_daily": wrong}, tables)
    assert {name for name, column in told.items() if column["different"]} == {"item_positives_7d"}
    told = differences({**tables, "item_daily": view.slice(1)}, tables)
    assert told["item_price"]["different"] == 1
    assert not is_equal({"pairs": {"a and b": told}})


@pytest.mark.data
@pytest.mark.slow
def test_every_engine_agrees_on_real_purchases(tmp_path):
    from pipelines.loaders import completejourney

    folder = Settings().data_dir / "completejourney"
    if not folder.exists():
        pytest.skip(f"absent data set: {folder}")
    workspace = Workspace(tmp_path, "completejourney")
    ingest(workspace, completejourney.load(folder), now=DAY)
    compared = compare(workspace, days=2, seed=0)
    assert is_equal(compared), compared
