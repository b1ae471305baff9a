"""What one user's features cost to read online, and whether the item matrix says what Feast says.

The data set's own offline features are materialized into a scratch store on each backend. One user
is read as serving reads one (`OnlineStore.read_user`) and by Feast's own `get_online_features`, in
turns, first while nothing else happens, then while one process pushes rows as the stream worker
does and another materializes without a pause. Times are of this machine; read the ratios.
"""

import multiprocessing
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.dataset as ds

from features.definitions import HISTORY_AT, HISTORY_ITEMS, LAST_EVENT_AT, USER_VIEWS, stored_of
from features.errors import NotReady
from features.store import OnlineStore
from infra.clients import open_feast
from infra.workspace import Services, Workspace
from models.bundle import Bundle, current, load, version_path
from models.manifest import read_manifest
from pipelines.materialize import materialize
from pipelines.steps import console

BACKENDS = ("sqlite", "redis")

BUDGET_MS, GOAL_MS = 5.0, 0.6
"""For the user's features within a request of 50 ms; what we aim for at the median."""

PUSHED_ROWS, PUSH_EVERY_S = 100, 0.05
"""2,000 changed users a second, in micro-batches: the pace at which freshness is measured."""

WARM_UP = 20
ITEMS_PER_READ = 100
"""As serving reads them when it refreshes its matrix."""

processes = multiprocessing.get_context("forkserver")


def online_speed(
    workspace: Workspace, *, reads: int, pairs: int, seed: int, backends: Sequence[str] = BACKENDS
) -> dict[str, Any]:
    """Run all of it on each backend, as of the moment of the bundle that is served.

    Args:
        workspace: its bundle and its offline store are read; nothing of it is written.
        reads: of users, by each way, idle and busy.
        pairs: random (item, feature) pairs to compare.
        seed: of the users and of the pairs.

    Returns:
        By backend: idle and busy, each with ours_ms_p50, ours_ms_p99, feast_ms_p50, feast_ms_p99 and
        ratio_p50 (Feast's / ours); busy also pushed_rows and materialized, what the writers did
        meanwhile; pairs_compared, pairs_different and published_different (the matrix that the
        bundle was published with, against Feast); budget_ms and goal_ms.

    Raises:
        NotReady: there is no bundle.

    Interview: How long may the features of a request take, and where does the time go?
        Less than a tenth of the request. One user's row is a few hundred bytes, so the network and
        the server are not the cost: building and parsing a protobuf per value is, and waiting once
        per view. Views are asked for in one pipeline, without the registry, and items not at all:
        they are a gather from a matrix in the process, which must equal the store value for value.
        Trade-off: the matrix is as old as its last refresh, and the shortcut past Feast's own call
        does by hand what that does besides: ages and defaults.
        Shown by: tests/pipelines/test_bench_online.py::test_both_ways_are_timed_and_every_pair_is_equal
    """
    bundle, now = _served(workspace)
    found: dict[str, Any] = {"bundle": bundle.id, "budget_ms": BUDGET_MS, "goal_ms": GOAL_MS}
    for backend in backends:
        with _scratch(workspace, backend) as place:
            rows = materialize(place, now)["rows"]
            found[backend] = {
                "users": rows["user_daily"], "items": rows["item_daily"],
                **_reads(place, bundle, now, reads, seed), **_items(place, bundle, now, pairs, seed),
            }  # fmt: skip
        console.print(f"{backend}: {found[backend]}")
    return found


def _served(workspace: Workspace) -> tuple[Bundle, datetime]:
    """The current bundle, and the moment that its item matrix holds."""
    bundle_id = current(workspace.bundles)
    if bundle_id is None:
        raise NotReady(f"no bundle of '{workspace.name}' to compare; make one with: make demo")
    path = version_path(workspace.bundles, bundle_id)
    return load(path), datetime.fromisoformat(read_manifest(path)["as_of"])


@contextmanager
def _scratch(workspace: Workspace, backend: str) -> Iterator[Workspace]:
    """A workspace of its own with the same offline features, and a server where it needs one."""
    from infra.local import redis

    with ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="shortlist-bench-")))
        services = None
        if backend == "redis":
            address = stack.enter_context(redis.server(home / "redis"))
            services = Services("absent:1", address, "absent:1")
        place = Workspace(home, workspace.name, services)
        place.root.mkdir(parents=True)
        place.offline.symlink_to(workspace.offline.resolve(), target_is_directory=True)
        yield place


def _reads(
    place: Workspace, bundle: Bundle, now: datetime, reads: int, seed: int
) -> dict[str, dict[str, float]]:
    users, store = _users(place), open_feast(place)
    asked = np.random.default_rng(seed).choice(users, WARM_UP + reads).tolist()
    online, categories = OnlineStore(store), bundle.catalogue.vocabulary["category"]
    ways: dict[str, Callable[[str], Any]] = {
        "ours": lambda user_id: online.read_user(user_id, categories, now),
        "feast": lambda user_id: _by_feast(store, user_id, categories),
    }
    idle = _timed(ways, asked)
    with _writers(place, users, now) as done:
        busy = _timed(ways, asked)
    return {"idle": idle, "busy": busy | done}


