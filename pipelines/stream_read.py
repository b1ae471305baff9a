"""The log's side of both stages: the next batch, a log that is away, records that are gone."""

import logging
from collections.abc import Sequence

from features.errors import ContractError
from infra.event_log import EventLog, Raw, RecordsGone
from monitoring.stream_metrics import StreamMetrics
from pipelines.stream_push import Pause
from pipelines.stream_state import PartitionState

BATCH = 5_000
"""Records folded per transaction: what bounds the memory, however long the backlog."""

SENT_TOGETHER = 200

GONE = "gone"
"""The number under which a state file keeps how many records retention took unread."""

log = logging.getLogger(__name__)


class LogSide:
    """Reads and sends for one worker; a log that does not answer is asked again after a pause."""

    def __init__(self, events: EventLog, metrics: StreamMetrics) -> None:
        self.events, self.metrics = events, metrics
        self.pause = Pause("log", metrics)
        self._standing: set[tuple[str, int]] = set()

    def read(self, topic: str, state: PartitionState, limit: int | None = None) -> Sequence[Raw]:
        """The next records; none while the log is away, and none ever again where some are gone.

        Interview: Your consumer was away for longer than the log keeps its records. What happens?
            It must not go on from where the log begins now: that is `auto.offset.reset`, and the
            loss would show nowhere. Here the partition stands, the others go on; a metric, the log
            and `status` say how many records are missing, until somebody decides: start again
            with an empty state, or restore the log.
            Trade-off: the users of that partition get no fresh features until then.
            Shown by: tests/pipelines/test_stream_dead.py::test_records_gone_unread_raise_an_alarm
        """
        if not self.pause.is_over or (topic, state.partition) in self._standing:
            return ()
        try:
            found = self.events.read_raw(topic, state.partition, state.next_offset, limit or BATCH)
        except RecordsGone as error:  # no pause brings them back
            self._stand(topic, state, error)
            return ()
        except OSError as error:
            self.pause.begin(error)
            return ()
        self.pause.end()
        return found

    def send(self, state: PartitionState) -> None:
        """Send what a batch left to send; what is not confirmed is sent again later."""
        while self.pause.is_over:
            if not (waiting := state.outbox(SENT_TOGETHER)):
                state.has_outbox = False
                return
            try:
                for topic in dict.fromkeys(topic for _, topic, _, _ in waiting):
                    records = [(to, text) for _, name, to, text in waiting if name == topic]
                    self.events.append_at(topic, records)
            except OSError as error:
                self.pause.begin(error)
                return
            state.mark_sent(waiting[-1][0])

    def forget(self, partition: int) -> None:
        """Another worker has this partition from now on."""
        self._standing = {place for place in self._standing if place[1] != partition}

    def lag(self, topic: str, state: PartitionState) -> int:
        """Records that are not folded yet.

        Raises:
            ContractError: the state is ahead of the log.
            OSError: the log does not answer.
        """
        end, stands = self.events.end_offset(topic, state.partition), state.next_offset
        if stands > end:
            raise ContractError(
                f"partition {state.partition}: the state stands at offset {stands}, the "
                f"log ends at {end}: the log was replaced; bring it back or delete the state folder"
            )
        return end - stands

    def _stand(self, topic: str, state: PartitionState, error: RecordsGone) -> None:
        self._standing.add((topic, state.partition))
        state.note(GONE, error.count)
        self.metrics.gone.labels(state.partition).set(error.count)
        log.error(
            "partition %d stands: events were lost, %s; restore the log, or delete the state "
            "folder and start again",
            state.partition, error,
        )  # fmt: skip
