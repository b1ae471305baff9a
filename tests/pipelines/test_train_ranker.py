from datetime import timedelta

import numpy as np

from features.definitions import FEATURE_NAMES
from features.request import Context, UserRow, user_state
from infra.workspace import Workspace
from models.bundle import load
from models.funnel import recommend
from models.split import Split
from pipelines.past import read_past
from pipelines.train_ranker import train_ranker
from tests.worlds import NOW_US


def test_a_whole_bundle_is_staged_as_of_the_test(shop) -> None:
    assert shop.ranker["absent"] == {}
    assert shop.ranker["positives"] > 30
    bundle = load(shop.workspace.training / "bundle")
    assert bundle.ranker is not None
    assert bundle.index is not None
    assert bundle.manifest["as_of"] == shop.split.test_from.isoformat()
    assert bundle.manifest["trained_until"] == shop.split.test_from.isoformat()
    past = read_past(shop.workspace)
    assert set(bundle.catalogue.item_ids) == set(past.before(shop.split.test_from)["item_id"])
    assert (bundle.catalogue.matrix[:, 0] > 0).all()  # prices came through the point-in-time join


def test_the_ranker_has_learned_the_places_and_serving_holds_them_at_0(site) -> None:
    bundle = load(site.workspace.training / "bundle")
    assert bundle.ranker is not None
    place = FEATURE_NAMES.index("position")
    assert bundle.ranker.booster.feature_importance()[place] > 0
    user = user_state(UserRow.unknown(), bundle.catalogue)
    slate = recommend(bundle, user, Context(NOW_US), 5)
    assert slate.features is not None
    assert (slate.features[:, place] == 0).all()
    upper, lower = (np.tile(slate.features[0], (1, 1)) for _ in range(2))
    upper[0, place], lower[0, place] = 1, 6
    assert bundle.ranker.score(upper)[0] > bundle.ranker.score(lower)[0]


def test_without_anything_to_learn_from_the_bundle_still_answers(shop, tmp_path) -> None:
    # The same lake and features, but a window in which nothing happened, and no towers.
    workspace = Workspace(tmp_path, "shop")
    workspace.root.mkdir(parents=True)
    for name in ("lake", "offline", "feast"):
        (workspace.root / name).symlink_to(shop.workspace.root / name)
    never = Split(shop.split.test_from, shop.split.test_from, shop.split.end)
    told = train_ranker(workspace, never, "tiny", 3)
    assert told["absent"]["ranker"].startswith("0 candidates wanted and 0 not, between")
    assert "expected at least 30 and 1" in told["absent"]["ranker"]
    assert told["absent"]["two_tower"] == "too few positives to train the towers on"
    bundle = load(workspace.training / "bundle")
    assert bundle.absent == told["absent"]
    user = user_state(UserRow.unknown(), bundle.catalogue)
    assert len(recommend(bundle, user, Context(NOW_US), 10).item_ix) == 10


def test_the_same_seed_trains_the_same_ranker(site, tmp_path) -> None:
    first = (site.workspace.training / "bundle" / "ranker.txt").read_bytes()
    train_ranker(site.workspace, site.split, "tiny", 3)
    assert (site.workspace.training / "bundle" / "ranker.txt").read_bytes() == first
    assert site.split.ranker_from < site.split.test_from - timedelta(days=1)
