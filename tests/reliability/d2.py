"""D2: Redis is emptied, then killed and started empty, under a running API; rebuilt from the log."""

import shutil
import time
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path

import redis

from features.schema import POSITIVE_TYPES
from infra.event_log import SqliteEventLog
from infra.workspace import Workspace
from pipelines.bench_traffic import Record, Traffic
from pipelines.rebuild import rebuild
from pipelines.recount import _wait_for_worker
from pipelines.replay import from_log
from pipelines.stream_state import ITEMS, USERS, PartitionState
from tests.pipelines.stream_kit import PARTITIONS, running
from tests.pipelines.test_replay import stream_rows
from tests.reliability.api import api, asking, told
from tests.services import OwnRedis
from tests.serving.conftest import NOW, Shop, furnish, settings_of

EXPECTED = {
    "errors_5xx": ("==", 0),
    "unanswered": ("==", 0),
    "flushed_different": ("==", 0),
    "restarted_different": ("==", 0),
    "rebuild_s_per_million": ("<=", 60.0),
}

EVENTS, FEWEST = 1_000_000, 5_000
WORKER_MAX_S = 600.0
APPENDED_TOGETHER = 5_000


def run(folder: Path, seed: int, share: float = 1.0) -> dict:
    """Rows of every user and item before, and after each loss; and what the clients saw."""
    server = OwnRedis(folder / "redis")
    server.start()
    try:
        shop = Shop(settings_of(folder / "home"))
        shop = furnish(shop.with_settings(mode="services", redis=server.services.redis))
        with closing(SqliteEventLog(shop.workspace.event_log, PARTITIONS)) as log:
            return _lose_and_rebuild(shop, server, log, seed, share)
    finally:
        server.kill()


def _lose_and_rebuild(
    shop: Shop, server: OwnRedis, log: SqliteEventLog, seed: int, share: float
) -> dict:
    workspace, traffic = shop.workspace, Traffic(max(int(EVENTS * share), FEWEST), seed)
    _append(log, list(traffic.records()))
    _fold_all(workspace, log)
    users, items = sorted(traffic.newest), [f"item-{n}" for n in range(traffic.items)]
    before = stream_rows(workspace, users, items)
    found = {"events": traffic.count, "users": len(before[0]), "items": len(before[1])}
    clients, seconds = [], []
    with api(shop, own_process=share == 1) as address:
        for name, lose in (("flushed", _flush), ("restarted", _restart_empty)):
            with asking(address, users[:200], seed) as client:
                lose(server)
                assert stream_rows(workspace, users, items) == ({}, {}), "nothing was lost"
                since = time.monotonic()
                replay = partial(from_log, workspace, log=log, positive_types=POSITIVE_TYPES)
                rebuild(workspace, NOW, PARTITIONS, stream=replay)
                seconds.append(time.monotonic() - since)
                after = stream_rows(workspace, users, items)
            clients.append(client)
            found[f"{name}_different"] = sum(
                was[key] != now.get(key)
                for was, now in zip(before, after, strict=True)
                for key in was
            )
    found["rebuild_s_per_million"] = max(seconds) / traffic.count * 1e6
    return found | told(clients)


def _fold_all(workspace: Workspace, log: SqliteEventLog) -> None:
    """Let a worker do all there is to do; that its rows are right is what C1 asks."""
    with ExitStack() as stack:
        states = {
            stage: [
                stack.enter_context(closing(PartitionState(workspace.state, p, PARTITIONS, stage)))
                for p in range(PARTITIONS)
            ]
            for stage in (USERS, ITEMS)
        }
        with running(workspace, log) as failed:
            lag = _wait_for_worker(log, states[USERS], states[ITEMS], WORKER_MAX_S)
    assert (lag, failed) == (0, [])


def _append(log: SqliteEventLog, records: list[Record]) -> None:
    for start in range(0, len(records), APPENDED_TOGETHER):
        log.append("events", records[start : start + APPENDED_TOGETHER])


def _flush(server: OwnRedis) -> None:
    redis.Redis.from_url(f"redis://{server.services.redis}").flushall()


def _restart_empty(server: OwnRedis) -> None:
    server.kill()
    shutil.rmtree(server.folder / "appendonlydir")
    server.start()
