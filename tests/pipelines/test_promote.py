import json
import shutil
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import pandas as pd
import pytest

from features.definitions import FEATURE_NAMES
from features.errors import ContractError
from features.point_in_time import item_matrix
from features.request import Context, UserRow, user_state
from features.schema import DatasetInfo
from infra.clients import open_feast
from infra.workspace import Workspace
from models.bundle import current, load, publish, version_path
from models.funnel import recommend
from models.staging import write
from pipelines.evaluate import evaluate
from pipelines.materialize import apply_views
from pipelines.promote import fresh_at, promote, publish_bundle, refresh_bundle, rollback
from pipelines.train_ranker import train_ranker
from pipelines.train_retrieval import train_retrieval
from tests.worlds import NOW_US, filled, purchases, tiny_parts


def published(workspace: Workspace, seed: int, champion: str | None, full, other) -> str:
    """A tiny bundle with a judgement: nDCG per user of itself and of the champion."""
    write(workspace.training / "to-publish", tiny_parts(n_items=8, n_users=5, seed=seed))
    bundle_id = publish(workspace.training / "to-publish", workspace.bundles)
    folder = workspace.training / "evaluations"
    folder.mkdir(parents=True, exist_ok=True)
    table = pd.DataFrame({"user_id": [f"u{n}" for n in range(len(full))], "full": full})
    table.assign(champion=other).to_parquet(folder / f"{bundle_id}.parquet")
    (folder / f"{bundle_id}.json").write_text(json.dumps({"champion": champion}))
    (workspace.training / "published.json").write_text(json.dumps({"bundle": bundle_id}))
    return bundle_id


@pytest.fixture
def workspace(tmp_path) -> Workspace:
    return Workspace(tmp_path, "shop")


def test_the_first_bundle_passes(workspace: Workspace) -> None:
    bundle_id = published(workspace, 1, None, [0.1] * 30, None)
    told = promote(workspace)
    assert told == {
        "promoted": True,
        "verdict": "promoted: the first bundle",
        "bundle": bundle_id,
        "previous": None,
        "difference": None,
    }
    assert current(workspace.bundles) == bundle_id
    assert promote(workspace)["verdict"] == "promoted: it is the champion already"


def test_a_surely_worse_challenger_is_refused(workspace: Workspace) -> None:
    champion = published(workspace, 1, None, [0.1] * 30, None)
    promote(workspace)
    worse = published(workspace, 2, champion, [0.1, 0.2] * 15, [0.3, 0.35] * 15)
    told = promote(workspace, worse)
    assert not told["promoted"]
    assert told["verdict"].startswith("refused: nDCG@10 -0.17")
    assert told["difference"]["high"] < 0
    assert current(workspace.bundles) == champion
    forced = promote(workspace, worse, force=True)
    assert forced["verdict"].startswith("promoted (forced): nDCG@10 -0.17")
    assert current(workspace.bundles) == worse
    assert rollback(workspace)["bundle"] == champion == current(workspace.bundles)


def test_a_challenger_within_the_noise_passes(workspace: Workspace) -> None:
    champion = published(workspace, 1, None, [0.1] * 30, None)
    promote(workspace)
    similar = published(workspace, 2, champion, [0.1, 0.3] * 15, [0.31, 0.1] * 15)
    told = promote(workspace, similar)
    assert told["promoted"]
    assert told["difference"]["low"] < 0 < told["difference"]["high"]
    assert told["previous"] == champion


def test_who_was_not_compared_with_the_champion_does_not_pass(workspace: Workspace) -> None:
    champion = published(workspace, 1, None, [0.1] * 30, None)
    promote(workspace)
    stranger = published(workspace, 2, "0" * 16, [0.9] * 30, [0.1] * 30)
    told = promote(workspace, stranger)
    assert told["verdict"] == (
        f"refused: compared with {'0' * 16}, expected {champion}; run `shortlist evaluate`"
    )


