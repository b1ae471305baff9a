"""MLflow's side of a promotion, on its embedded database and on a real server."""

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from mlflow import MlflowClient

from infra.local.process import free_port
from infra.workspace import Services, Workspace
from models.bundle import point_to, publish, version_path
from models.staging import write
from pipelines.promote import rollback
from pipelines.tracking import follow, note, try_follow, waiting
from tests.worlds import tiny_parts


def published(workspace: Workspace, seed: int) -> str:
    parts = replace(
        tiny_parts(n_items=8, n_users=5, seed=seed),
        metrics={"models": {"full": {"ndcg_at_10": {"mean": 0.25, "low": None}, "coverage": 0.5}}},
        absent={"two_tower": "too little data"},
    )
    write(workspace.training / "to-publish", parts)
    return publish(workspace.training / "to-publish", workspace.bundles)


@pytest.fixture(params=["database", "server"])
def workspace(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Workspace]:
    """A data set of its own in each; the server is shared by the tests, the name keeps them apart."""
    name = f"shop-{tmp_path.name.lower().replace('_', '-')}"[-60:].strip("-.")
    if request.param == "database":
        yield Workspace(tmp_path, name)
    else:
        address = request.getfixturevalue("mlflow_address")
        yield Workspace(tmp_path, name, Services("127.0.0.1:1", "127.0.0.1:1", address))


def bundles_of(workspace: Workspace) -> dict[str, str]:
    """Alias -> bundle, as somebody who only knows MLflow would see it."""
    client = MlflowClient(workspace.tracking_uri)
    model = client.get_registered_model(f"shortlist-{workspace.name}")
    return {
        alias: client.get_model_version(model.name, version).tags["bundle"]
        for alias, version in model.aliases.items()
    }


def test_the_champion_alias_follows_promotion_and_rollback(workspace: Workspace) -> None:
    first, second, third = (published(workspace, seed) for seed in (1, 2, 3))
    for bundle_id in (first, second):
        point_to(workspace.bundles, bundle_id)
        note(workspace, bundle_id, seed=7, verdict="promoted: the first bundle")
    assert follow(workspace) == {"recorded": [first, second], "champion": second}
    assert bundles_of(workspace) == {"challenger": second, "champion": second}

    note(workspace, third, seed=7, verdict="refused: surely worse")
    follow(workspace)
    assert bundles_of(workspace) == {"challenger": third, "champion": second}

    rollback(workspace)
    assert follow(workspace) == {"recorded": [], "champion": first}
    assert bundles_of(workspace) == {"challenger": third, "champion": first}


def test_a_version_says_which_bundle_it_is_and_how_it_was_judged(workspace: Workspace) -> None:
    bundle_id = published(workspace, 1)
    note(workspace, bundle_id, seed=7, verdict="promoted: the first bundle", because="")
    follow(workspace)
    client = MlflowClient(workspace.tracking_uri)
    version = client.get_model_version_by_alias(f"shortlist-{workspace.name}", "challenger")
    assert version.tags["path"] == str(version_path(workspace.bundles, bundle_id))
    assert version.tags["absent.two_tower"] == "too little data"
    run = client.get_run(version.run_id)
    assert run.data.metrics == {"full.ndcg_at_10": 0.25, "full.coverage": 0.5}
    assert run.data.params == {"seed": "7", "verdict": "promoted: the first bundle"}
    assert version.source == f"runs:/{version.run_id}/bundle"


def test_a_registry_that_lost_everything_is_told_again(workspace: Workspace) -> None:
    bundle_id = published(workspace, 1)
    point_to(workspace.bundles, bundle_id)
    assert follow(workspace)["recorded"] == [bundle_id]  # nobody noted it: the pointer is enough
    assert follow(workspace)["recorded"] == []
    MlflowClient(workspace.tracking_uri).delete_registered_model(f"shortlist-{workspace.name}")
    assert follow(workspace)["recorded"] == [bundle_id]
    assert bundles_of(workspace) == {"champion": bundle_id}


def test_a_registry_that_is_away_delays_the_record_and_loses_nothing(tmp_path: Path) -> None:
    away = Services("127.0.0.1:1", "127.0.0.1:1", f"http://127.0.0.1:{free_port()}")
    workspace = Workspace(tmp_path, "shop", away)
    bundle_id = published(workspace, 1)
    point_to(workspace.bundles, bundle_id)
    note(workspace, bundle_id, seed=7)
    since = time.monotonic()
    assert "the monitor or the next command repeats it" in try_follow(workspace)
    assert time.monotonic() - since < 60
    assert [path.stem for path in waiting(workspace)] == [bundle_id]

    back = Workspace(tmp_path, "shop")
    assert follow(back) == {"recorded": [bundle_id], "champion": bundle_id}
    assert waiting(back) == []


def test_the_note_of_a_bundle_that_was_removed_blocks_nothing(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path, "shop")
    note(workspace, "0123456789abcdef", seed=1)
    bundle_id = published(workspace, 1)
    note(workspace, bundle_id, seed=1)
    assert follow(workspace) == {"recorded": [bundle_id], "champion": None}
    assert waiting(workspace) == []
