"""C6: 10,000 records of more than 20 bad kinds among 100,000 good ones, under a running worker."""

import base64
import re
import time
from contextlib import closing
from pathlib import Path

from features.schema import POSITIVE_TYPES
from infra.event_log import EventLog, SqliteEventLog
from infra.settings import Settings
from infra.workspace import Workspace
from pipelines.bench_crash import BACKENDS, PARTITIONS, processes, ready, servers, work
from pipelines.bench_traffic import Record, Traffic
from pipelines.dead_letters import letters
from pipelines.recount import recount
from pipelines.stream import open_online
from pipelines.stream_read import BATCH
from pipelines.stream_state import PartitionState
from tests.pipelines.test_stream_dead import POISON

EXPECTED = {
    "crashes": ("==", 0),
    "kinds": (">=", 20),
    "letters_wrong": ("==", 0),
    "good_wrong": ("==", 0),
    "lag": ("==", 0),
    "lag_back_s": ("<=", 30.0),
}

GOOD, BAD = 100_000, 10_000
GOOD_TOGETHER = 1_000
KINDS = list(POISON.values())
"""(bytes, reason) each."""

DONE_MAX_S = 300.0


def run(folder: Path, seed: int, share: float = 1.0) -> dict:
    """The worse of both backends, figure by figure; a small share runs on the embedded one."""
    found = {}
    ready()
    for backend in BACKENDS if share == 1 else BACKENDS[:1]:
        with servers(backend) as settings:
            found[backend] = _poisoned(settings, seed, share)
    worst = {name: max(one[name] for one in found.values()) for name in EXPECTED}
    worst["kinds"] = min(one["kinds"] for one in found.values())
    return {**worst, **found}


def _poisoned(settings: Settings, seed: int, share: float) -> dict:
    workspace, traffic = Workspace.of(settings), Traffic(int(GOOD * share), seed)
    good, bad = list(traffic.records()), int(BAD * share)
    with closing(_opened(workspace)) as log:
        open_online(workspace)  # the views
        worker = processes.Process(target=work, args=(settings,), daemon=True)
        worker.start()
        try:
            _append(log, good, bad)
            since = time.monotonic()
            while (lag := _lag(workspace, log)) and time.monotonic() - since < DONE_MAX_S:
                time.sleep(0.05)
            lag_back_s = time.monotonic() - since
            verdict = recount(workspace, log, POSITIVE_TYPES, wait_s=DONE_MAX_S, settle_s=60)
            crashes = int(not worker.is_alive())
        finally:
            worker.kill()
            worker.join(10)
        expected = _expected(log)
        assert len(expected) == bad
        told = {letter.place: letter for letter in letters(log)}
        wrong = sum(
            place not in told
            or base64.b64decode(told[place].raw) != poison
            or not re.search(reason, told[place].reason)
            for place, (poison, reason) in expected.items()
        )
    applied = ("wrong", "missing", "items_wrong", "items_missing")
    return {
        "crashes": crashes,
        "kinds": len({poison for poison, _ in expected.values()}),
        "bad": bad,
        "letters": len(told),
        "letters_wrong": wrong + len(told.keys() - expected.keys()),
        "good": verdict["events"],
        "good_wrong": sum(verdict[name] for name in applied) + abs(verdict["events"] - traffic.new),
        "lag": lag,
        "lag_back_s": lag_back_s,
    }


def _opened(workspace: Workspace) -> EventLog:
    from infra.event_log import open_log

    return open_log(workspace, PARTITIONS)


def _append(log: EventLog, good: list[Record], bad: int) -> None:
    """Bad ones of every kind in turn, in every partition, spread among the good."""
    chunks = -(-len(good) // GOOD_TOGETHER)
    for chunk in range(chunks):
        log.append("events", good[chunk * GOOD_TOGETHER : (chunk + 1) * GOOD_TOGETHER])
        numbers = range(chunk * bad // chunks, (chunk + 1) * bad // chunks)
        _append_raw(
            log, [(n // len(KINDS) % PARTITIONS, KINDS[n % len(KINDS)][0]) for n in numbers]
        )


def _append_raw(log: EventLog, poison: list[tuple[int, bytes]]) -> None:
    """As a careless producer would, all under the key "u"."""
    if isinstance(log, SqliteEventLog):
        log._group.submit([("events", place, "u", raw) for place, raw in poison])
        return
    log._send("events", [(place, b"u", raw) for place, raw in poison])  # type: ignore[attr-defined]


def _expected(log: EventLog) -> dict[tuple[int, int], tuple[bytes, str]]:
    """(partition, offset) of what is bad by its bytes: the log read once more, nothing parsed."""
    kinds, found = dict(KINDS), {}
    for partition in range(PARTITIONS):
        offset = 0
        while records := log.read_raw("events", partition, offset, BATCH):
            found |= {(partition, at): (raw, kinds[raw]) for at, _, raw in records if raw in kinds}
            offset = records[-1][0] + 1
    return found


def _lag(workspace: Workspace, log: EventLog) -> int:
    lag = 0
    for partition in range(PARTITIONS):
        with closing(PartitionState(workspace.state, partition, PARTITIONS)) as state:
            lag += log.end_offset("events", partition) - state.next_offset
    return lag
