"""What every loader returns, and how it finds a public data set's folder."""

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from features.errors import ContractError
from features.schema import DatasetInfo


@dataclass(frozen=True, slots=True)
class Tables:
    """One source with our column names and its own raw values.

    `events` has columns of `features.schema.EVENTS`, of which only event_type, user_id, item_id and
    event_at must be there, and optionally `row`: the 1-based line or record number in the source.
    `unreadable` lists what could not even be split into columns: row, column, value, reason; and
    the same of the item and user files.
    """

    events: pd.DataFrame
    items: pd.DataFrame | None
    users: pd.DataFrame | None
    info: DatasetInfo
    unreadable: pd.DataFrame | None = None
    unreadable_items: pd.DataFrame | None = None
    unreadable_users: pd.DataFrame | None = None


def public_file(folder: Path, name: str) -> Path:
    """A file of a public data set, which the project may not ship."""
    path = folder / name
    if not path.is_file():
        raise ContractError(
            f"no {name} in {folder}; set SHORTLIST_DATA_DIR to the folder that holds "
            f"{folder.name}/ (docs/data.md says where to get it)"
        )
    return path
