"""Train the ranker on point-in-time rows and stage the bundle that is then evaluated.

    python -m pipelines.train_ranker --dataset world --scale small --seed 7

No torch in this process: the towers come as arrays from pipelines/train_retrieval.py.
"""

import argparse
import json
import time
from dataclasses import replace
from typing import Any

from features.feature_set import CURRENT, FeatureSet
from features.point_in_time import Leak, item_matrix
from infra.clients import open_feast
from infra.settings import Settings
from infra.workspace import Workspace
from models import ranker, staging
from models.ranker import Ranker
from models.split import Split
from pipelines.days import split_of
from pipelines.past import Past, read_past
from pipelines.ranker_rows import Rows, build_rows, moment_queries, slate_queries
from pipelines.retrieval import read
from pipelines.train_retrieval import FOR_BUNDLE, FOR_RANKER

QUERIES = {"tiny": 1500, "small": 6000, "full": 40_000}
"""At most so many ranking problems; each costs about a millisecond and its rows' memory."""

MIN_POSITIVES = 30
"""With fewer the merged order of the sources is the better guess."""


def train_ranker(
    workspace: Workspace,
    split: Split,
    scale: str,
    seed: int,
    columns: FeatureSet = CURRENT,
    leak: Leak = "none",
) -> dict[str, Any]:
    """Train the ranker and stage a bundle as of `test_from` in `workspace.training`/"bundle".

    Args:
        workspace: its lake, offline features and towers are read.
        split: see models/split.py.
        scale: tiny, small or full.
        seed: of the sample of queries and of the trees.
        columns: the features to train on.
        leak: how far the training rows look ahead; what is staged then is refused by `publish`.

    Returns:
        queries, rows, positives and seconds; parts that could not be trained in `absent`.
    """
    since = time.monotonic()
    past, store = read_past(workspace), open_feast(workspace)
    absent = {}
    rows = _rows(workspace, past, store, split, scale, seed, columns, leak)
    trained: Ranker | None = None
    if rows.labels.sum() < MIN_POSITIVES or rows.labels.all():
        absent["ranker"] = (
            f"{rows.labels.sum()} candidates wanted and {(rows.labels == 0).sum()} not, between "
            f"{split.ranker_from:%Y-%m-%d} and {split.test_from:%Y-%m-%d}; "
            f"expected at least {MIN_POSITIVES} and 1"
        )
    else:
        trained = ranker.fit(rows.features, rows.labels, rows.group_sizes, seed, columns=columns)
    retrieval = read(workspace.training / FOR_BUNDLE)
    if retrieval is None:
        absent["two_tower"] = "too few positives to train the towers on"
    moment, ids = split.test_from, past.ids(split.test_from)
    matrix = item_matrix(store, ids, [moment], columns.item)[moment]
    parts = replace(
        past.parts(moment, matrix, retrieval),
        features=columns,
        ranker=trained,
        absent=absent,
        trained_until=moment.isoformat(),
        leak=None if leak == "none" else leak,
    )
    staging.write(workspace.training / "bundle", parts)
    return {
        "queries": len(rows.group_sizes),
        "rows": len(rows.labels),
        "positives": int(rows.labels.sum()),
        "seconds": round(time.monotonic() - since, 2),
        "absent": absent,
    }


def _rows(
    workspace: Workspace,
    past: Past,
    store: Any,
    split: Split,
    scale: str,
    seed: int,
    columns: FeatureSet,
    leak: Leak,
) -> Rows:
    limit = QUERIES[scale]
    queries = (
        slate_queries(workspace.lake, past, split, limit, seed)
        if past.info.has_impressions
        else moment_queries(past, split, limit, seed)
    )
    towers = read(workspace.training / FOR_RANKER)
    return build_rows(past, store, towers, queries, seed, columns, leak)


def main() -> None:
    """Command line of this step; prints the result as one line of JSON."""
    parser = argparse.ArgumentParser(prog="python -m pipelines.train_ranker", description=__doc__)
    parser.add_argument("--dataset", default="world")
    parser.add_argument("--scale", choices=list(QUERIES), default="small")
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    workspace = Workspace.of(Settings(dataset=asked.dataset))
    split = split_of(workspace)
    print(json.dumps(train_ranker(workspace, split, asked.scale, asked.seed)))


if __name__ == "__main__":
    main()
