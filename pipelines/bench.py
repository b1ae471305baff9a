"""Stage times of a request on the current bundle, the fast way beside the plain way, in one run.

Machines differ and this one is noisy: read the ratios. Each line is the median over the workspace's
sample users, one thread, in this process (no HTTP).
"""

import json
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from rich.table import Table

from features.errors import NotReady
from features.request import context_of, user_state
from features.store import OnlineStore
from infra.clients import open_feast
from infra.workspace import Workspace
from models.bundle import Bundle, current, load, version_path
from models.funnel import recommend
from models.index import exact_search
from pipelines.days import serve_from, split_of
from pipelines.load.budget import STAGES, UNKNOWN
from pipelines.steps import console

ROUNDS = 5
K = 20
STAGE_OF = {"read_user": "features", "whole": "total"}
"""Stages that the API's stop-watch, and so the budget, calls otherwise."""


def run_bench(workspace: Workspace, seed: int) -> dict[str, Any]:
    """Milliseconds per stage (p50, p95), and fast against plain with their ratio.

    Raises:
        NotReady: no bundle to time.
    """
    bundle_id = current(workspace.bundles)
    if bundle_id is None:
        raise NotReady(f"no bundle of '{workspace.name}' to time; make one with: make demo")
    bundle = load(version_path(workspace.bundles, bundle_id))
    store = OnlineStore(open_feast(workspace))
    users = (
        np.random.default_rng(seed)
        .permutation(json.loads(workspace.sample_users.read_text()))
        .tolist()
    )
    stages = _stages(bundle, store, users, serve_from(split_of(workspace)))
    pairs = _pairs(bundle, store, np.random.default_rng(seed))
    _tell(stages, pairs)
    return {
        "bundle": bundle_id,
        "items": len(bundle.titles),
        "stages": stages,
        "fast_and_plain": pairs,
    }


def _stages(
    bundle: Bundle, store: OnlineStore, users: list[str], now: Any
) -> dict[str, dict[str, float]]:
    taken: dict[str, list[float]] = defaultdict(list)

    @contextmanager
    def stage(name: str) -> Iterator[None]:
        since = time.perf_counter()
        yield
        taken[name].append((time.perf_counter() - since) * 1e3)

    categories = bundle.catalogue.vocabulary["category"]
    context = context_of(now, {}, bundle.catalogue)
    for user_id in users * ROUNDS:
        with stage("whole"):
            with stage("read_user"):
                row = store.read_user(user_id, categories, now)
            with stage("align"):
                user = user_state(row, bundle.catalogue)
            recommend(bundle, user, context, K, stage=stage)
    return {
        name: {"p50_ms": _quantile(ms, 50), "p95_ms": _quantile(ms, 95)}
        for name, ms in taken.items()
    }


def _pairs(
    bundle: Bundle, store: OnlineStore, rng: np.random.Generator
) -> dict[str, dict[str, float]]:
    """What the design does, beside what one would write first."""
    count = min(200, len(bundle.titles))
    items = rng.choice(len(bundle.titles), count, replace=False)
    ids = bundle.catalogue.item_ids[items].tolist()
    pairs: dict[str, tuple[Callable[[], Any], Callable[[], Any]]] = {
        f"{count} items' features: matrix in the process, online store": (
            lambda: bundle.catalogue.matrix[items],
            lambda: store.read_items(ids),
        )
    }
    if bundle.index is not None and bundle.item_vectors is not None:
        index, vectors = bundle.index, bundle.item_vectors
        pairs["100 nearest items: FAISS, NumPy"] = (
            lambda: index.search(vectors[0], 100),
            lambda: exact_search(vectors, vectors[0], 100),
        )
    return {name: _compared(*both) for name, both in pairs.items()}


def _compared(fast: Callable[[], Any], plain: Callable[[], Any]) -> dict[str, float]:
    times = {"fast": _median_ms(fast), "plain": _median_ms(plain)}
    return {f"{name}_ms": ms for name, ms in times.items()} | {
        "ratio": times["plain"] / times["fast"]
    }


def _median_ms(call: Callable[[], Any]) -> float:
    taken = []
    for _ in range(30):
        since = time.perf_counter()
        call()
        taken.append((time.perf_counter() - since) * 1e3)
    return _quantile(taken, 50)


def _quantile(values: list[float], percent: float) -> float:
    return round(float(np.percentile(values, percent)), 4)


def _tell(stages: dict[str, dict[str, float]], pairs: dict[str, dict[str, float]]) -> None:
    table = Table("stage", "p50 ms", "p95 ms", "budget ms", box=None)
    for name, value in stages.items():
        budget = STAGES.get(STAGE_OF.get(name, name), UNKNOWN).source_ms
        table.add_row(
            name,
            f"{value['p50_ms']:.3f}",
            f"{value['p95_ms']:.3f}",
            "" if budget is None else f"{budget:.0f}",
        )
    console.print(table)
    for name, value in pairs.items():
        console.print(
            f"{name}: {value['fast_ms']:.3f} and {value['plain_ms']:.3f} ms, {value['ratio']:.1f}x"
        )
