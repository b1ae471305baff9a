"""Batch rows that a nightly job would have written by a moment, out of tables of them."""

from collections.abc import Mapping
from datetime import datetime

import pyarrow as pa

from features.batch import AS_OF
from features.definitions import VIEWS, stored_of

BatchRow = tuple[datetime, dict[str, float]]
"""(as of, value by feature)."""


def newest(
    views: Mapping[str, pa.Table], view: str, moment: datetime
) -> dict[tuple[str, ...], BatchRow]:
    """By entity; rows of this view's TTL that are known at `moment`."""
    ttl, entity, lag = VIEWS[view].ttl, VIEWS[view].entity, VIEWS[view].lag
    assert ttl is not None, f"{view} is a batch view and needs a TTL"
    names = [feature.column for feature in stored_of(view)]
    found: dict[tuple[str, ...], BatchRow] = {}
    for row in views[view].select([*entity, AS_OF, *names]).to_pylist():
        key, as_of = tuple(row[name] for name in entity), row[AS_OF]
        if not moment - ttl <= as_of <= moment - lag:
            continue
        if key not in found or found[key][0] < as_of:
            found[key] = (as_of, {name: row[name] for name in names})
    return found
