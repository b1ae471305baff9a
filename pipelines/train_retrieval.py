"""Train the two towers, in a process of their own: nothing else here imports torch.

    python -m pipelines.train_retrieval --dataset world --scale small --seed 7

Twice: on everything before `ranker_from`, so that the ranker learns from candidates of a retrieval
that has not seen its labels, and on everything before `test_from`, for the bundle.
"""

import argparse
import json
import shutil
import time
from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime
from typing import Any

import numpy as np
import pandas as pd

from infra.settings import Settings
from infra.workspace import Workspace
from models.sampling import histories
from models.split import Split
from pipelines.days import split_of
from pipelines.past import Past, read_past
from pipelines.retrieval import Retrieval, save

MIN_TAUGHT = 50
"""Positives with an earlier one of the same user; fewer teach nothing but their own noise."""

EPOCHS = {"tiny": 5, "small": 8, "full": 8}
BATCH = {"tiny": 256, "small": 512, "full": 2048}

FOR_RANKER, FOR_BUNDLE = "retrieval-for-ranker", "retrieval-for-bundle"
"""Folders below `workspace.training`."""


def train_retrieval(workspace: Workspace, split: Split, scale: str, seed: int) -> dict[str, Any]:
    """Train both pairs of towers and write them below `workspace.training`.

    Args:
        workspace: its lake is read.
        split: see models/split.py.
        scale: tiny, small or full.
        seed: of weights, batches and negatives.

    Returns:
        For each of the two: positives, loss by epoch, seconds; or `absent` with the reason.
    """
    past = read_past(workspace)
    result = {}
    for name, until in ((FOR_RANKER, split.ranker_from), (FOR_BUNDLE, split.test_from)):
        folder = workspace.training / name
        since = time.monotonic()
        retrieval, told = fit(past, until, scale, seed)
        if retrieval is None:
            shutil.rmtree(folder, ignore_errors=True)
        else:
            save(folder, retrieval)
        result[name] = {**told, "seconds": round(time.monotonic() - since, 2)}
    return result


def fit(
    past: Past, until: datetime, scale: str, seed: int
) -> tuple[Retrieval | None, dict[str, Any]]:
    """Towers trained on the positives before `until`; None with a reason where they are too few."""
    from models.two_tower import ItemContent, TwoTowerSettings, train

    positives = past.before(until)
    settings = TwoTowerSettings(epochs=EPOCHS[scale], batch=BATCH[scale])
    targets, before = histories(
        positives["user_ix"].to_numpy(),
        positives["item_ix"].to_numpy(),
        positives["event_us"].to_numpy(),
        settings.history,
    )
    taught = int((before[:, :1] >= 0).sum())
    if taught < MIN_TAUGHT or len(np.unique(targets)) < 2:
        reason = (
            f"{taught} positives with an earlier one of the same user before {until:%Y-%m-%d}, on "
            f"{len(np.unique(targets))} items; expected at least {MIN_TAUGHT} on 2"
        )
        return None, {"absent": reason}
    items = past.items
    content = ItemContent(
        pd.factorize(items["category"], sort=True)[0].astype(np.int64),
        pd.factorize(items["subcategory"], sort=True)[0].astype(np.int64),
        items["price"].to_numpy(dtype=np.float64),
    )
    settings = replace(settings, batch=min(settings.batch, taught))
    trained = train(targets, before, content, seed, settings, _progress)
    ids = items["item_id"].to_numpy(dtype=str)
    retrieval = Retrieval(ids, trained.item_vectors, trained.tower, until.isoformat())
    return retrieval, {"positives": taught, "loss_nats": trained.losses_nats}


def _progress(steps: Iterable[int], total: int) -> Iterable[int]:
    from rich.console import Console
    from rich.progress import track

    # stderr: the last line of stdout is the result.
    return track(steps, "training the towers", total=total, console=Console(stderr=True))


def main() -> None:
    """Command line of this step; prints the result as one line of JSON."""
    parser = argparse.ArgumentParser(
        prog="python -m pipelines.train_retrieval", description=__doc__
    )
    parser.add_argument("--dataset", default="world")
    parser.add_argument("--scale", choices=list(EPOCHS), default="small")
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    workspace = Workspace.of(Settings(dataset=asked.dataset))
    split = split_of(workspace)
    print(json.dumps(train_retrieval(workspace, split, asked.scale, asked.seed)))


if __name__ == "__main__":
    main()
