"""The item and user tables of the lake: what is known, what is new, and who was only seen.

A new row replaces the known one of the same id; ids that occur only in events get a bare row, so
that every event has an item and a user to join with.
"""

from pathlib import Path

import pandas as pd
import pyarrow as pa

from features.schema import ITEMS, MAX_CATEGORIES, OTHER, USERS
from pipelines import lake


def update(folder: Path, events: pd.DataFrame, items: pd.DataFrame, users: pd.DataFrame) -> None:
    """Bring `items.parquet` and `users.parquet` up to date.

    Args:
        folder: the lake.
        events: accepted events; their ids must not stay unknown.
        items: checked new rows, columns of `ITEMS` (any subset), perhaps none.
        users: checked new rows, columns of `USERS` (any subset), perhaps none.
    """
    known_items = lake.read_items(folder) if (folder / "items.parquet").exists() else None
    merged = cap_categories(_merged(known_items, items, events["item_id"], ITEMS))
    lake.write_items(folder, table_of(merged, ITEMS))
    known_users = lake.read_users(folder) if (folder / "users.parquet").exists() else None
    merged = _merged(known_users, users, events["user_id"], USERS)
    lake.write_users(folder, table_of(merged, USERS))


def cap_categories(items: pd.DataFrame) -> pd.DataFrame:
    """At most MAX_CATEGORIES categories, the largest by items; the finer one stays beside it.

    An online read fetches a user's rows of every category, so their number needs a bound that no
    upload can break; the name that is cut stays as the subcategory.
    """
    items = items.copy()
    items["title"] = items["title"].fillna(items["item_id"])
    category = items["category"].fillna(OTHER)
    items["subcategory"] = items["subcategory"].fillna(category)
    if category.nunique() > MAX_CATEGORIES:
        sizes = category[category != OTHER].value_counts().sort_index()
        largest = sizes.sort_values(ascending=False, kind="stable").index[: MAX_CATEGORIES - 1]
        category = category.where(category.isin(largest), OTHER)
    items["category"] = category
    return items


def table_of(frame: pd.DataFrame, schema: pa.Schema) -> pa.Table:
    """An Arrow table in the schema's order; columns that the frame lacks are null."""
    arrays = [
        pa.array(frame[field.name], field.type, from_pandas=True)
        if field.name in frame and len(frame)
        else pa.nulls(len(frame), field.type)
        for field in schema
    ]
    return pa.Table.from_arrays(arrays, schema=schema)


def _merged(
    known: pd.DataFrame | None, new: pd.DataFrame, seen: pd.Series, schema: pa.Schema
) -> pd.DataFrame:
    """New rows, then known ones, then bare ones; the first row of an id counts."""
    bare = pd.DataFrame({schema.names[0]: seen.unique()})
    layers = [frame for frame in (new, known, bare) if frame is not None and len(frame)]
    tables = [table_of(frame, schema) for frame in layers]
    merged: pd.DataFrame = pa.concat_tables(tables).to_pandas()
    return merged[~merged[schema.names[0]].duplicated()]
