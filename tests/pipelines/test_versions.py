"""Two versions of a feature side by side: who was trained on the old one goes on reading it."""

import shutil

import numpy as np
import pytest
from typer.testing import CliRunner

from features.definitions import BY_COLUMN, FEATURES
from features.errors import ContractError
from features.feature_set import CURRENT, FeatureSet
from features.point_in_time import item_matrix
from infra.clients import open_feast
from infra.workspace import Workspace
from models.bundle import current, load, version_path
from models.funnel import recommend
from pipelines.cli import app
from pipelines.evaluate import evaluate
from pipelines.lineage import lineage, readers
from pipelines.promote import fresh_at, promote, publish_bundle, rollback
from pipelines.train_ranker import train_ranker
from tests.worlds import shopper

OLD, NEW = "item_trend_7d", "item_trend_7d_v2"
FIRST = FeatureSet.of([BY_COLUMN[OLD] if f.column == NEW else f for f in FEATURES])
"""What a model read before the second version was there."""


def published(workspace, split, columns):
    train_ranker(workspace, split, "tiny", 3, columns=columns)
    result = evaluate(workspace, split, seed=1)
    bundle_id = publish_bundle(workspace)
    promote(workspace, bundle_id, force=True)
    return bundle_id, result


@pytest.fixture(scope="module")
def two(site, tmp_path_factory):
    """A workspace whose first bundle was trained on version 1 and whose second on version 2."""
    workspace = Workspace(tmp_path_factory.mktemp("versions"), site.workspace.name)
    shutil.copytree(site.workspace.root, workspace.root)
    first, _ = published(workspace, site.split, FIRST)
    second, judged = published(workspace, site.split, CURRENT)
    return workspace, site.split, first, second, judged


def test_an_old_bundle_reads_on_while_the_new_is_served(two):
    workspace, split, first, second, _ = two
    assert current(workspace.bundles) == second
    moment = fresh_at(split.end)
    read = {}
    for bundle_id, column in ((first, OLD), (second, NEW)):
        bundle = load(version_path(workspace.bundles, bundle_id))
        features, ids = bundle.catalogue.features, bundle.catalogue.item_ids.tolist()
        assert {OLD, NEW} & set(features.names) == {column}
        expected = item_matrix(open_feast(workspace), ids, [moment], [BY_COLUMN[column]])[moment]
        slate = recommend(bundle, *shopper(bundle, ids[:3]), 5)
        read[column] = slate.features[:, features.place[column]]
        np.testing.assert_allclose(read[column], expected[slate.item_ix, 0], rtol=1e-6)
    assert rollback(workspace)["bundle"] == first
    assert load(version_path(workspace.bundles, first)).ranker is not None
    promote(workspace, second, force=True)
    assert read[OLD].tolist() != read[NEW].tolist()


def test_the_gate_compares_them_each_on_its_own_version(two):
    *_, first, _, judged = two
    assert judged["champion"] == first
    assert judged["models"]["champion"]["ndcg_at_10"]["mean"] > 0


def test_lineage_names_the_bundles_of_each_version(two):
    workspace, _, first, second, _ = two
    told = lineage(workspace, OLD)
    assert [version["column"] for version in told["versions"]] == [OLD, NEW]
    assert all("sum(" in version["sql"] for version in told["versions"])
    by_bundle = {read["bundle"]: read for read in told["bundles"]}
    assert by_bundle[first]["column"] == OLD
    assert by_bundle[second]["column"] == NEW
    assert by_bundle[second]["served"] is True
    assert by_bundle[first]["splits"] >= 0


def test_lineage_finds_the_sources_that_name_a_feature():
    assert "features/request.py" in readers({"price_mean_90d"})
    assert "serving/people.py" in readers({"category_share_90d"})
    assert readers({"no such feature"}) == []


def test_an_unknown_feature_is_told_with_what_is_alike(two):
    with pytest.raises(ContractError, match=r"no feature 'item_trend'; alike: item_trend_7d"):
        lineage(two[0], "item_trend")


def test_a_bundle_whose_version_is_gone_is_told_by_lineage_and_refused(two, monkeypatch):
    workspace, _, first, _, _ = two
    monkeypatch.delitem(BY_COLUMN, OLD)
    with pytest.raises(ContractError, match=r"item_trend_7d.*keep that version among the retired"):
        load(version_path(workspace.bundles, first))
    told = {read["bundle"]: read for read in lineage(workspace, NEW)["bundles"]}
    assert "keep that version" in told[first]["cannot be served"]


def test_the_command_prints_it(two, monkeypatch):
    monkeypatch.setenv("SHORTLIST_HOME", str(two[0].home))
    told = CliRunner().invoke(
        app, ["features", "lineage", "item_coec_30d", "--dataset", two[0].name]
    )
    assert told.exit_code == 0, told.output
    assert (two[0].home / "reports" / "lineage.json").exists()
