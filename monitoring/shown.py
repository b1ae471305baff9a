"""What was shown, as records of the log: who showed it does not matter to who reads it.

Two topics. `events` gets one impression per shown item, like any other event. `served` gets one
record per slate with the exact features and scores, so that monitoring compares what the model
really read, not what a later join says it should have read.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np

from models.bundle import Bundle
from models.funnel import SOURCES, Slate

Records = list[tuple[str, dict[str, Any]]]
"""(key, value) each; the key is the user."""


@dataclass(frozen=True, slots=True)
class Shown:
    """One slate that somebody was shown."""

    request_id: str
    at: datetime  # UTC
    user_id: str
    context: Mapping[str, str]
    bundle: Bundle
    slate: Slate
    arm: str
    arms: Mapping[str, str]  # experiment -> arm; empty where none runs
    rung: int


def impressions(shown: Shown) -> Records:
    """One event per shown item, in the columns of features/schema.py EVENTS."""
    at = _iso(shown.at)
    common = {
        "event_type": "impression",
        "user_id": shown.user_id,
        "session_id": None,
        "request_id": shown.request_id,
        "event_at": at,
        "seen_at": at,
        "value": None,
        "context": json.dumps(dict(shown.context)),
        "bundle": shown.bundle.id,
        "propensity": None,  # nothing is randomised yet
        "arms": json.dumps(dict(shown.arms)),
    }
    slate = shown.slate
    places = zip(shown.bundle.catalogue.item_ids[slate.item_ix], slate.source, strict=True)
    return [
        (
            shown.user_id,
            {
                **common,
                "event_id": f"{shown.request_id}:{position}",
                "item_id": str(item_id),
                "position": position,
                "source": SOURCES[source],
            },
        )
        for position, (item_id, source) in enumerate(places, start=1)
    ]


def served(shown: Shown, feature_share: float) -> tuple[str, dict[str, Any]]:
    """The slate with its scores, and for a share of all slates the features that were read.

    With its context a record says all that is needed to compute its features again.
    """
    slate, ids = shown.slate, shown.bundle.catalogue.item_ids
    # By the request's random id: an unbiased sample, and no generator to share.
    sampled = int(shown.request_id[:8], 16) / 16**8 < feature_share
    features = slate.features if sampled and slate.features is not None else np.empty((0, 0))
    return shown.user_id, {
        "request_id": shown.request_id,
        "served_at": _iso(shown.at),
        "user_id": shown.user_id,
        "context": dict(shown.context),
        "bundle": shown.bundle.id,
        "arm": shown.arm,
        "rung": shown.rung,
        "item_ids": ids[slate.item_ix].tolist(),
        "scores": slate.scores.tolist(),
        "features": [[_number(value) for value in row] for row in features.tolist()],
    }


def _iso(moment: datetime) -> str:
    return moment.isoformat(timespec="microseconds")


def _number(value: float) -> float | None:
    """JSON has no NaN; a feature that is not a number is one that was missing."""
    return value if np.isfinite(value) else None
