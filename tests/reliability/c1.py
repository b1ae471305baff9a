"""C1: the stream worker is killed with SIGKILL 200 times over a million events; every row exact.

Short form: tests/pipelines/test_bench_crash.py::test_five_kills_lose_nothing_and_count_nothing_twice
"""

from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

from pipelines.bench_crash import stream_crash

EXPECTED = {
    "wrong_keys": ("==", 0),
    "lost": ("==", 0),
    "late_wrong": ("==", 0),
    "lag": ("==", 0),
    "resume_s_p99": ("<=", 2.0),
}

KILLS, EVENTS = 200, 1_000_000
FEWEST_KILLS, FEWEST_EVENTS = 2, 5_000


def run(folder: Path, seed: int, share: float = 1.0) -> dict:
    """The worse of both backends, figure by figure; each of them under its name.

    In a process of its own: the one that workers are forked from is started once per process, so after
    another drill it would lack the imports that the time to resume must not hold.
    """
    kills, events = max(int(KILLS * share), FEWEST_KILLS), max(int(EVENTS * share), FEWEST_EVENTS)
    with ProcessPoolExecutor(1, get_context("spawn")) as alone:
        found = alone.submit(stream_crash, kills, events, seed).result()
    for one in found.values():
        one["late_wrong"] = abs(one["late_counted"] - one["late_expected"])
    worst = {name: max((one[name] for one in found.values()), key=abs) for name in EXPECTED}
    return {"kills": kills, "events": events, **worst, **found}
