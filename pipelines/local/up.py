"""Starting: first what could go wrong is looked at, then each part starts when what it needs is well.

    1. nothing of ours runs, and every port is free
    2. supervisord, with every part known to it
    3. parts, in order, until all are well: the API answers from what bootstrap made
    4. the first trained bundle is served

What fails in 2 or 3, and Ctrl-C, stop all that was started.
"""

import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import FrameType

from features.errors import ContractError, RecommenderError
from infra.local.kafka import Absent
from infra.local.supervised import Group, Seen, tail
from infra.settings import Settings
from pipelines.local.before import check_nothing_runs, check_ports
from pipelines.local.board import Board, Row
from pipelines.local.health import Unwell, served
from pipelines.local.parts import Part, parts_of
from pipelines.local.places import (
    address_of,
    environment_of_parts,
    folder_of,
    write_env_file,
)
from pipelines.steps import console

LOOK_EVERY_S = 0.5
MAX_STARTS = 3
"""Who was started so often and never was well is broken; starting it once more will not mend it."""

LOG_LINES = 20


def up(
    settings: Settings, scale: str, seed: int, rate: float, wait_s: float | None
) -> dict[str, float]:
    """The whole stack, until it answers, and until the first trained bundle is served.

    Args:
        settings: addresses; the stack's own data set and home are derived.
        scale, seed, rate: see `parts_of`.
        wait_s: longest wait for the trained bundle; None = do not wait for it.

    Returns:
        Seconds from the start until each part was well, and until the `trained bundle` was served.

    Raises:
        ContractError: it runs already, a port is taken, or a server is missing on this machine.
        RecommenderError: a part failed; the end of its log is in the message, and all is stopped.
    """
    group = Group(folder_of(settings))
    check_nothing_runs(group)
    check_ports(settings)
    signal.signal(signal.SIGTERM, _leave)
    try:
        console.print(f"[dim]in {group.folder}; Kafka's 43 MB of jars are fetched once[/]")
        parts = parts_of(settings, scale, seed, rate)
        write_env_file(settings)
        return bring_up(
            group, parts, environment_of_parts(settings, scale), address_of(settings), wait_s
        )
    except Absent as error:
        raise ContractError(str(error)) from error


def bring_up(
    group: Group,
    parts: Sequence[Part],
    environment: Mapping[str, str],
    address: str,
    wait_s: float | None,
) -> dict[str, float]:
    """Launch and start in order; whatever ends this early, Ctrl-C too, stops all of it."""
    since = time.monotonic()
    seconds: dict[str, float] = {}

    def clock() -> float:
        return round(time.monotonic() - since, 1)

    try:
        group.launch([part.program for part in parts], environment)
        with Board() as board:
            _start_in_order(group, parts, board, seconds, clock)
            if wait_s is not None:
                seconds["trained bundle"] = _wait_for_trained(
                    group, address, board, wait_s, clock, _rows(parts, seconds)
                )
    except NotYet:
        raise  # the stack is well and goes on; only the wait is over
    except BaseException as why:
        if isinstance(why, KeyboardInterrupt | SystemExit):
            console.print("stopping what was started")
        group.stop()
        raise
    return seconds


class NotYet(RecommenderError):
    """All parts are well, but the trained bundle did not come in time."""


def _start_in_order(
    group: Group,
    parts: Sequence[Part],
    board: Board,
    seconds: dict[str, float],
    clock: Callable[[], float],
) -> None:
    """Start each part once what it needs is well; returns when all are, their seconds filled in."""
    begun: dict[str, float] = {}
    starts: dict[str, set[int]] = {part.name: set() for part in parts}
    while len(seconds) < len(parts):
        seen = _seen(group)
        rows = []
        for part in parts:
            needs = [name for name in part.after if name not in seconds]
            if not needs and part.name not in begun:
                group.start(part.name)
                begun[part.name] = clock()
            elif part.name in begun and part.name not in seconds:
                starts[part.name].add(seen[part.name].started_at)
                what = _trouble(part, seen[part.name], len(starts[part.name] - {0}))
                if not what and clock() - begun[part.name] > part.limit_s:
                    what = f"is not well after {part.limit_s:.0f} s"
                if what:
                    raise _failed(part.name, what, group.log(part.name))
                if _is_well(part, seen[part.name]):
                    seconds[part.name] = clock()
            rows.append(_row(part, begun, seconds, needs, group, clock()))
        board.show(rows)
        time.sleep(LOOK_EVERY_S)


def _seen(group: Group) -> dict[str, Seen]:
    if not (seen := group.seen()):
        said = tail(group.folder / "supervisord.log", LOG_LINES)
        raise RecommenderError(f"supervisord went away; the end of its log:\n{said}")
    return seen


def _trouble(part: Part, seen: Seen, starts: int) -> str:
    """What is wrong beyond patience; empty when nothing is."""
    if seen.failed:
        return f"ended with {seen.exit_status}" if part.program.once else "does not stay up"
    return f"was started {starts} times and never was well" if starts > MAX_STARTS else ""


def _is_well(part: Part, seen: Seen) -> bool:
    if part.ask is None:
        return seen.done if part.program.once else seen.state == "RUNNING"
    try:
        return seen.runs and bool(part.ask())
    except Unwell:
        return False


def _failed(name: str, what: str, log: Path) -> RecommenderError:
    return RecommenderError(
        f"{name} {what}; everything is stopped again. The end of {log}:\n{tail(log, LOG_LINES)}"
    )


def _row(
    part: Part,
    begun: Mapping[str, float],
    seconds: Mapping[str, float],
    needs: Sequence[str],
    group: Group,
    now: float,
) -> Row:
    if part.name in seconds:
        return Row(part.name, "done" if part.program.once else "well", seconds[part.name])
    if part.name not in begun:
        return Row(part.name, "waits", None, f"for {', '.join(needs)}")
    return Row(part.name, "starts", now, tail(group.log(part.name), 1))


def _rows(parts: Sequence[Part], seconds: Mapping[str, float]) -> list[Row]:
    return [
        Row(part.name, "done" if part.program.once else "well", seconds[part.name])
        for part in parts
    ]


def _wait_for_trained(
    group: Group,
    address: str,
    board: Board,
    wait_s: float,
    clock: Callable[[], float],
    rows: Sequence[Row],
) -> float:
    """Seconds until a trained bundle is served.

    Raises:
        NotYet: not within `wait_s`.
        RecommenderError: the monitor, which trains it, does not stay up.
    """
    name = "trained bundle"
    until = clock() + wait_s
    while clock() < until:
        if (monitor := _seen(group).get("monitor")) and monitor.failed:
            raise _failed("monitor", "does not stay up", group.log("monitor"))
        try:
            bundle, is_trained = served(address)
        except Unwell:
            is_trained = False
        if is_trained:
            board.show([*rows, Row(name, "served", clock(), bundle)])
            return clock()
        board.show([*rows, Row(name, "trains", clock(), tail(group.log("monitor"), 1))])
        time.sleep(LOOK_EVERY_S)
    raise NotYet(
        f"no trained bundle within {wait_s:.0f} s; the stack goes on answering with popular items. "
        "See: shortlist logs monitor"
    )


def _leave(number: int, frame: FrameType | None) -> None:
    """A plain `kill` unwinds as an exception, so that nothing is left behind."""
    sys.exit(128 + number)
