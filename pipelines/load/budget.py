"""What each stage of a request may take: the source documents' budget, and ours."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Budget:
    """Milliseconds for one stage of one request; None where nothing was laid down."""

    source_ms: float | None
    ours_ms: float | None
    """Median, on one core."""


UNKNOWN = Budget(None, None)

STAGES = {
    "features": Budget(5.0, 0.6),
    "state": UNKNOWN,
    "retrieve": Budget(10.0, 0.85),  # the documents say 10 here and 1 there; tower and search
    "pre_rank": Budget(5.0, 0.3),
    "rank": Budget(20.0, 1.8),  # item and cross features, then the trees
    "rerank": Budget(5.0, 0.3),
    "fallback": UNKNOWN,
    "total": Budget(31.0, 4.0),  # of 50 in all: 5 + 1 + 20 + 5
    "outside": Budget(None, 0.2),
}
"""In the order of a request. `outside` is what the server's own stop-watch does not see."""

ABSENT = {"pre_rank": "not built yet"}
"""Stages of the budget that the line does not have."""

WHOLE_MS = 50.0
"""The page's patience in the source documents, of which the stages may use 31."""

P99_MS = 20.0
"""Ours, at 60 % of what one core can do."""
