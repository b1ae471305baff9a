"""How fast the stream is: the fold with durable state, from Kafka to Redis, and how fresh a row is.

Other work on the machine slows every wall clock, so what a core does is told by CPU seconds too.
The plain fold and Feast's own push run beside the fast ones: read the ratios.
"""

import json
import multiprocessing
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from features.schema import POSITIVE_TYPES
from features.streaming import State, fold, parsed, row_of
from infra.event_log import EventLog, Raw, open_log
from infra.settings import Settings
from infra.workspace import Workspace
from monitoring.stream_metrics import StreamMetrics
from pipelines.bench_crash import PARTITIONS, ready, servers
from pipelines.bench_traffic import Record, Traffic
from pipelines.stream import open_online, open_seeds, owner_of, run
from pipelines.stream_push import Pusher
from pipelines.stream_read import BATCH, LogSide
from pipelines.stream_state import ITEMS, Changes, PartitionState
from pipelines.stream_users import UserStage, user_rows

TICK_S = 0.02
"""Freshness: events are sent this often."""

PUSHED_ROWS, PUSHED_FROM, PUSH_ROUNDS = 500, 20_000, 5
"""Users, their events, and how often each way pushes them."""

DONE_MAX_S = 900.0

processes = multiprocessing.get_context("forkserver")


