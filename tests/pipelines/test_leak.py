"""What a join that looks ahead is worth: everything in training, nothing afterwards; and it is caught."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from features.errors import ContractError
from features.schema import DatasetInfo
from infra.clients import open_feast
from infra.workspace import Workspace
from models import ranker
from models.bundle import load
from pipelines.past import read_past
from pipelines.promote import publish_bundle
from pipelines.ranker_rows import build_rows, slate_queries
from pipelines.train_ranker import train_ranker
from tests.worlds import filled, leaky_clock


@pytest.fixture(scope="module")
def coins(tmp_path_factory):
    workspace = Workspace(tmp_path_factory.mktemp("coins"), "coins")
    info = DatasetInfo("coins", has_impressions=True)
    return workspace, filled(workspace, leaky_clock(), info)


def auc(workspace, split, leak):
    """Of a ranker trained on the earlier half of the slates, on the later half."""
    past, store = read_past(workspace), open_feast(workspace)
    queries = slate_queries(workspace.lake, past, split, 10_000, seed=1)
    queries.sort(key=lambda query: query.event_at)
    rows = build_rows(past, store, None, queries, seed=1, leak=leak)
    half = len(rows.labels) // 2
    settings = ranker.RankerSettings(trees=20, leaves=4, min_rows_in_leaf=10, feature_share=1.0)
    ones = np.ones(half, dtype=np.int64)
    fitted = ranker.fit(rows.features[:half], rows.labels[:half], ones, 1, settings)
    return roc_auc_score(rows.labels[half:], fitted.score(rows.features[half:]))


def test_a_join_that_looks_ahead_scores_perfectly_and_ours_does_not(coins):
    assert auc(*coins, "day-end") == pytest.approx(1.0)
    assert auc(*coins, "latest") == pytest.approx(1.0)
    assert 0.35 < auc(*coins, "none") < 0.65  # a coin is a coin


def test_what_was_trained_on_a_leak_is_never_published(coins):
    workspace, split = coins
    train_ranker(workspace, split, "tiny", 1, leak="day-end")
    (workspace.training / "evaluation.json").write_text("{}")
    assert load(workspace.training / "bundle").manifest["leak"] == "day-end"
    with pytest.raises(ContractError, match=r"trained on rows that look ahead \(--leak day-end\)"):
        publish_bundle(workspace)
    train_ranker(workspace, split, "tiny", 1)
    assert "leak" not in load(workspace.training / "bundle").manifest
