"""One line per step while the line runs: what, how long, and what came of it."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.markup import escape

console = Console(stderr=True, highlight=False)


class Steps:
    """Prints each step and keeps its seconds, in order."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def step(self, name: str, doing: str) -> Iterator[list[str]]:
        """Times one step; what the body appends to the yielded list is printed beside it."""
        console.print(f"[bold]▸ {name}[/] [dim]{doing}[/]")
        since, results = time.monotonic(), []  # type: float, list[str]
        yield results
        seconds = time.monotonic() - since
        self.seconds[name] = round(self.seconds.get(name, 0.0) + seconds, 2)
        console.print(f"  [green]✓[/] {seconds:.1f} s  {escape('; '.join(results))}")
