import json
import shutil
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from infra.clients import open_feast
from models.bundle import load, point_to, publish
from models.metrics import bootstrap
from models.staging import write
from pipelines.asked import users_asked
from pipelines.evaluate import champion_at, evaluate
from pipelines.past import read_past
from pipelines.promote import publish_popular

MODELS = ["random", "popular", "recent_popular", "own_history", "item_knn", "two_tower", "full"]


@pytest.fixture(scope="module")
def judged(shop) -> dict:
    return evaluate(shop.workspace, shop.split, seed=1)


def asked_of(trained):
    workspace = trained.workspace
    staged = load(workspace.training / "bundle")
    past, store = read_past(workspace), open_feast(workspace)
    return past, users_asked(workspace, past, store, staged, trained.split, seed=1), staged


def test_relevant_are_the_distinct_known_items_of_the_test_window(shop) -> None:
    past, asked, staged = asked_of(shop)
    after = past.between(shop.split.test_from, shop.split.end)
    known = set(staged.catalogue.item_ids)
    expected = {
        user: sorted({item for item in items if item in known})
        for user, items in after.groupby("user_id")["item_id"]
    }
    before = set(past.before(shop.split.test_from)["user_id"])
    expected = {user: items for user, items in expected.items() if items and user in before}
    got = {a.query.user_id: staged.catalogue.item_ids[a.relevant].tolist() for a in asked}
    assert got == expected
    for one in asked:
        assert one.own_us.max() < shop.split.test_from.timestamp() * 1e6
        assert max(one.row.history_at) < shop.split.test_from.timestamp() * 1e6


def test_where_the_seen_is_filtered_it_is_neither_listed_nor_relevant(site) -> None:
    _, asked, _ = asked_of(site)
    assert asked
    for one in asked:
        assert not set(one.relevant) & set(one.own_ix)
        assert one.query.context["device"] in ("app", "web")
    result = evaluate(site.workspace, site.split, seed=1)
    table = pd.read_parquet(site.workspace.training / "per_user.parquet")
    assert len(table) == result["counts"]["users"] == len(asked)
    # Everything that is left to list is listed: with 24 items the random list must find something.
    assert result["models"]["random"]["recall_at_10"]["mean"] > 0.3


def test_every_model_has_every_metric_with_its_interval(judged: dict, shop) -> None:
    assert list(judged["models"]) == MODELS
    for values in judged["models"].values():
        assert 0 < values.pop("coverage") <= 1
        assert set(values) == {
            f"{name}_at_10" for name in ("ndcg", "recall", "hit", "precision", "map", "mrr")
        }
        for value in values.values():
            assert 0 <= value["low"] <= value["mean"] <= value["high"] <= 1
    stored = json.loads((shop.workspace.training / "evaluation.json").read_text())
    assert stored["counts"] == judged["counts"]
    assert judged["champion"] is None


def test_differences_are_paired_by_user(judged: dict, shop) -> None:
    table = pd.read_parquet(shop.workspace.training / "per_user.parquet")
    assert list(table) == ["user_id", *MODELS]
    difference = (table["full"] - table["popular"]).to_numpy()
    assert judged["paired"]["popular"] == bootstrap(difference, seed=1)


def test_who_buys_the_same_again_is_best_asked_about_himself(judged: dict) -> None:
    means = {name: values["ndcg_at_10"]["mean"] for name, values in judged["models"].items()}
    assert means["own_history"] > means["popular"] > means["random"]
    assert means["full"] > means["popular"]
    assert judged["paired"]["random"]["low"] > 0