def test_what_was_never_trained_is_replaced_without_a_comparison(workspace: Workspace) -> None:
    untrained = replace(
        tiny_parts(n_items=8, n_users=5), ranker=None, tower=None, item_vectors=None
    )
    write(workspace.training / "to-publish", untrained)
    popular = publish(workspace.training / "to-publish", workspace.bundles)
    assert promote(workspace, popular)["verdict"] == "promoted: the first bundle"
    challenger = published(workspace, 2, None, [0.0] * 30, [0.9] * 30)  # judged beside no champion
    told = promote(workspace, challenger)
    assert told["verdict"] == (f"promoted: {popular} is a popular list, nothing in it was trained")
    assert told["difference"] is None
    assert current(workspace.bundles) == challenger
    # The way back is judged as any other: nothing was ever compared with the trained one.
    assert not promote(workspace, popular)["promoted"]


def test_force_does_not_promote_a_damaged_bundle(workspace: Workspace) -> None:
    bundle_id = published(workspace, 1, None, [0.1] * 30, None)
    with (version_path(workspace.bundles, bundle_id) / "ranker.txt").open("ab") as file:
        file.write(b" ")
    with pytest.raises(ContractError, match=r"ranker.txt: .*publish again"):
        promote(workspace, bundle_id, force=True)
    assert current(workspace.bundles) is None


def test_nothing_published_says_what_to_do(workspace: Workspace) -> None:
    with pytest.raises(ContractError, match="publish a bundle first"):
        promote(workspace)
    with pytest.raises(ContractError, match=r"manifest.json; run `shortlist train` first"):
        publish_bundle(workspace)


def test_nothing_judged_says_what_to_do(workspace: Workspace) -> None:
    write(workspace.training / "bundle", tiny_parts(n_items=8, n_users=5))
    with pytest.raises(ContractError, match=r"evaluation.json; run `shortlist evaluate` first"):
        publish_bundle(workspace)


def test_the_judgement_of_another_bundle_is_not_published(workspace: Workspace) -> None:
    write(workspace.training / "bundle", tiny_parts(n_items=8, n_users=5))
    (workspace.training / "evaluation.json").write_text(json.dumps({"bundle": "another"}))
    with pytest.raises(ContractError, match=r"judges another, but [0-9a-f]{16} is staged"):
        publish_bundle(workspace)


def test_published_are_the_judged_weights_over_the_newest_data(shop) -> None:
    workspace = shop.workspace
    result = evaluate(workspace, shop.split, seed=1)
    staged = load(workspace.training / "bundle")
    bundle_id = publish_bundle(workspace)
    bundle = load(version_path(workspace.bundles, bundle_id))
    assert bundle.ranker is not None
    assert staged.ranker is not None
    assert bundle.ranker.text == staged.ranker.text
    assert bundle.manifest["as_of"] == fresh_at(shop.split.end).isoformat()
    assert bundle.manifest["trained_until"] == shop.split.test_from.isoformat()
    assert bundle.manifest["metrics"]["models"] == json.loads(json.dumps(result["models"]))
    assert bundle.catalogue.matrix.tolist() != staged.catalogue.matrix.tolist()
    assert len(json.loads(workspace.sample_users.read_text())) == 50
    assert current(workspace.bundles) is None  # published is not promoted

    reference = pd.read_parquet(bundle.path / "reference.parquet")
    assert list(reference) == [*FEATURE_NAMES, "score"]
    assert len(reference) % 10 == 0
    assert (reference["position"] == 0).all()
    rows = reference[list(FEATURE_NAMES)].to_numpy(dtype="float32")
    assert bundle.ranker.score(rows).tolist() == pytest.approx(reference["score"].tolist())
    assert publish_bundle(workspace) == bundle_id  # the same data, the same bundle


def test_in_a_running_shop_nothing_is_published_that_is_not_known_yet(shop) -> None:
    """The data ends in the middle of a day, and that is now."""
    evaluate(shop.workspace, shop.split, seed=1)
    now = shop.split.end + timedelta(seconds=1)
    bundle = load(version_path(shop.workspace.bundles, publish_bundle(shop.workspace, now)))
    assert bundle.manifest["as_of"] == now.isoformat()
    store = open_feast(shop.workspace)
    known = item_matrix(store, bundle.catalogue.item_ids.tolist(), [now])[now]
    tonight = fresh_at(shop.split.end)
    later = item_matrix(store, bundle.catalogue.item_ids.tolist(), [tonight])[tonight]
    assert bundle.catalogue.matrix.tolist() == known.tolist() != later.tolist()


