"""Items as a person reads them: title, category, price, and why this one."""

import math
from typing import Any

from models.bundle import Bundle
from models.funnel import SOURCES, Slate


def item(bundle: Bundle, item_ix: int) -> dict[str, Any]:
    """What is known of one item of the catalogue."""
    category = int(bundle.catalogue.category[item_ix])
    price = float(bundle.prices[item_ix])
    return {
        "item_id": str(bundle.catalogue.item_ids[item_ix]),
        "title": str(bundle.titles[item_ix]),
        "category": bundle.catalogue.vocabulary["category"][category] if category >= 0 else None,
        "price": price if math.isfinite(price) else None,
    }


def items(bundle: Bundle, slate: Slate) -> list[dict[str, Any]]:
    """The places of a slate, as in `schemas.ItemOut`."""
    rows = zip(
        slate.item_ix.tolist(),
        slate.scores.tolist(),
        slate.source.tolist(),
        slate.anchor_ix.tolist(),
        strict=True,
    )
    return [
        {
            **item(bundle, item_ix),
            "score": round(score, 6),
            "position": position,
            "source": SOURCES[source],
            "reason": reason(SOURCES[source], item_ix, anchor_ix, bundle),
        }
        for position, (item_ix, score, source, anchor_ix) in enumerate(rows, start=1)
    ]


def reason(source: str, item_ix: int, anchor_ix: int, bundle: Bundle) -> str:
    """One line for the user: the source that placed the item highest, and what led it there."""
    anchor = str(bundle.titles[anchor_ix]) if anchor_ix >= 0 else None
    if source == "history" or (anchor is not None and anchor_ix == item_ix):
        return "You chose this before"
    if source == "covisitation":
        return f"Often chosen together with {anchor}" if anchor else "Often chosen together"
    if source == "two_tower":
        return f"Because you chose {anchor}" if anchor else "Close to your taste"
    return "Popular now"
