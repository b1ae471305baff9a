from mlflow import MlflowClient

from infra.workspace import Workspace
from pipelines.tracking import log_bundle


def test_the_champion_alias_follows_the_promotion(tmp_path):
    workspace = Workspace(tmp_path, "shop")
    evaluation = {
        "models": {
            "full": {"ndcg_at_10": {"mean": 0.25, "low": None, "high": None}, "coverage": 0.5}
        }
    }
    log_bundle(workspace, "a", evaluation, {"promoted": True}, seed=1)
    run_id = log_bundle(workspace, "b", evaluation, {"promoted": False}, seed=1)

    client = MlflowClient(workspace.tracking_uri)
    run = client.get_run(run_id)
    assert run.data.metrics == {"full.ndcg_at_10": 0.25, "full.coverage": 0.5}
    assert run.data.tags["bundle"] == "b"
    champion = client.get_model_version_by_alias("shortlist-shop", "champion")
    challenger = client.get_model_version_by_alias("shortlist-shop", "challenger")
    assert champion.source.endswith("/versions/a")
    assert challenger.source.endswith("/versions/b")
