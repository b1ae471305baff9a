"""Kill the stream worker again and again, and count whether anything was lost or counted twice.

The worker is a process that is killed with SIGKILL at a random moment while it folds, 200 times by
default, and started anew; it is forked from one that has done its imports, so that the time to
resume is the worker's own. At the end every row of the online store is compared with a recount of
the log, and the counts with the books of the generator (bench_traffic.py).
"""

import gc
import multiprocessing
import os
import random
import signal
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from features.schema import POSITIVE_TYPES
from infra.event_log import EventLog, open_log
from infra.settings import Settings
from infra.workspace import Workspace
from pipelines.bench_traffic import Record, Traffic
from pipelines.recount import recount
from pipelines.steps import console
from pipelines.stream import open_online, owner_of, run
from pipelines.stream_state import PartitionState

PARTITIONS = 4
BACKENDS = ("embedded", "kafka")
SETTLE_S = 60.0
LIFE_S = 0.5
"""A life ends at a random moment of this long after the first batch of it was stored."""

RESUME_MAX_S = 120.0
SLOW_S = 1_800.0
POLL_S = 0.002
BATCHES_PER_LIFE = 5
APPENDED_TOGETHER = 1_000

processes = multiprocessing.get_context("forkserver")


def stream_crash(
    kills: int, events: int, seed: int, backends: Sequence[str] = BACKENDS
) -> dict[str, Any]:
    """Run the bench on each backend.

    Args:
        kills: how often the worker is killed.
        events: records in all.
        seed: of the traffic and of the moments.
        backends: embedded = SQLite log and store; kafka = Kafka and Redis, started here.

    Returns:
        By backend: wrong_keys, lost (negative = counted twice), late_expected, late_counted,
        repeated_expected, repeated_recounted, resume_s_p50, resume_s_p99, kills, killed_working.
    """
    ready()
    found = {}
    for backend in backends:
        with servers(backend) as settings:
            found[backend] = _crash(settings, kills, Traffic(events, seed), seed)
            console.print(f"{backend}: {found[backend]}")
    return found


@contextmanager
def servers(name: str) -> Iterator[Settings]:
    """Settings of an empty workspace, with its servers running."""
    from infra.local import kafka, redis

    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="shortlist-bench-")))
        if name == "embedded":
            yield Settings(home=folder, dataset="bench", mode="embedded", partitions=PARTITIONS)
            return
        yield Settings(
            home=folder, dataset="bench", mode="services", partitions=PARTITIONS,
            kafka=stack.enter_context(kafka.broker(folder / "kafka", PARTITIONS)),
            redis=stack.enter_context(redis.server(folder / "redis")),
            worker="bench",
        )  # fmt: skip


def work(settings: Settings) -> None:
    """The worker's process: as `pipelines.stream` runs it."""
    gc.freeze()  # as there
    workspace = Workspace.of(settings)
    with (
        closing(open_log(workspace, settings.partitions)) as log,
        closing(owner_of(workspace, settings)) as owner,
    ):
        run(
            workspace, log, owner=owner, positive_types=POSITIVE_TYPES, stop=threading.Event(),
            poll_s=0.01,
        )  # fmt: skip


def ready() -> None:
    """Start the process that forks the workers; imports are its own, and not of the recovery.

    The command line's too: each worker runs the top of the script that started this.
    """
    imported = ["pipelines.cli", "pipelines.bench_crash", "pipelines.bench_preload"]
    processes.set_forkserver_preload(imported)
    first = processes.Process(target=_nothing)
    first.start()
    first.join()


def _nothing() -> None:
    """What the first process does."""


def _crash(settings: Settings, kills: int, traffic: Traffic, seed: int) -> dict[str, Any]:
    workspace, rng = Workspace.of(settings), random.Random(seed + 1)
    records, per_life = traffic.records(), -(-traffic.count // (kills + 1))
    resumed, resumed_cpu, killed_working, again = [], [], 0, 0
    with ExitStack() as stack:
        log = stack.enter_context(closing(open_log(workspace, settings.partitions)))
        open_online(workspace)  # the views
        states = [
            stack.enter_context(closing(PartitionState(workspace.state, p, PARTITIONS)))
            for p in range(PARTITIONS)
        ]
        for _ in range(kills):
            again += _append(log, islice(records, per_life // BATCHES_PER_LIFE))
            worker, took = _started(settings, states)
            resumed.append(took)
            resumed_cpu.append(sum(psutil.Process(worker.pid).cpu_times()[:2]))
            until = time.monotonic() + LIFE_S * rng.random()
            for _ in range(BATCHES_PER_LIFE - 1):
                again += _append(log, islice(records, per_life // BATCHES_PER_LIFE))
            time.sleep(max(until - time.monotonic(), 0.0))
            killed_working += _stand(states) < _ends(log)
            _kill(worker)
        again += _append(log, records)
        worker, _ = _started(settings, states)
        found = recount(workspace, log, POSITIVE_TYPES, wait_s=SLOW_S, settle_s=SETTLE_S)
        _kill(worker)
        counted = _items_total(workspace, traffic.items)
        return {
            "wrong_keys": sum(
                found[name] for name in ("wrong", "missing", "items_wrong", "items_missing")
            ),
            "lost": traffic.touches - counted,
            # What was sent again may lie in the log twice: then the recount knows how many are late.
            "late_expected": found["late"] if again else traffic.late,
            "sent_again": again,
            "late_counted": sum(state.number("late") for state in states),
            "recounted": found["events"], "new_expected": traffic.new,
            "repeated_expected": traffic.repeated, "repeated_recounted": found["repeated"],
            "resume_s_p50": float(np.percentile(resumed, 50)),
            "resume_s_p99": float(np.percentile(resumed, 99)),
            # What of that was the worker's own work, whatever else the machine was doing.
            "resume_cpu_s_p99": float(np.percentile(resumed_cpu, 99)),
            "kills": kills, "killed_working": killed_working, "lag": found["lag"],
            "users": found["users"], "items": found["items"],
        }  # fmt: skip


def _started(settings: Settings, states: Sequence[PartitionState]) -> tuple[Any, float]:
    """A new worker, and the seconds until it stored its first batch."""
    before, since = _stand(states), time.monotonic()
    worker = processes.Process(target=work, args=(settings,), daemon=True)
    worker.start()
    while _stand(states) == before:
        if time.monotonic() - since > RESUME_MAX_S or not worker.is_alive():
            raise RuntimeError(f"the worker did not resume: exit code {worker.exitcode}")
        time.sleep(POLL_S)
    return worker, time.monotonic() - since


def _kill(worker: Any) -> None:
    os.kill(worker.pid, signal.SIGKILL)
    worker.join(10)


def _append(log: EventLog, records: Iterator[Record]) -> int:
    """Append the records; how often a part of them had to be sent again, and may be there twice."""
    again = 0
    while some := list(islice(records, APPENDED_TOGETHER)):
        while True:
            try:
                log.append("events", some)
                break
            except OSError:
                again += 1
    return again


def _stand(states: Sequence[PartitionState]) -> int:
    return sum(state.next_offset for state in states)


def _ends(log: EventLog) -> int:
    return sum(log.end_offset("events", partition) for partition in range(log.partitions))


def _items_total(workspace: Workspace, items: int) -> int:
    """Impressions and clicks of the day in the online store, of all items together."""
    rows = open_online(workspace).read_item_stream([f"item-{n}" for n in range(items)])
    return sum(row["item_impressions_24h"] + row["item_clicks_24h"] for row in rows.values())