def _timed(ways: Mapping[str, Callable[[str], Any]], users: Sequence[str]) -> dict[str, float]:
    """Milliseconds of each way, in turns and in changing order."""
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for turn, user_id in enumerate(users):
        for name in sorted(ways, reverse=turn % 2 == 1):
            since = time.perf_counter()
            ways[name](user_id)
            taken[name].append((time.perf_counter() - since) * 1000)
    found = {
        f"{name}_ms_p{percent}": float(np.percentile(times[WARM_UP:], percent))
        for name, times in taken.items()
        for percent in (50, 99)
    }
    return found | {"ratio_p50": found["feast_ms_p50"] / found["ours_ms_p50"]}


def _by_feast(store: Any, user_id: str, categories: Sequence[str]) -> None:
    """The same values in Feast's own way: a call for the user, one for the user in each category."""
    extras = [f"user_stream:{name}" for name in (HISTORY_ITEMS, HISTORY_AT, LAST_EVENT_AT)]
    names = [f"{view}:{f.column}" for view in USER_VIEWS for f in stored_of(view)]
    store.get_online_features(features=names + extras, entity_rows=[{"user_id": user_id}]).to_dict()
    if categories:
        rows = [{"user_id": user_id, "category": category} for category in categories]
        names = [f"user_category_daily:{f.column}" for f in stored_of("user_category_daily")]
        store.get_online_features(features=names, entity_rows=rows).to_dict()


@contextmanager
def _writers(place: Workspace, users: Sequence[str], now: datetime) -> Iterator[dict[str, int]]:
    """Both writers, in processes of their own; filled at the end with what they wrote."""
    stop, told = processes.Event(), processes.Queue()
    arguments = (place, list(users[:PUSHED_ROWS]), now, stop, told)
    writers = [
        processes.Process(target=target, args=arguments, daemon=True)
        for target in (_push, _materialize)
    ]
    for writer in writers:
        writer.start()
    for _ in writers:
        told.get(timeout=120)  # each is at work
    done: dict[str, int] = {}
    try:
        yield done
    finally:
        stop.set()
        for _ in writers:
            done |= told.get(timeout=120)
        for writer in writers:
            writer.join(30)


def _push(place: Workspace, users: Sequence[str], now: datetime, stop: Any, told: Any) -> None:
    """What the stream worker does to the store: rows that are newer than what is there."""
    online, pushed = OnlineStore(open_feast(place)), 0
    stored = online.read_stream(users)
    while not stop.is_set():
        for row in stored.values():
            row["version"] += 1
        pushed += online.push("user_stream", stored)
        if pushed == len(stored):
            told.put({})
        stop.wait(PUSH_EVERY_S)
    told.put({"pushed_rows": pushed})


def _materialize(place: Workspace, _: Any, now: datetime, stop: Any, told: Any) -> None:
    """What the hourly and the nightly job do, over and over."""
    count = 0
    while not stop.is_set():
        materialize(place, now, ["user_daily", "item_hourly", "user_category_daily"])
        count += 1
        if count == 1:
            told.put({})
    told.put({"materialized": count})


def _items(
    place: Workspace, bundle: Bundle, now: datetime, pairs: int, seed: int
) -> dict[str, int]:
    """Random cells of the matrix that serving would hold, and of the published one, against Feast."""
    store, columns = open_feast(place), bundle.catalogue.features.item
    ids, online = bundle.catalogue.item_ids.tolist(), OnlineStore(store)
    blocks = [ids[start : start + ITEMS_PER_READ] for start in range(0, len(ids), ITEMS_PER_READ)]
    held = np.concatenate([online.read_items(some, now, columns).matrix for some in blocks])
    told = np.concatenate([_items_by_feast(store, some, columns) for some in blocks])
    rng = np.random.default_rng(seed)
    cells = rng.integers(len(ids), size=pairs), rng.integers(len(columns), size=pairs)
    return {
        "pairs_compared": pairs,
        "pairs_different": int((held[cells] != told[cells]).sum()),
        "published_different": int((bundle.catalogue.matrix[cells] != told[cells]).sum()),
    }


def _items_by_feast(store: Any, ids: Sequence[str], columns: Sequence[Any]) -> np.ndarray:
    """(N, Fi) what `get_online_features` answers; the definition's default where it has nothing."""
    answers = store.get_online_features(
        features=[f"{f.view}:{f.column}" for f in columns],
        entity_rows=[{"item_id": item_id} for item_id in ids],
    ).to_dict()
    return np.array(
        [[f.default if v is None else v for v in answers[f.column]] for f in columns], np.float64
    ).T


def _users(place: Workspace) -> list[str]:
    paths = [str(path) for path in place.offline.glob("user_daily/*.parquet")]
    return sorted(set(ds.dataset(paths).to_table(columns=["user_id"])["user_id"].to_pylist()))
