import httpx

EXPERIMENT = "/api/2.0/mlflow/experiments/get?experiment_id=0"


def test_a_foreign_host_header_is_refused(mlflow_address: str) -> None:
    assert httpx.get(mlflow_address + EXPERIMENT).status_code == 200
    foreign = {"Host": "evil.example"}
    assert httpx.get(mlflow_address + EXPERIMENT, headers=foreign).status_code == 403


def test_artifacts_are_not_served_and_jobs_are_not_run(mlflow_address: str) -> None:
    for path in ("/api/2.0/mlflow-artifacts/artifacts/a", "/ajax-api/3.0/jobs/1"):
        assert httpx.get(mlflow_address + path).status_code >= 400, path
