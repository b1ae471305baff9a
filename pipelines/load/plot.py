"""Latency by percentile, drawn so that the tail has room: each nine is as wide as the one before."""

from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.ticker import NullLocator

from pipelines.load.budget import P99_MS, WHOLE_MS

NINES = {1.0: "0", 10.0: "90", 100.0: "99", 1_000.0: "99.9", 10_000.0: "99.99"}


def draw(curves: dict[str, list[float]], title: str, path: Path) -> None:
    """Write the picture.

    Args:
        curves: latencies in ms, by name; an empty one is left out.
        title: what was measured.
        path: of the PNG; its folder is made.
    """
    figure, axes = plt.subplots(figsize=(8, 4.5), layout="constrained")
    try:
        for name, latencies_ms in curves.items():
            if latencies_ms:
                axes.plot(*_tail(latencies_ms), label=name, drawstyle="steps-post")
        for at, text in ((P99_MS, "our p99"), (WHOLE_MS, "the source documents' whole")):
            axes.axhline(at, color="grey", linewidth=0.8, linestyle="--")
            axes.annotate(f"{text}: {at:.0f} ms", (1.02, at), va="bottom", color="grey")
        axes.set(xscale="log", yscale="log", title=title)
        axes.set(xlabel="percentile", ylabel="ms from the intended send time")
        axes.xaxis.set_minor_locator(NullLocator())
        axes.set_xticks(list(NINES), list(NINES.values()))
        axes.legend()
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, dpi=120)
    finally:
        plt.close(figure)


def _tail(latencies_ms: list[float]) -> Any:
    """1 / (1 - share) of requests that were no slower, and how slow; both ascending."""
    ordered = np.sort(latencies_ms)
    n = len(ordered)
    return n / np.arange(n, 0, -1), ordered
