"""What a load test found, for the eye: a bar while it runs, tables at its end."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from pipelines.load.budget import P99_MS, WHOLE_MS
from pipelines.load.generator import Tick
from pipelines.load.latency import PERCENTILES
from pipelines.load.run import Progress as Shows
from pipelines.steps import console


@contextmanager
def progress() -> Iterator[Shows]:
    """A bar per phase. It is drawn when the generator says so, not by a thread in its way."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    bars = Progress(
        *columns, TimeElapsedColumn(), TextColumn("{task.fields[errors]} errors"),
        console=console, auto_refresh=False,
    )  # fmt: skip

    def phase(name: str, total: int) -> Tick:
        task = bars.add_task(name, total=total, errors=0)
        return lambda over, errors: bars.update(task, completed=over, errors=errors, refresh=True)

    with bars:
        yield phase


def tell(metrics: dict[str, Any]) -> None:
    """The tables."""
    console.print(_latency(metrics))
    if metrics["latency_withheld"]:
        console.print(f"[yellow]no latency is reported:[/] {metrics['latency_withheld']}")
    console.print(_stages(metrics["stages"]))
    cpu = metrics["cpu_ms_per_request"]
    spent = f"{cpu:.2f} ms of CPU per request" if cpu else f"CPU unknown: {metrics['cpu_unknown']}"
    console.print(
        f"{metrics['rate']:.1f} of {metrics['asked_rate']:g} requests/s over "
        f"{metrics['seconds']:.1f} s; {spent}; rungs {metrics['rungs']}; the generator was "
        f"{_ms(metrics['generator_lag_ms_p99'])} ms late (p99)"
    )
    for kind, count in metrics["errors_by_kind"].items():
        console.print(f"[red]{count} errors:[/] {kind}")


def _latency(metrics: dict[str, Any]) -> Table:
    table = Table("from the intended send time", box=None)
    for name in ("requests", "errors", *PERCENTILES):
        table.add_column(_heading(name), justify="right")
    events = metrics["events"]
    counts = {name: metrics[name] - events[name] for name in ("requests", "errors")}
    for name, row in (("reads", metrics | counts), ("events", events)):
        numbers = (str(row["requests"]), str(row["errors"]))
        table.add_row(name, *numbers, *(_ms(row[percentile]) for percentile in PERCENTILES))
    return table


def _stages(stages: dict[str, dict[str, Any]]) -> Table:
    table = Table("stage, in the server", box=None)
    for heading in ("p50 ms", "p99 ms", "source documents ms", "our budget ms (p50)"):
        table.add_column(heading, justify="right")
    for name, row in stages.items():
        if row["p50_ms"] is None and not row.get("absent"):
            continue
        cells = (row["p50_ms"], row["p99_ms"], row["budget_ms"], row["our_budget_ms"])
        table.add_row(name, *map(_ms, cells), f"[dim]{row.get('absent', '')}[/]")
    table.caption = f"31 of {WHOLE_MS:.0f} ms in the source documents; ours p99 {P99_MS:.0f} ms"
    return table


def _heading(name: str) -> str:
    return name.replace("_ms", " ms").replace("p999", "p99.9")


def _ms(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"
