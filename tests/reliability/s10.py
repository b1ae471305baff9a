"""S10: delete a user. 0 traces in online store, offline view and next bundle, also after a replay."""

from pathlib import Path

from infra.workspace import Workspace
from pipelines.forget_drill import Drilled, drill


def run(folder: Path, seed: int, workspace: Workspace | None = None) -> dict[str, float]:
    """The drill's figures.

    Args:
        folder: an empty one, where the embedded shop is made.
        seed: of its users and events.
        workspace: another one, such as one on servers.
    """
    return metrics_of(drill(workspace or Workspace(folder, f"s10-{seed}"), seed))


def metrics_of(found: Drilled) -> dict[str, float]:
    """What the drill found, flat."""
    return {
        **{f"traces_before_{place}": count for place, count in found.before.items()},
        **{f"traces_{place}": count for place, count in found.after.items()},
        **{f"traces_after_replay_{place}": count for place, count in found.later.items()},
        "rows_of_others_changed": found.others,
        "records_removed": sum(found.receipt["removed"].values()),
        "records_hidden": sum(found.receipt["hidden"].values()),
        "seconds": found.seconds,
    }


def holds(metrics: dict[str, float]) -> bool:
    """The figure that is asked for: something was there, nothing is left, nobody else was touched."""
    there = all(metrics[f"traces_before_{place}"] for place in ("online", "offline", "bundle"))
    left = [
        count
        for name, count in metrics.items()
        if name.startswith("traces_") and not name.startswith("traces_before_")
    ]
    return there and not any(left) and not metrics["rows_of_others_changed"]