def stream_speed(events: int, seconds: float, rate: float, seed: int) -> dict[str, Any]:
    """Measure all; see the names of what is returned.

    Args:
        events: of the fold, and from Kafka to Redis.
        seconds: of the measurement of freshness.
        rate: events a second meanwhile.
        seed: of the traffic.
    """
    found = {
        **_folds(events, seed, "fold", users=5_000),
        **_folds(events // 4, seed, "fold_scattered", users=events),
    }
    with servers("kafka") as settings:
        ready()
        found |= _pushes(settings, seed)
        found |= _end_to_end(settings, events, seed)
    with servers("kafka") as settings:
        found |= _freshness(settings, seconds, rate, seed)
    return found


def _folds(events: int, seed: int, name: str, users: int) -> dict[str, float]:
    """Events a second, fast and plain, by wall clock and by CPU; state and offset committed."""
    raws = [
        (n, user_id, json.dumps(value).encode())
        for n, (user_id, value) in enumerate(Traffic(events, seed, users).records())
    ]
    if name == "fold_scattered":  # no two neighbours are of one user: the worst that can come
        order = np.random.default_rng(seed).permutation(len(raws))
        raws = [(n, *raws[place][1:]) for n, place in enumerate(order)]
    with tempfile.TemporaryDirectory(prefix="shortlist-bench-") as folder:
        fast = _timed(lambda: _fold_fast(Path(folder) / "fast", raws))
        plain = _timed(lambda: _fold_plain(Path(folder) / "plain", raws))
    per_s = {
        f"{name}_events_per_s": len(raws) / fast[1],
        f"{name}_events_per_wall_s": len(raws) / fast[0],
        f"{name}_plain_events_per_s": len(raws) / plain[1],
    }
    ratio = per_s[f"{name}_events_per_s"] / per_s[f"{name}_plain_events_per_s"]
    return {**{key: round(value) for key, value in per_s.items()}, f"{name}_ratio": ratio}


class _NoLog:
    """As many partitions as a log, and nothing else of it."""

    partitions = PARTITIONS


def _fold_fast(folder: Path, raws: Sequence[Raw]) -> None:
    metrics, workspace = StreamMetrics(), Workspace(folder, "bench")
    with (
        closing(PartitionState(workspace.state, 0, PARTITIONS)) as state,
        closing(open_seeds(workspace)) as seeds,
    ):
        side: Any = LogSide(_NoLog(), metrics)  # type: ignore[arg-type]  # never read
        # Nothing is pushed here, so there is no store.
        pusher = Pusher(None, user_rows(metrics), metrics, PARTITIONS)  # type: ignore[arg-type]
        stage = UserStage(side, seeds, pusher, POSITIVE_TYPES)
        for start in range(0, len(raws), BATCH):
            stage.fold(state, raws[start : start + BATCH])


def _fold_plain(folder: Path, raws: Sequence[Raw]) -> None:
    """Event by event, the states of a batch in one transaction, as before there was a fast one."""
    with closing(PartitionState(folder, 0, PARTITIONS)) as state:
        for start in range(0, len(raws), BATCH):
            batch = raws[start : start + BATCH]
            known: dict[str, State] = state.load({key for _, key, _ in batch})
            for _, key, raw in batch:
                known[key], _row = fold(
                    known.get(key), parsed(json.loads(raw), key), POSITIVE_TYPES
                )
            state.commit(start, start + len(batch), Changes(known))


def _timed(call: Callable[[], Any]) -> tuple[float, float]:
    """Seconds by wall clock, and of this process' CPU."""
    wall, cpu = time.perf_counter(), time.process_time()
    call()
    return time.perf_counter() - wall, time.process_time() - cpu


def _pushes(settings: Settings, seed: int) -> dict[str, float]:
    """Rows a CPU second to Redis: prepared and compared in one step, and through Feast's push."""
    online = open_online(Workspace.of(settings))
    states: dict[str, State] = {}
    for user_id, value in Traffic(PUSHED_FROM, seed, PUSHED_ROWS).records():
        states[user_id], _ = fold(states.get(user_id), parsed(value, user_id), POSITIVE_TYPES)
    rows = {user_id: row_of(state) for user_id, state in states.items()}
    taken: dict[str, list[float]] = {"ours": [], "feast": []}
    ways: dict[str, Callable[[dict[str, Any]], Any]] = {
        "ours": lambda some: online.push("user_stream", some),
        "feast": lambda some: online._store.push("user_stream_push", _frame(some)),
    }
    for step in range(PUSH_ROUNDS):
        for name, push in ways.items():
            named = {f"{name}{step}{user}": row for user, row in rows.items()}
            taken[name].append(_timed(partial(push, named))[1])
    ours, feast = (len(rows) / float(np.median(taken[name])) for name in ("ours", "feast"))
    return {
        "push_rows_per_s": round(ours), "push_feast_rows_per_s": round(feast),
        "push_ratio": ours / feast,
    }  # fmt: skip


def _frame(rows: dict[str, dict[str, Any]]) -> pd.DataFrame:
    frame = pd.DataFrame([{"user_id": user_id, **row} for user_id, row in rows.items()])
    frame["as_of"] = pd.to_datetime(frame["version"], unit="us", utc=True)
    return frame.assign(created_at=datetime.now(UTC))


class _Recorder:
    """In place of the histogram: every delay as it is, with when it was noted."""

    def __init__(self) -> None:
        self.seen: list[float] = []

    def observe(self, seconds: float) -> None:
        self.seen.append(seconds)


def _work(settings: Settings, stop: Any, told: Any) -> None:
    """The worker's process; tells its delays and its CPU seconds at the end."""
    workspace, metrics, users, items = Workspace.of(settings), StreamMetrics(), *_recorders()
    metrics.delay_seconds = users  # type: ignore[assignment]  # a recorder in its place
    metrics.item_delay_seconds = items  # type: ignore[assignment]
    stopped = threading.Event()
    threading.Thread(target=_passed_on, args=(stop, stopped), daemon=True).start()
    since = time.process_time()
    with (
        closing(open_log(workspace, settings.partitions)) as log,
        closing(owner_of(workspace, settings)) as owner,
    ):
        run(
            workspace, log, owner=owner, positive_types=POSITIVE_TYPES, stop=stopped,
            metrics=metrics, poll_s=0.02,
        )  # fmt: skip
    told.put((users.seen, time.process_time() - since))


def _passed_on(stop: Any, stopped: threading.Event) -> None:
    stop.wait()
    stopped.set()


def _recorders() -> tuple[_Recorder, _Recorder]:
    return _Recorder(), _Recorder()


class _Running:
    """A worker in a process of its own."""

    def __init__(self, settings: Settings) -> None:
        self._stop, self._told = processes.Event(), processes.Queue()
        self._process = processes.Process(
            target=_work, args=(settings, self._stop, self._told), daemon=True
        )
        self._process.start()

    def end(self) -> tuple[list[float], float]:
        """Stop it; its delays, and its CPU seconds."""
        self._stop.set()
        found: tuple[list[float], float] = self._told.get(timeout=60)
        self._process.join(30)
        return found


def _end_to_end(settings: Settings, events: int, seed: int) -> dict[str, float]:
    """From a backlog in Kafka to rows of users and of items in Redis, all of it."""
    workspace = Workspace.of(settings)
    with closing(open_log(workspace, settings.partitions)) as log:
        _send(log, list(Traffic(events, seed).records()))
        worker = _Running(settings)
        _until(lambda: _folded(workspace) > 0)
        start, since = _folded(workspace), time.monotonic()
        _until(lambda: _folded(workspace) == events and _is_done(workspace, log))
        seconds = time.monotonic() - since
        _, worker_s = worker.end()
    return {
        "end_to_end_events_per_s": round((events - start) / seconds),
        "end_to_end_events_per_worker_cpu_s": round(events / worker_s),
    }


def _freshness(settings: Settings, seconds: float, rate: float, seed: int) -> dict[str, float]:
    """Milliseconds from an event's sending to its user's row in Redis, at a steady rate."""
    workspace, per_tick = Workspace.of(settings), round(rate * TICK_S)
    count = int(seconds / TICK_S) * per_tick
    records = list(Traffic(count + 2_000, seed).records())
    with closing(open_log(workspace, settings.partitions)) as log:
        _send(log, _stamped(records[:2_000]))
        worker = _Running(settings)
        _until(lambda: _folded(workspace) == 2_000 and _is_done(workspace, log))
        late, begun = 0.0, time.monotonic()
        for tick in range(count // per_tick):
            due = begun + tick * TICK_S
            late = max(late, time.monotonic() - due)
            time.sleep(max(due - time.monotonic(), 0.0))
            place = 2_000 + tick * per_tick
            log.append("events", _stamped(records[place : place + per_tick]))
        sent_s = time.monotonic() - begun
        _until(lambda: _folded(workspace) == count + 2_000 and _is_done(workspace, log))
        delays, _ = worker.end()
    measured = np.array(delays[len({key for key, _ in records[:2_000]}) :]) * 1e3
    return {
        "freshness_ms_p50": float(np.percentile(measured, 50)),
        "freshness_ms_p99": float(np.percentile(measured, 99)),
        "freshness_rate_per_s": round(count / sent_s),
        "freshness_sender_late_ms_max": late * 1e3,
        "freshness_rows": len(measured),
    }


def _stamped(records: Sequence[Record]) -> list[Record]:
    """As if they happened and arrived now; the generator's lateness does not matter here."""
    now = datetime.now(UTC).isoformat(timespec="microseconds")
    return [(key, value | {"event_at": now, "seen_at": now}) for key, value in records]


def _send(log: EventLog, records: Sequence[Record]) -> None:
    for start in range(0, len(records), 1_000):
        log.append("events", records[start : start + 1_000])


def _folded(workspace: Workspace) -> int:
    total = 0
    for partition in range(PARTITIONS):
        with closing(PartitionState(workspace.state, partition, PARTITIONS)) as state:
            total += state.next_offset
    return total


def _is_done(workspace: Workspace, log: EventLog) -> bool:
    """Whether all is sent on, folded by the second stage too, and pushed."""
    for partition in range(PARTITIONS):
        with (
            closing(PartitionState(workspace.state, partition, PARTITIONS)) as users,
            closing(PartitionState(workspace.state, partition, PARTITIONS, ITEMS)) as items,
        ):
            if users.waiting() or users.outbox(1) or items.waiting():
                return False
            if log.end_offset("items", partition) > items.next_offset:
                return False
    return True


def _until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + DONE_MAX_S
    while not condition():
        if time.monotonic() > end:
            raise RuntimeError(f"the worker was not done within {DONE_MAX_S:.0f} s")
        time.sleep(0.05)
