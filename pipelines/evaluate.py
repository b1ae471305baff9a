"""Every baseline beside the models, on the time after `test_from`; one protocol for all data.

    python -m pipelines.evaluate --dataset world --seed 7

Candidates are the whole catalogue of the staged bundle, gains are binary, and everybody knows the
same: what happened before `test_from`. Intervals resample users; comparisons are paired by user.
"""

import argparse
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from features.point_in_time import item_matrix
from infra.clients import open_feast
from infra.settings import Settings
from infra.workspace import Workspace
from models import covisitation, index
from models.bundle import Bundle, current, load, version_path
from models.funnel import recommend
from models.manifest import is_trained, read_manifest
from models.metrics import METRICS, bootstrap, coverage, judge
from models.popularity import counts, own_history_order
from models.split import Split
from pipelines.asked import Asked, users_asked
from pipelines.days import split_of
from pipelines.past import read_past
from pipelines.retrieval import Retrieval

K = 10
CHAMPION = "champion"
"""Column of the per-user table: the published weights on the same queries, where there are any."""


def evaluate(workspace: Workspace, split: Split, seed: int) -> dict[str, Any]:
    """Judge the staged bundle, its baselines and the published champion.

    Args:
        workspace: `training`/"bundle" must be staged as of `split.test_from`. Also written there:
            `per_user.parquet` (nDCG@10 by user and model) and `evaluation.json` (the result).
        split: the one the bundle was trained with.
        seed: of the random baseline, the sample of users and the bootstrap.

    Returns:
        `models` {model: {metric_at_10: {mean, low, high}, coverage}}, `paired` {baseline:
        full minus baseline in nDCG@10}, `counts` {users, items, relevant}, `bundle` the staged
        id, `champion` the id compared with or None, `reasons` {part: why the bundle lacks it}.
    """
    past, store = read_past(workspace), open_feast(workspace)
    staged = load(workspace.training / "bundle")
    asked = users_asked(workspace, past, store, staged, split, seed)
    champion_id = _champion(workspace)
    always = _always_popular(past.before(split.test_from)["item_id"], staged)
    models = _models(staged, always, seed)
    if champion_id is not None:
        models[CHAMPION] = _recommender(champion_at(staged, workspace, champion_id, store, split))
    lists = {
        name: [_unseen(staged, a, lists_of(a)) for a in asked] for name, lists_of in models.items()
    }
    judged = {name: judge(found, [a.relevant for a in asked], K) for name, found in lists.items()}
    ndcg = {name: METRICS["ndcg"](values) for name, values in judged.items()}
    result = {
        "models": {
            name: {
                **{f"{m}_at_{K}": bootstrap(of(judged[name]), seed) for m, of in METRICS.items()},
                "coverage": coverage(found, len(staged.catalogue.item_ids), K),
            }
            for name, found in lists.items()
        },
        "paired": {
            name: bootstrap(ndcg["full"] - other, seed)
            for name, other in ndcg.items()
            if name != "full"
        },
        "counts": {
            "users": len(asked),
            "items": len(staged.catalogue.item_ids),
            "relevant": sum(len(a.relevant) for a in asked),
        },
        "bundle": staged.id,
        "champion": champion_id,
        "reasons": staged.absent,
    }
    table = pd.DataFrame({"user_id": [a.query.user_id for a in asked], **ndcg})
    table.to_parquet(workspace.training / "per_user.parquet", index=False)
    (workspace.training / "evaluation.json").write_text(json.dumps(result))
    return result


def _champion(workspace: Workspace) -> str | None:
    """The bundle to compare with; None where nothing is published, or nothing that was trained."""
    champion_id = current(workspace.bundles)
    if champion_id is None:
        return None
    manifest = read_manifest(version_path(workspace.bundles, champion_id))
    return champion_id if is_trained(manifest) else None


