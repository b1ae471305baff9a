"""D2: Redis is emptied, then killed and started empty, under a running API; rebuilt from the log."""

import shutil
import time
from contextlib import closing
from functools import partial
from pathlib import Path

import redis

from features.schema import POSITIVE_TYPES
from infra.event_log import SqliteEventLog
from pipelines.bench_traffic import Record, Traffic
from pipelines.rebuild import rebuild
from pipelines.recount import recount
from pipelines.replay import from_log
from tests.pipelines.test_replay import stream_rows
from tests.pipelines.test_stream import PARTITIONS, running
from tests.reliability.api import api, asking, told
from tests.serving.conftest import NOW, Shop, furnish, settings_of
from tests.services import OwnRedis

EXPECTED = {
    "errors_5xx": ("==", 0),
    "unanswered": ("==", 0),
    "worker_wrong": ("==", 0),
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
    with running(workspace, log) as failed:
        folded = recount(workspace, log, POSITIVE_TYPES, wait_s=WORKER_MAX_S, settle_s=60)
    assert not failed, failed
    users, items = sorted(traffic.newest), [f"item-{n}" for n in range(traffic.items)]
    before = stream_rows(workspace, users, items)
    found = {"events": traffic.count, "users": len(before[0]), "items": len(before[1])}
    found["worker_wrong"] = folded["wrong"] + folded["missing"] + folded["items_wrong"]
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


def _append(log: SqliteEventLog, records: list[Record]) -> None:
    for start in range(0, len(records), APPENDED_TOGETHER):
        log.append("events", records[start : start + APPENDED_TOGETHER])


def _flush(server: OwnRedis) -> None:
    redis.Redis.from_url(f"redis://{server.services.redis}").flushall()


def _restart_empty(server: OwnRedis) -> None:
    server.kill()
    shutil.rmtree(server.folder / "appendonlydir")
    server.start()
