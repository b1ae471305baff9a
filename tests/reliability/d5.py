"""D5: Feast's registry is lost, spoiled, stuck in MATERIALIZING, in use, or its writer is killed."""

import multiprocessing
import os
import random
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path

from features.definitions import BATCH_VIEWS
from features.repo.views import stored_views
from features.store import OnlineStore
from infra.clients import REGISTRY, open_feast
from infra.workspace import Workspace
from pipelines.build_features import build_features
from pipelines.materialize import materialize
from pipelines.stream import open_online
from tests.features.small_lake import DAY, random_lake
from tests.pipelines.test_materialize import materialize_for_ever
from tests.reliability.api import api, asking, told
from tests.serving.conftest import NOW, Shop, furnish, settings_of

from feast.feature_view import FeatureViewState  # isort: skip  # after infra.clients
from feast.infra.online_stores.sqlite import SqliteOnlineStore  # isort: skip

EXPECTED = {
    "errors_5xx": ("==", 0),
    "unanswered": ("==", 0),
    "rung_max": ("<=", 1),
    "killed_inside": (">=", 1),
    "not_open_at_next_start": ("==", 0),
    "not_healed_by_next_run": ("==", 0),
}

USERS = [f"u{number}" for number in range(7)]
HOLD_S, HOLD_SHORT_S = 10.0, 0.3
"""How long each fault stands."""

DIES_WITHIN_S = 120.0
RATE = 20.0

processes = multiprocessing.get_context("forkserver")

Fault = Callable[[Workspace, random.Random], AbstractContextManager[None]]


def run(folder: Path, seed: int, share: float = 1.0) -> dict:
    """What clients saw of a running API and of one started amid each fault; who was not well again."""
    shop, rng, hold_s = _filled(folder), random.Random(seed), HOLD_SHORT_S if share < 1 else HOLD_S
    workspace, whole, clients = shop.workspace, _rows(shop.workspace), []
    found: dict = {"not_open_at_next_start": 0, "not_healed_by_next_run": 0, "killed_inside": 0}
    with api(shop, own_process=share == 1) as address:
        for fault in (_missing, _corrupt, _stuck, _materializing, _killed):
            with asking(address, USERS, seed, RATE) as running, fault(workspace, rng):
                time.sleep(hold_s)
                found["killed_inside"] += _is_stuck(workspace) if fault is _killed else 0
                with (
                    api(shop, own_process=share == 1) as another,
                    asking(another, USERS, seed, RATE) as started,
                ):
                    time.sleep(hold_s)
                open_online(workspace)  # what the stream worker does when it starts
                found["not_open_at_next_start"] += _rows(workspace) != whole
            materialize(workspace, NOW)
            is_well = not _is_stuck(workspace) and _rows(workspace) == whole
            found["not_healed_by_next_run"] += not is_well
            clients += [running, started]
    return found | told(clients)


def _filled(folder: Path) -> Shop:
    shop = furnish(Shop(settings_of(folder / "home")))
    random_lake(shop.workspace.lake)
    build_features(shop.workspace, [DAY.date()], "duckdb", until=NOW)
    materialize(shop.workspace, NOW)
    return shop


def _rows(workspace: Workspace) -> list:
    """What every user's features are, read as a process does that has just started."""
    online = OnlineStore(open_feast(workspace), stored_views(workspace.offline))
    return [online.read_user(user, ("x", "y", "z"), NOW) for user in USERS]


def _is_stuck(workspace: Workspace) -> bool:
    states = {v.name: v.state for v in open_feast(workspace).list_feature_views()}
    return any(states.get(v) != FeatureViewState.AVAILABLE_ONLINE for v in BATCH_VIEWS)


def _missing(workspace: Workspace, _: random.Random) -> AbstractContextManager[None]:
    (workspace.feast / REGISTRY).unlink()
    return nullcontext()


def _corrupt(workspace: Workspace, rng: random.Random) -> AbstractContextManager[None]:
    """A page of noise in its middle."""
    path = workspace.feast / REGISTRY
    content = bytearray(path.read_bytes())
    content[1000:5096] = rng.randbytes(4096)
    path.write_bytes(content)
    return nullcontext()


def _stuck(workspace: Workspace, _: random.Random) -> AbstractContextManager[None]:
    """As a killed run leaves it: every batch view says that it is being materialized."""
    store = open_feast(workspace)
    for view in store.list_feature_views():
        if view.name in BATCH_VIEWS:
            view.state = FeatureViewState.MATERIALIZING
            store.registry.apply_feature_view(view, store.project, commit=True)
    assert _is_stuck(workspace)
    return nullcontext()


@contextmanager
def _materializing(workspace: Workspace, _: random.Random) -> Iterator[None]:
    writer = processes.Process(target=materialize_for_ever, args=(workspace,), daemon=True)
    writer.start()
    try:
        yield
        assert writer.is_alive(), "it should have materialized all the while"
    finally:
        writer.kill()
        writer.join(10)


@contextmanager
def _killed(workspace: Workspace, rng: random.Random) -> Iterator[None]:
    """kill -9 between two writes of a run."""
    writer = processes.Process(target=die_inside, args=(workspace, rng.randint(1, 3)), daemon=True)
    writer.start()
    writer.join(DIES_WITHIN_S)
    assert writer.exitcode == -signal.SIGKILL
    yield


def die_inside(workspace: Workspace, write: int) -> None:
    """Materialize, and be killed after that write to the online store."""
    real, written = SqliteOnlineStore.online_write_batch, []

    def deadly(*arguments, **options):
        real(*arguments, **options)
        written.append(arguments)
        if len(written) == write:
            os.kill(os.getpid(), signal.SIGKILL)

    SqliteOnlineStore.online_write_batch = deadly
    materialize(workspace, NOW)
