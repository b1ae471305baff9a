"""`make reliability`: every drill in its long form, a table, and var/reports/reliability.json.

Exits 1 if a figure is missed. `ARGS="--only C6"` runs one, `ARGS="--share 0.05"` all of them small.
"""

import argparse
import operator
import shutil
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

from rich.console import Console
from rich.table import Table

from infra.local.kafka import Absent
from infra.reports import report
from infra.settings import PROJECT

DRILLS = ("d2", "d5", "c1", "c5", "c6", "c7", "s10")

COMPARE = {"==": operator.eq, "<=": operator.le, ">=": operator.ge}

console = Console(stderr=True, highlight=False, width=110)


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure that was promised."""

    name: str
    bound: str
    found: Any
    held: bool


def main() -> None:
    """Run what is asked for; print, write, and say by the exit code whether all held."""
    asked = argparse.ArgumentParser(prog="make reliability", description=__doc__.split("\n")[0])
    asked.add_argument("--only", nargs="*", default=[], help="D2 D5 C1 C5 C6 C7 S10; all if absent")
    asked.add_argument("--share", type=float, default=1.0, help="of the long forms' size")
    asked.add_argument("--seed", type=int, default=0)
    options = asked.parse_args()
    names = [name.lower() for name in options.only] or list(DRILLS)
    if unknown := set(names) - set(DRILLS):
        asked.error(f"no drill {', '.join(sorted(unknown))}; there are {', '.join(DRILLS)}")

    with report(PROJECT / "var" / "reports", "reliability", [options.seed]) as metrics:
        metrics["share"] = options.share
        metrics["drills"] = {name.upper(): one(name, options.seed, options.share) for name in names}
    tell(metrics["drills"])
    if any(drill["missed"] for drill in metrics["drills"].values()):
        sys.exit(1)


def one(name: str, seed: int, share: float) -> dict[str, Any]:
    """Run a drill in a folder of its own: its metrics, what was expected, what was missed."""
    if find_spec(f"tests.reliability.{name}") is None:
        return {"absent": "this checkout has no such drill", "missed": []}
    drill = import_module(f"tests.reliability.{name}")
    console.print(f"[bold]{name.upper()}[/] {(drill.__doc__ or '').splitlines()[0]}")
    folder, since = Path(tempfile.mkdtemp(prefix="shortlist-reliability-")), time.monotonic()
    try:
        metrics = called(drill, folder, seed, share)
    except Absent as why:
        return {"absent": str(why), "missed": []}
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    expected = getattr(drill, "EXPECTED", {})
    if not expected:  # it judges itself
        metrics, expected = {**metrics, "holds": drill.holds(metrics)}, {"holds": ("==", True)}
    figures = judged(metrics, expected)
    return {
        "metrics": metrics,
        "expected": {figure.name: figure.bound for figure in figures},
        "missed": [figure.name for figure in figures if not figure.held],
        "seconds": round(time.monotonic() - since, 1),
    }


def called(drill: ModuleType, folder: Path, seed: int, share: float) -> dict[str, Any]:
    """The drill's metrics; one that has a single size takes no share."""
    takes_share = "share" in drill.run.__code__.co_varnames
    found: dict[str, Any] = (
        drill.run(folder, seed, share) if takes_share else drill.run(folder, seed)
    )
    return found


def judged(metrics: Mapping[str, Any], expected: Mapping[str, tuple[str, float]]) -> list[Figure]:
    """Each promise beside what was found; a figure that is absent was not kept."""
    return [
        Figure(name, f"{sign} {value}", found, found is not None and COMPARE[sign](found, value))
        for name, (sign, value) in expected.items()
        for found in [metrics.get(name)]
    ]


def tell(drills: Mapping[str, Mapping[str, Any]]) -> None:
    """The table."""
    table = Table("drill", "figure", "promised", "found", "")
    for name, drill in drills.items():
        if why := drill.get("absent"):
            table.add_row(name, "[yellow]not run[/]", "", why, "")
            continue
        for figure, bound in drill["expected"].items():
            held = figure not in drill["missed"]
            mark = "[green]held[/]" if held else "[red]missed[/]"
            table.add_row(name, figure, bound, _short(drill["metrics"].get(figure)), mark)
            name = ""
        table.add_section()
    console.print(table)


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    main()