def champion_at(
    staged: Bundle, workspace: Workspace, champion_id: str, store: Any, split: Split
) -> Bundle:
    """The champion's weights over the challenger's data: what it would answer at `test_from`.

    Its own bundle may have been refreshed after `test_from` and would know part of the answers.
    Versions of features that only the champion reads are joined for it.

    Interview: How do you compare a new model with the one in production, offline?
        On the same users, the same candidates and the same knowledge, and by the difference per
        user. The production bundle itself is no fair opponent: its popularity and neighbours were
        refreshed after the test began. So its weights are put on the data of the test moment.
        Trade-off: weights that were trained after the test moment would still be favoured; the
        gate is one-sided, it only refuses what is surely worse.
        Shown by: tests/pipelines/test_evaluate.py::test_a_champion_knows_no_more_than_the_challenger
    """
    champion = load(version_path(workspace.bundles, champion_id))
    vectors = tower = None
    if champion.tower is not None and champion.item_vectors is not None:
        ids = champion.catalogue.item_ids
        retrieval = Retrieval(ids, champion.item_vectors, champion.tower, "")
        vectors, tower = retrieval.of(staged.catalogue.item_ids)
    names, codes = champion.catalogue.vocabulary["category"], staged.catalogue.category
    place = {name: code for code, name in enumerate(names)}
    recoded = [place.get(name, -1) for name in staged.catalogue.vocabulary["category"]]
    features, matrix = champion.catalogue.features, staged.catalogue.matrix
    if features.item != staged.catalogue.features.item:
        ids = staged.catalogue.item_ids.tolist()
        matrix = item_matrix(store, ids, [split.test_from], features.item)[split.test_from]
    return replace(
        staged,
        id=champion.id,
        catalogue=replace(
            staged.catalogue,
            matrix=matrix,
            features=features,
            vectors=vectors,
            category=np.array([*recoded, -1], dtype=np.int64)[codes],  # -1 stays -1
            vocabulary=champion.catalogue.vocabulary,
        ),
        item_vectors=vectors,
        tower=tower,
        index=None if vectors is None else index.build(vectors),
        ranker=champion.ranker,
    )


def _models(
    staged: Bundle, always: np.ndarray, seed: int
) -> dict[str, Callable[[Asked], np.ndarray]]:
    """Model -> what it lists for a user; long enough to lose what the seen filter takes."""
    rng = np.random.default_rng(seed)
    n = len(staged.catalogue.item_ids)
    return {
        "random": lambda asked: rng.permutation(n),
        "popular": lambda asked: always,
        "recent_popular": lambda asked: staged.popular,
        "own_history": lambda asked: own_history_order(asked.own_ix, asked.own_us, staged.popular),
        "item_knn": lambda asked: _item_knn(staged, asked),
        "two_tower": lambda asked: _two_tower(staged, asked),
        "full": _recommender(staged),
    }


def _recommender(bundle: Bundle) -> Callable[[Asked], np.ndarray]:
    return lambda asked: recommend(bundle, *asked.at(bundle), K).item_ix


def _always_popular(item_ids: pd.Series, staged: Bundle) -> np.ndarray:
    """Items by all positives before the test; ties by row."""
    ix = item_ids.map(staged.catalogue.index).to_numpy(dtype=np.int64)
    return np.argsort(-counts(ix, len(staged.catalogue.item_ids)), kind="stable")


def _item_knn(staged: Bundle, asked: Asked) -> np.ndarray:
    """Neighbours of the newest items alone, padded with the popular."""
    if staged.covisitation is None:
        return staged.popular
    found, _ = covisitation.candidates(
        staged.covisitation, asked.own_ix[::-1], K + len(asked.own_ix)
    )
    return _padded(found, staged)


def _two_tower(staged: Bundle, asked: Asked) -> np.ndarray:
    """The nearest items alone; the popular where there is no tower."""
    vector = staged.tower.encode(asked.own_ix[::-1]) if staged.tower else None
    if vector is None or staged.index is None:
        return staged.popular
    return _padded(staged.index.search(vector, K + len(asked.own_ix))[0], staged)


def _padded(found: np.ndarray, staged: Bundle) -> np.ndarray:
    return np.concatenate([found, staged.popular[~np.isin(staged.popular, found)]])


def _unseen(staged: Bundle, asked: Asked, items: np.ndarray) -> np.ndarray:
    """The first K that the data set's filter lets through."""
    if staged.info.seen_filter:
        items = items[: K + len(asked.own_ix)]
        items = items[~np.isin(items, asked.own_ix)]
    return items[:K].copy()  # a slice would keep the whole catalogue alive for every user


def main() -> None:
    """Command line of this step; prints the result as one line of JSON."""
    parser = argparse.ArgumentParser(prog="python -m pipelines.evaluate", description=__doc__)
    parser.add_argument("--dataset", default="world")
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    workspace = Workspace.of(Settings(dataset=asked.dataset))
    split = split_of(workspace)
    print(json.dumps(evaluate(workspace, split, asked.seed)))


if __name__ == "__main__":
    main()
