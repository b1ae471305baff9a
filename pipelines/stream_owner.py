"""Which partitions this worker owns: told, by locks of files, or by Kafka's group."""

import fcntl
import os
import time
from collections.abc import Collection, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Protocol

SLOTS = 64
"""Most workers of one workspace."""

LOOK_EVERY_S = 0.5


class Owner(Protocol):
    """Tells what to work on."""

    def owned(self) -> Collection[int]:
        """The partitions that are ours now; asked before every round."""

    def close(self) -> None:
        """Let go of all."""


class Fixed:
    """These and no others, for as long as the worker runs."""

    def __init__(self, partitions: Iterable[int]) -> None:
        self._partitions = tuple(partitions)

    def owned(self) -> Collection[int]:
        """All of them."""
        return self._partitions

    def close(self) -> None:
        """Nothing was taken."""


class ByLocks:
    """A fair share of the partitions, for workers of one machine: one file lock for each.

    Every worker also holds a slot, so that all of them know how many they are. Who has more than
    his share lets go, who has less takes what is free. A lock ends with its process.

    Interview: Several workers and no coordinator. How do they share the partitions?
        With the locks of the operating system. A worker counts the others by their slots, keeps
        its share, and takes only what it can lock, so two never have the same partition; a killed
        one leaves its locks free at once.
        Trade-off: one machine, and a worker that is stopped keeps its partitions: safe, and
        nobody takes over. Kafka's group notices the silence, which is why it needs the epoch too.
        Shown by: tests/pipelines/test_stream_group.py::test_workers_share_by_locks_and_replace_the_dead
    """

    def __init__(self, folder: Path, partitions: int) -> None:
        """Take a slot.

        Raises:
            RuntimeError: all are taken.
        """
        folder.mkdir(parents=True, exist_ok=True)
        self._folder, self._partitions = folder, partitions
        self._held: dict[int, int] = {}
        slot = next(self._free(f"worker-{n}" for n in range(SLOTS)), None)
        if slot is None:
            raise RuntimeError(f"{SLOTS} workers are at work in {folder}; end one of them first")
        (self._slot, self._slot_file), self._next_look = slot, 0.0

    def owned(self) -> Collection[int]:
        """Our share as it is now; the others are counted every LOOK_EVERY_S."""
        if time.monotonic() < self._next_look:
            return tuple(sorted(self._held))
        self._next_look = time.monotonic() + LOOK_EVERY_S
        share = -(-self._partitions // max(self._workers(), 1))
        for partition in sorted(self._held)[share:]:
            os.close(self._held.pop(partition))
        wanted = [p for p in range(self._partitions) if p not in self._held]
        for name, file in self._free(f"partition-{p}" for p in wanted):
            if len(self._held) >= share:
                os.close(file)
                break
            self._held[int(name.rpartition("-")[2])] = file
        return tuple(sorted(self._held))

    def close(self) -> None:
        """Let go of partitions and slot."""
        for file in (*self._held.values(), self._slot_file):
            with suppress(OSError):
                os.close(file)
        self._held.clear()

    def _workers(self) -> int:
        """How many slots are taken, ours included."""
        taken = 0
        for path in self._folder.glob("worker-*.lock"):
            if path.stem == self._slot:
                taken += 1
                continue
            for _, file in self._free([path.stem]):
                os.close(file)
                break
            else:
                taken += 1
        return taken

    def _free(self, names: Iterable[str]) -> Iterator[tuple[str, int]]:
        """Names whose lock we got, with the open file that holds it."""
        for name in names:
            file = os.open(self._folder / f"{name}.lock", os.O_RDWR | os.O_CREAT, 0o644)
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(file)
                continue
            yield name, file
