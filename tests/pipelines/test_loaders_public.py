"""The public data sets, where they are; and a clear word where they are not."""

import os
import zlib
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd
import pytest

from features.errors import ContractError
from features.schema import MAX_CATEGORIES
from infra.settings import Settings
from infra.workspace import Workspace
from pipelines import lake
from pipelines.check_quality import check_quality
from pipelines.ingest import ingest
from pipelines.loaders import completejourney, ml_100k, trivago

NOW = datetime(2026, 3, 1, tzinfo=UTC)
DATA = Path(os.environ.get("SHORTLIST_DATA_DIR") or Settings.model_fields["data_dir"].default)
LOADERS = {"ml-100k": ml_100k, "completejourney": completejourney, "trivago": trivago}


@pytest.fixture(scope="module")
def loaded(tmp_path_factory):
    """Load and ingest each set once."""
    done = {}

    def loaded(name):
        if not (DATA / name).is_dir():
            pytest.skip(f"no {name} in {DATA}; set SHORTLIST_DATA_DIR (docs/data.md)")
        if name not in done:
            tables = LOADERS[name].load(DATA / name)
            workspace = Workspace(tmp_path_factory.mktemp(name), name)
            done[name] = (tables, ingest(workspace, tables, now=NOW), workspace)
        return done[name]

    return loaded


@pytest.mark.parametrize("name", LOADERS)
def test_a_missing_folder_says_where_to_put_it(name, tmp_path):
    with pytest.raises(ContractError, match=r"no .* in .*; set SHORTLIST_DATA_DIR .*docs/data\.md"):
        LOADERS[name].load(tmp_path / name)


@pytest.mark.data
@pytest.mark.parametrize("name", LOADERS)
def test_the_rows_add_up_and_a_second_ingest_changes_nothing(name, loaded):
    tables, result, workspace = loaded(name)
    rows = result["rows"]
    assert rows["read"] == rows["accepted"] + rows["quarantined"]
    assert (
        rows["new"]
        == rows["accepted"]
        == len(lake.read_events(workspace.lake, columns=["event_id"]))
    )
    checksum = sum(
        zlib.crc32(path.read_bytes()) for path in workspace.root.rglob("*") if path.is_file()
    )
    assert ingest(workspace, tables, now=NOW)["rows"]["new"] == 0
    assert checksum == sum(
        zlib.crc32(p.read_bytes()) for p in workspace.root.rglob("*") if p.is_file()
    )


@pytest.mark.data
@pytest.mark.parametrize("name", LOADERS)
def test_items_have_titles_and_a_bounded_number_of_categories(name, loaded):
    items = lake.read_items(loaded(name)[2].lake)
    assert items["title"].notna().all()
    assert 10 < items["category"].nunique() <= MAX_CATEGORIES
    assert items["subcategory"].nunique() > items["category"].nunique()
    assert (items["category"] == "other").mean() < 0.05


@pytest.mark.data
def test_ml_100k_is_a_hundred_thousand_ratings_of_films_seen_once(loaded):
    _, result, workspace = loaded("ml-100k")
    assert result["rows"]["accepted"] == 100_000
    assert (result["items"], result["users"]) == (1682, 943)
    info = lake.read_info(workspace.lake)
    assert (info.positive_types, info.seen_filter, info.has_impressions) == (
        ("rating",),
        True,
        False,
    )
    items = lake.read_items(workspace.lake).set_index("item_id")
    assert items.loc["1", "title"] == "Toy Story (1995)"
    assert items.loc["1", "subcategory"] == "Animation | Children's | Comedy"
    assert items.loc["1", "category"] == "Animation"
    first = lake.read_events(workspace.lake).iloc[0]
    assert first["event_at"] == pd.Timestamp(874_724_710, unit="s", tz="UTC")
    assert set(lake.read_events(workspace.lake)["value"]) == {1.0, 2.0, 3.0, 4.0, 5.0}


@pytest.mark.data
def test_completejourney_is_purchases_in_baskets(loaded):
    _, result, workspace = loaded("completejourney")
    assert result["rows"] == {"read": 75_000, "accepted": 75_000, "quarantined": 0, "new": 75_000}
    assert (result["items"], result["users"]) == (20_902, 2_377)
    info = lake.read_info(workspace.lake)
    assert (info.positive_types, info.seen_filter) == (("purchase",), False)
    events = lake.read_events(workspace.lake)
    assert events["session_id"].nunique() == 47_243
    assert events["value"].between(0, 100).all()
    assert lake.read_items(workspace.lake)["price"].notna().mean() > 0.98


@pytest.mark.data
def test_trivago_lists_keep_their_order_and_their_clicks(loaded):
    _, result, workspace = loaded("trivago")
    assert set(result["reasons"]) == {"session_id: a session of more than 300 steps: a robot"}
    events = lake.read_events(workspace.lake)
    shown = events[events["event_type"] == "impression"]
    clicks = events[events["event_type"] == "click"]
    lengths = shown.groupby("request_id")["position"].agg(["size", "max"])
    assert (lengths["size"] == lengths["max"]).all()
    assert lengths["max"].max() == 25
    assert clicks["position"].notna().mean() > 0.99
    rate = clicks["position"].value_counts() / shown["position"].value_counts()
    published = {1: 0.310, 2: 0.106, 3: 0.077, 5: 0.051, 10: 0.027, 25: 0.015}
    for position, expected in published.items():
        assert rate[position] == pytest.approx(expected, abs=0.012)


@pytest.mark.data
def test_trivago_keeps_no_robots(loaded):
    _, _, workspace = loaded("trivago")
    sizes = (
        lake.read_events(workspace.lake).query("event_type == 'view'")["session_id"].value_counts()
    )
    assert sizes.max() <= trivago.ROBOT_STEPS


@pytest.mark.data
@pytest.mark.parametrize("name", LOADERS)
def test_the_end_of_the_data_is_a_healthy_batch(name, loaded):
    """Sparse days, a day that the file cuts off, two days in all: none is taken for a fault."""
    _, _, workspace = loaded(name)
    checked = check_quality(workspace)
    assert checked["passed"], checked["because"]
