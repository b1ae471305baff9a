import threading

import pytest

from infra.group_commit import GroupCommit


class Disk:
    """Keeps what it is given; a write lasts until it is released."""

    def __init__(self) -> None:
        self.groups: list[list[int]] = []
        self.syncing, self.release = threading.Event(), threading.Event()

    def write(self, items: list[int]) -> list[Exception | None]:
        self.syncing.set()
        self.release.wait()
        self.groups.append(items)
        return [ValueError("odd") if item % 2 else None for item in items]


def submitted(group: GroupCommit[int], item: int, outcomes: dict[int, str]) -> threading.Thread:
    def submit() -> None:
        try:
            group.submit(item)
            outcomes[item] = "stored"
        except (ValueError, OSError) as error:
            outcomes[item] = str(error)

    thread = threading.Thread(target=submit)
    thread.start()
    return thread


def run(disk: Disk, group: GroupCommit[int], items: range) -> dict[int, str]:
    """Submit the first, and all others while it is being written."""
    outcomes: dict[int, str] = {}
    threads = [submitted(group, items[0], outcomes)]
    disk.syncing.wait()
    threads += [submitted(group, item, outcomes) for item in items[1:]]
    while len(group._waiting) < len(items) - 1:
        pass
    disk.release.set()
    for thread in threads:
        thread.join()
    return outcomes


def test_who_waits_shares_the_next_write():
    disk = Disk()
    group = GroupCommit(disk.write)
    run(disk, group, range(20))
    assert [len(found) for found in disk.groups] == [1, 19]
    assert group.writes == 2


def test_each_caller_hears_of_its_own_item():
    disk = Disk()
    outcomes = run(disk, GroupCommit(disk.write), range(6))
    assert outcomes == {0: "stored", 1: "odd", 2: "stored", 3: "odd", 4: "stored", 5: "odd"}


def test_a_write_that_fails_fails_for_all_who_wait_and_for_nobody_later():
    disk = Disk()
    group = GroupCommit(disk.write)

    def full(items):
        disk.syncing.set()
        disk.release.wait()
        raise OSError("disk full")

    group._write = full
    assert set(run(disk, group, range(4)).values()) == {"disk full"}
    group._write = disk.write
    group.submit(8)
    with pytest.raises(ValueError, match="odd"):
        group.submit(9)
