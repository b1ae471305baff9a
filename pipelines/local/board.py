"""Progress of the start: a live table in a terminal, a line for every change elsewhere."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from rich.live import Live
from rich.markup import escape
from rich.table import Table

from pipelines.steps import console

COLOURS = {"waits": "dim", "starts": "yellow", "trains": "yellow"}


@dataclass(frozen=True, slots=True)
class Row:
    """Where one part stands."""

    name: str
    state: str
    seconds: float | None
    """Since the start of all; None = not begun."""

    note: str = ""


class Board:
    """Shows rows as they change."""

    def __init__(self) -> None:
        self._live = Live(console=console, auto_refresh=False) if console.is_terminal else None
        self._told: dict[str, str] = {}

    def __enter__(self) -> Self:
        if self._live:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live:
            self._live.stop()

    def show(self, rows: Sequence[Row]) -> None:
        """Replace what was shown."""
        if self._live:
            self._live.update(_table(rows), refresh=True)
            return
        for row in rows:
            if self._told.get(row.name) != row.state and row.seconds is not None:
                console.print(f"{row.seconds:6.1f} s  {row.name:<15}{row.state}")
                self._told[row.name] = row.state


def _table(rows: Sequence[Row]) -> Table:
    table = Table("", "seconds", "", box=None, show_header=False)
    for row in rows:
        colour = COLOURS.get(row.state, "green")
        table.add_row(
            row.name,
            f"[{colour}]{row.state}[/]",
            "" if row.seconds is None else f"{row.seconds:.1f} s",
            f"[dim]{escape(row.note[:100])}[/]",
        )
    return table