def test_without_features_of_the_last_day_nothing_is_published(shop, tmp_path) -> None:
    workspace = Workspace(tmp_path, "shop")
    shutil.copytree(shop.workspace.root, workspace.root)
    for path in workspace.offline.glob("item_daily/*.parquet"):
        if date.fromisoformat(path.stem) >= shop.split.test_from.date():
            path.unlink()
    from infra.clients import open_feast
    from pipelines.materialize import apply_views

    apply_views(open_feast(workspace), workspace.offline)
    evaluate(workspace, shop.split, seed=1)
    with pytest.raises(ContractError, match=r"no item_daily row is known at .*shortlist features"):
        publish_bundle(workspace)


def test_the_same_weights_over_todays_data(shop, tmp_path) -> None:
    """What was learned stays, to the byte; what is only known is known anew; an id tells which."""
    workspace = Workspace(tmp_path, "shop")
    shutil.copytree(shop.workspace.root, workspace.root)
    apply_views(open_feast(workspace), workspace.offline)
    with pytest.raises(ContractError, match="has no bundle that could be refreshed"):
        refresh_bundle(workspace, shop.split.end)
    evaluate(workspace, shop.split, seed=1)
    early = shop.split.end - timedelta(days=2)
    champion_id = publish_bundle(workspace, early)
    promote(workspace, champion_id)
    shutil.rmtree(workspace.training)  # a refresh asks nothing of the last training's leavings
    refreshed_id = refresh_bundle(workspace, shop.split.end)
    champion, fresh = (
        load(version_path(workspace.bundles, version)) for version in (champion_id, refreshed_id)
    )
    files = {version: champion.path.parent / version for version in (champion_id, refreshed_id)}
    for learned in ("ranker.txt", "reference.parquet", "features.json"):
        one, other = ((folder / learned).read_bytes() for folder in files.values())
        assert one == other, learned
    for same in ("trained_until", "metrics", "absent"):
        assert fresh.manifest[same] == champion.manifest[same]
    place = champion.catalogue.index
    known = [place[item] for item in fresh.catalogue.item_ids.tolist() if item in place]
    assert (fresh.item_vectors[: len(known)] == champion.item_vectors[known]).all()
    assert fresh.manifest["as_of"] == shop.split.end.isoformat() > champion.manifest["as_of"]
    assert fresh.catalogue.matrix.tolist() != champion.catalogue.matrix.tolist()
    assert fresh.popular.tolist() != champion.popular.tolist()
    assert current(workspace.bundles) == champion_id, "published is not promoted"
    assert refresh_bundle(workspace, shop.split.end) == refreshed_id


def test_fresh_is_the_first_night_after_the_data() -> None:
    end = datetime(2026, 2, 28, 23, 46, tzinfo=UTC)
    assert fresh_at(end) == datetime(2026, 3, 1, 2, 0, 0, 1, tzinfo=UTC)
    assert fresh_at(datetime(2026, 3, 1, tzinfo=UTC)) == fresh_at(end)


@pytest.mark.parametrize("has_impressions", [False, True])
def test_a_shop_of_one_user_and_one_item_gets_a_bundle_that_answers(
    tmp_path, has_impressions: bool
) -> None:
    workspace = Workspace(tmp_path, "lonely")
    events = purchases(n_users=1, n_items=30, days=9)
    events = events.assign(item_id="i00").head(6)
    split = filled(workspace, events, DatasetInfo("lonely", has_impressions=has_impressions))
    train_retrieval(workspace, split, "tiny", 1)
    told = train_ranker(workspace, split, "tiny", 1)
    assert set(told["absent"]) == {"ranker", "two_tower"}
    result = evaluate(workspace, split, seed=1)
    assert result["reasons"] == told["absent"]
    bundle_id = publish_bundle(workspace)
    assert promote(workspace)["promoted"]
    bundle = load(version_path(workspace.bundles, bundle_id))
    assert bundle.absent == told["absent"]
    user = user_state(UserRow.unknown(), bundle.catalogue)
    assert recommend(bundle, user, Context(NOW_US), 10).item_ix.tolist() == [0]
