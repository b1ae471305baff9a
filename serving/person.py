"""What is known about one user now, as the models would get it."""

from datetime import UTC, datetime
from typing import Any

import structlog

from features.definitions import PAIR_VIEWS, USER_VIEWS, of_view
from features.errors import FeaturesUnavailable
from features.request import UserRow
from infra.logging import hashed
from models.bundle import Bundle
from serving.people import READ_TIMEOUT_MS
from serving.recommend import UserReader


async def person(bundle: Bundle, reader: UserReader, user_id: str, now: datetime) -> dict[str, Any]:
    """One user's features, history and ages, as in `schemas.PersonOut`.

    Raises:
        FeaturesUnavailable: the online store does not answer; here is no lower rung.
    """
    try:
        row = await reader.read(user_id, bundle, now, READ_TIMEOUT_MS)
    except FeaturesUnavailable:
        raise
    except Exception as error:  # whatever a store's client raises, the caller is told what failed
        structlog.get_logger().warning("features failed", user=hashed(user_id), exc_info=error)
        raise FeaturesUnavailable(f"features: the store failed ({type(error).__name__})") from error
    return {
        "user_id": user_id,
        "bundle": bundle.id,
        "features": {view: _features(view, row.values) for view in USER_VIEWS},
        "categories": {
            name: {k: v for view in PAIR_VIEWS for k, v in _features(view, values).items()}
            for name, values in row.category_rows.items()
        },
        "history": _history(bundle, row, now),
        "age_s": row.age_s,
        "missing": list(row.missing),
    }


def _features(view: str, values: dict[str, float]) -> dict[str, float]:
    """Values in the order of the definitions; counts as whole numbers."""
    found = {f: values.get(f.column, f.default) for f in of_view(view)}
    return {f.name: int(value) if f.dtype == "int" else value for f, value in found.items()}


def _history(bundle: Bundle, row: UserRow, now: datetime) -> list[dict[str, Any]]:
    """The kept positives, newest first; an item that the bundle does not know has no title."""
    out = []
    for item_id, at in zip(row.history_items, row.history_at, strict=True):
        moment = datetime.fromtimestamp(at / 1e6, UTC)
        item_ix = bundle.catalogue.index.get(item_id)
        out.append(
            {
                "item_id": item_id,
                "title": None if item_ix is None else str(bundle.titles[item_ix]),
                "event_at": moment.isoformat(),
                "age_s": (now - moment).total_seconds(),
            }
        )
    return out