def test_own_history_is_the_users_counts_padded_with_the_recently_popular(shop) -> None:
    _, asked, staged = asked_of(shop)
    table = pd.read_parquet(shop.workspace.training / "per_user.parquet").set_index("user_id")
    for one in asked[:5]:
        counted = pd.Series(one.own_ix).value_counts()
        last = pd.Series(one.own_us, index=one.own_ix).groupby(level=0).max()
        own = sorted(counted.index, key=lambda ix: (-counted[ix], -last[ix], ix))
        listed = (own + [ix for ix in staged.popular if ix not in own])[:10]
        gain = sum(1 / np.log2(p + 2) for p, ix in enumerate(listed) if ix in one.relevant)
        ideal = sum(1 / np.log2(p + 2) for p in range(min(10, len(one.relevant))))
        assert table.loc[one.query.user_id, "own_history"] == pytest.approx(gain / ideal)


def test_a_champion_knows_no_more_than_the_challenger(shop, tmp_path) -> None:
    staged = load(shop.workspace.training / "bundle")
    workspace = replace(shop.workspace, home=tmp_path)
    # A champion refreshed after the test began: it has other popular items and fewer of them,
    # and a category that the staged bundle does not know.
    past = read_past(shop.workspace)
    moment = shop.split.ranker_from
    daily = np.zeros((len(past.known(moment)), staged.catalogue.matrix.shape[1]))
    parts = replace(
        past.parts(moment, daily, None),
        vocabulary={**staged.catalogue.vocabulary, "category": ("b", "c0", "c1")},
        ranker=staged.ranker,
    )
    write(tmp_path / "staging", parts)
    champion_id = publish(tmp_path / "staging", workspace.bundles)
    point_to(workspace.bundles, champion_id)

    judged = champion_at(staged, workspace, champion_id, None, shop.split)
    assert judged.id == champion_id
    assert judged.ranker is not None
    assert judged.tower is None
    np.testing.assert_array_equal(judged.popular, staged.popular)
    np.testing.assert_array_equal(judged.catalogue.matrix, staged.catalogue.matrix)
    assert judged.catalogue.item_ids.tolist() == staged.catalogue.item_ids.tolist()
    names = np.array(("b", "c0", "c1"))[judged.catalogue.category]
    assert names.tolist() == np.array(("c0", "c1"))[staged.catalogue.category].tolist()


def test_a_champion_that_learned_nothing_is_no_opponent(shop, tmp_path) -> None:
    workspace = replace(shop.workspace, home=tmp_path)
    shutil.copytree(shop.workspace.root, workspace.root)
    point_to(workspace.bundles, publish_popular(workspace))
    result = evaluate(workspace, shop.split, seed=1)
    assert result["champion"] is None
    assert list(result["models"]) == MODELS  # its popular list is there already, as a baseline


@pytest.mark.data
@pytest.mark.slow
def test_real_purchases_are_predicted_better_than_by_either_strong_baseline(tmp_path) -> None:
    import os
    from datetime import UTC, datetime, timedelta
    from pathlib import Path

    from infra.workspace import Workspace
    from models.split import time_split
    from pipelines.build_features import build_features
    from pipelines.ingest import ingest
    from pipelines.loaders.completejourney import load as load_purchases
    from pipelines.materialize import apply_views
    from tests.pipelines.conftest import trained

    folder = Path(os.environ.get("SHORTLIST_DATA_DIR", "../shared/data")) / "completejourney"
    if not folder.exists():
        pytest.skip(f"{folder} is absent; SHORTLIST_DATA_DIR names the folder of the public data")
    workspace = Workspace(tmp_path, "completejourney")
    ingest(workspace, load_purchases(folder), now=datetime.now(UTC))
    split = time_split(read_past(workspace).positives["event_us"].to_numpy())
    first = split.ranker_from.date() - timedelta(days=1)
    days = [first + timedelta(days=d) for d in range((split.test_from.date() - first).days + 1)]
    build_features(workspace, days, "duckdb")
    apply_views(open_feast(workspace), workspace.offline)
    result = evaluate(workspace, trained(workspace, split).split, seed=1)
    assert result["paired"]["recent_popular"]["low"] > 0
    assert result["paired"]["own_history"]["low"] > 0
