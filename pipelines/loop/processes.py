"""Works side by side, each in a process with one thread of arithmetic, and one bar over all."""

import sys
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from features.errors import RecommenderError
from infra.local.process import child
from pipelines.steps import console

POLL_S = 0.5
ONE_THREAD = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")

TAIL = 15
"""Lines of a failed work's log that are shown."""


@dataclass(frozen=True, slots=True)
class Work:
    """`python -m module arguments`; what it prints goes to `log`."""

    name: str
    module: str
    arguments: tuple[str, ...]
    log: Path


def side_by_side(
    works: Sequence[Work], jobs: int, unit: str, total: int, done: Callable[[], int]
) -> None:
    """Run all of them, `jobs` at a time.

    Args:
        works: independent of each other.
        jobs: processes at a time.
        unit: what the bar counts.
        total: how many of them there will be.
        done: how many there are.

    Raises:
        RecommenderError: one has failed; the others were ended. The end of its log is in the
            message.
    """
    stop = threading.Event()
    with _bar() as bar, ThreadPoolExecutor(jobs) as pool:
        shown = bar.add_task(unit, total=total)
        counting = _repeat(lambda: bar.update(shown, completed=done()), stop)
        running = [pool.submit(_one, work, stop) for work in works]
        try:
            for work in as_completed(running):
                work.result()
        except BaseException:
            for work in running:
                work.cancel()
            raise
        finally:
            stop.set()
            counting.join()


def _one(work: Work, stop: threading.Event) -> None:
    command = [sys.executable, "-m", work.module, *work.arguments]
    with child(command, work.log, dict.fromkeys(ONE_THREAD, "1")) as process:
        while process.poll() is None and not stop.wait(POLL_S):
            pass
        if process.poll() is None:
            return  # another has failed, or we are told to stop
    if process.returncode:
        lines = work.log.read_text(errors="replace").splitlines()[-TAIL:]
        raise RecommenderError(f"{work.name} failed; the end of {work.log}:\n" + "\n".join(lines))


def _repeat(tell: Callable[[], None], stop: threading.Event) -> threading.Thread:
    """Call it now and then until `stop`, and once more."""

    def work() -> None:
        while not stop.wait(POLL_S):
            tell()
        tell()

    thread = threading.Thread(target=work)
    thread.start()
    return thread


def _bar() -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    times = (TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn())
    return Progress(*columns, *times, console=console, transient=True)
