"""Where refused rows go, and how their reasons are counted."""

from collections import Counter
from pathlib import Path

import pandas as pd

from infra.workspace import Workspace
from pipelines import lake


def keep(workspace: Workspace, what: str, faults: pd.DataFrame) -> Path | None:
    """Write one run's faults to `<name>-<what>.csv`; a clean run removes the file of the one before.

    Args:
        workspace: its `quarantine` folder is used.
        what: "events", "items", "users" or "log".
        faults: columns of `pipelines.validate.FAULT_COLUMNS`.

    Returns:
        The file, or None where nothing was refused.
    """
    path = workspace.quarantine / f"{workspace.name}-{what}.csv"
    if faults.empty:
        path.unlink(missing_ok=True)
        return None
    text = faults.to_csv(index=False)
    lake.write_text(path, text.encode(errors="backslashreplace").decode())  # half of an emoji, say
    return path


def reasons(faults: pd.DataFrame) -> dict[str, int]:
    """{"column: reason": rows}, the most frequent first."""
    return dict(Counter(faults["column"].astype(str) + ": " + faults["reason"]).most_common())
