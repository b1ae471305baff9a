"""Stage 2 of the stream: deltas of all partitions of users -> items' states and rows.

Each partition of items has one owner, who folds what every partition of users reports. A delta may
come twice, or overlap another: a crash between storing and sending, a worker that slept, a state
made again from the log in batches of another size. Each event carries its offset, so each counts
once: what lies below the offset already applied from its source is left out.
"""

import json
import logging
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from features.item_streaming import ItemState, Touch, due, fold_item, item_row
from infra.event_log import Raw
from monitoring.stream_metrics import StreamMetrics
from pipelines.stream_push import Pushed, Pusher
from pipelines.stream_read import LogSide
from pipelines.stream_state import Changes, PartitionState
from pipelines.stream_users import ITEMS

DELTAS = 200
"""Deltas per transaction; one may hold a whole batch of the first stage."""

DUE_TOGETHER = 2_000
"""Items that cool down per transaction; those left over come with the next turn."""

WATERMARK = "watermark"

log = logging.getLogger(__name__)


class ItemStage:
    """Folds the partitions of items that this worker owns."""

    def __init__(self, side: LogSide, pusher: Pusher) -> None:
        self._side, self._pusher = side, pusher

    def turn(self, state: PartitionState) -> bool:
        """One batch of one partition; says whether there was anything to do.

        Raises:
            Fenced: another worker has the partition.
        """
        deltas = self._side.read(ITEMS, state, DELTAS)
        changed = self._fold(state, deltas)
        return self._pusher.push(state, changed) or bool(deltas) or bool(changed)

    def _fold(self, state: PartitionState, deltas: Sequence[Raw]) -> Mapping[str, ItemState]:
        before = state.number(WATERMARK)
        touches, applied = self._touches(state, deltas)
        watermark = max([before, *(at for some in touches.values() for at, _ in some)])
        cooling = state.due(watermark, DUE_TOGETHER)
        if not deltas and not cooling:
            return {}
        items = dict.fromkeys([*touches, *cooling])
        known = state.load(items)
        after = {i: fold_item(known.get(i), touches.get(i, ()), watermark) for i in items}
        offset = state.next_offset
        changes = Changes(
            after, timers={item_id: due(found) for item_id, found in after.items()},
            numbers={**applied, WATERMARK: watermark},
        )  # fmt: skip
        state.commit(offset, deltas[-1][0] + 1 if deltas else offset, changes)
        return after

    def _touches(
        self, state: PartitionState, deltas: Sequence[Raw]
    ) -> tuple[dict[str, list[Touch]], dict[str, int]]:
        """Item -> what is new, and source -> the offset up to which it is applied then."""
        touches: dict[str, list[Touch]] = defaultdict(list)
        applied: dict[str, int] = {}
        for _, _, raw in deltas:
            delta = json.loads(raw)
            name = f"applied-{delta['source']}"
            start = applied[name] if name in applied else state.number(name)
            if delta["after"] > start:
                self._tell_gap(state.partition, delta, start)
            columns = (delta["offsets"], delta["items"], delta["at"], delta["clicks"])
            for offset, item_id, at, is_click in zip(*columns, strict=True):
                if offset >= start:
                    touches[item_id].append((at, bool(is_click)))
            applied[name] = max(start, delta["until"])
        return touches, applied

    def _tell_gap(self, partition: int, delta: Mapping[str, Any], start: int) -> None:
        self._side.metrics.gaps.inc()
        log.error(
            "items %d: events %d to %d of partition %d never came: counts are too low",
            partition, start, delta["after"], delta["source"],
        )  # fmt: skip


def item_rows(metrics: StreamMetrics) -> Pushed:
    """What the second stage pushes."""
    return Pushed("item_stream", item_row, metrics.item_rows, metrics.item_delay_seconds)
