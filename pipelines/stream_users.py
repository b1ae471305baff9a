"""Stage 1 of the stream: events -> users' states, and for the owners of items what was done to them.

One batch is one transaction: the states, the next offset, the deltas for the second stage, and the
dead letters. The last two are sent when it is stored, at least once; who reads them knows a repeat
by the offsets that it names.

A *delta* says, for one partition of items, what this partition of users accepted: columns of equal
length `offsets`, `items`, `at` (µs) and `clicks`, and `source`, `after`, `until`: it covers the
offsets [after, until) of partition `source`.
"""

import base64
import logging
from collections.abc import Collection, Mapping, Sequence

from features.streaming import State, empty, row_of, upgraded
from features.streaming_fast import Batch, Event, checked, fold_run
from infra.event_log import Raw, partition_of
from infra.forgotten import ERASED
from monitoring.stream_metrics import StreamMetrics
from pipelines.stream_push import Pushed, Pusher, Seeds
from pipelines.stream_read import LogSide
from pipelines.stream_state import Changes, Outgoing, PartitionState, as_text

EVENTS, ITEMS, DEAD = "events", "items", "dead"
"""Topics."""

CACHED_USERS = 20_000
"""States kept in memory per partition, so that a user who comes back is not read again."""

log = logging.getLogger(__name__)


class UserStage:
    """Folds the partitions that this worker owns."""

    def __init__(
        self, side: LogSide, seeds: Seeds, pusher: Pusher, positive_types: Collection[str]
    ) -> None:
        self._side, self._seeds, self._pusher = side, seeds, pusher
        self._positive_types, self._partitions = positive_types, side.events.partitions
        self._cached: dict[int, dict[str, State]] = {}
        self._item_partitions: dict[str, int] = {}

    def turn(self, state: PartitionState) -> bool:
        """One batch of one partition; says whether there was anything to do.

        Raises:
            Fenced: another worker has the partition.
        """
        records = self._side.read(EVENTS, state)
        changed: Mapping[str, State] = {}
        if records:
            changed = self.fold(state, records)
        if state.has_outbox:
            self._side.send(state)
        return self._pusher.push(state, changed) or bool(records)

    def forget(self, partition: int) -> None:
        """Another worker has this partition from now on."""
        self._cached.pop(partition, None)

    def fold(self, state: PartitionState, records: Sequence[Raw]) -> Mapping[str, State]:
        """Fold and commit one batch; the states that it changed.

        Raises:
            Fenced: another worker has the partition; nothing was stored.
        """
        kept = [record for record in records if record[2] != ERASED]
        batch = checked(kept)
        try:
            changes, new = self._changes(state, batch, records)
            state.commit(records[0][0], records[-1][0] + 1, changes)
        except BaseException:
            self.forget(state.partition)  # what is in memory has moved on, the file has not
            raise
        self._pusher.arrived({u: batch.arrived[u] for u in changes.states if u in batch.arrived})
        metrics, late = self._side.metrics, len(changes.late)
        metrics.folded.inc(new)
        metrics.late.inc(late)
        metrics.refused.inc(changes.refused)
        metrics.repeated.inc(len(kept) - changes.refused - new - late)
        if changes.refused:
            log.warning("partition %d: %d records refused", state.partition, changes.refused)
        return changes.states

    def _changes(
        self, state: PartitionState, batch: Batch, records: Sequence[Raw]
    ) -> tuple[Changes, int]:
        states, origins = self._states(state, batch.runs)
        accepted: list[Event] = []
        late: list[tuple[int, str, str, int]] = []
        changed = {}
        for user_id, run in batch.runs.items():
            new, too_late = fold_run(states[user_id], run, self._positive_types)
            late += [(event[0], user_id, event[1], event[5]) for event in too_late]
            if new:
                accepted += new
                changed[user_id] = states[user_id]
            elif user_id in origins:
                del states[user_id]  # not begun yet: its seed is read and kept with its first event
        outbox, sent = self._deltas(state, accepted, records[-1][0] + 1)
        changes = Changes(
            changed, {u: seed for u, seed in origins.items() if u in changed},
            [*outbox, *dead_letters(state.partition, batch.refused, records)],
            late, numbers=sent, refused=len(batch.refused),
        )  # fmt: skip
        return changes, len(accepted)

    def _states(
        self, state: PartitionState, users: Collection[str]
    ) -> tuple[dict[str, State], dict[str, State]]:
        """States to fold into, and the seeds among them, as they were."""
        cached = self._cached.setdefault(state.partition, {})
        if len(cached) > CACHED_USERS:
            cached.clear()
        unknown = [user_id for user_id in users if user_id not in cached]
        for user_id, stored in state.load(unknown).items():
            cached[user_id] = upgraded(stored)
        origins = {}
        for user_id in unknown:
            if user_id not in cached:
                seed = self._seeds.state_of(user_id)
                if seed is not None:
                    origins[user_id] = self._seeds.state_of(user_id) or seed  # one to keep
                cached[user_id] = seed or empty()
        return cached, origins

    def _deltas(
        self, state: PartitionState, accepted: Sequence[Event], until: int
    ) -> tuple[list[Outgoing], dict[str, int]]:
        """What the owners of items are to hear, and up to where each of them then has heard."""
        touched: dict[int, list[Event]] = {}
        places = self._item_partitions
        for event in accepted:
            if event[2] in ("impression", "click"):
                item_id = event[3]
                if (place := places.get(item_id)) is None:
                    if len(places) > CACHED_ITEMS:
                        places.clear()
                    place = places[item_id] = partition_of(item_id, self._partitions)
                touched.setdefault(place, []).append(event)
        outbox, sent = [], {}
        for place, events in touched.items():
            name = f"sent-{place}"
            offsets, _, kinds, items, _, at = zip(*events, strict=True)
            delta = {
                "source": state.partition, "after": state.number(name), "until": until,
                "offsets": offsets, "items": items, "at": at,
                "clicks": [int(kind == "click") for kind in kinds],
            }  # fmt: skip
            outbox.append((ITEMS, place, as_text(delta)))
            sent[name] = until
        return outbox, sent


CACHED_ITEMS = 200_000

KEPT_BYTES = 500_000
"""Of a dead letter: in base64 it must fit into a record; the log has the whole one at its offset."""


def user_rows(metrics: StreamMetrics) -> Pushed:
    """What the first stage pushes."""
    return Pushed("user_stream", row_of, metrics.pushed, metrics.delay_seconds)


def dead_letters(
    partition: int, refused: Sequence[tuple[int, str]], records: Sequence[Raw]
) -> list[Outgoing]:
    """What is no event, for people to look at: its place, the reason, the bytes as they came."""
    if not refused:
        return []
    found = {offset: (key, raw) for offset, key, raw in records}
    return [
        (
            DEAD,
            partition,
            as_text({
                "partition": partition, "offset": offset, "key": found[offset][0],
                "reason": reason,
                "bytes": base64.b64encode(found[offset][1][:KEPT_BYTES]).decode(),
            }),
        )
        for offset, reason in refused
    ]  # fmt: skip
