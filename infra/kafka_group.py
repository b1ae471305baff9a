"""Who reads which partition, decided by Kafka's group protocol: members come, go, and are missed.

Only the membership is used. Offsets live with the state of whoever reads (infra/kafka_log.py), so
this consumer pauses every partition it is given, fetches nothing and commits nothing. Rebalances
are cooperative: a member keeps what it keeps, and only what moves is taken from it.

Membership is advice, not safety. A process that was stopped believes in what it was last told until
it asks again; what keeps it from writing is the epoch in the state file.
"""

import logging
import threading
import time
import uuid
from collections.abc import Collection

from kafka import ConsumerRebalanceListener, KafkaConsumer, TopicPartition
from kafka.coordinator.assignors.cooperative_sticky import CooperativeStickyAssignor
from kafka.errors import KafkaError

from infra.kafka_log import open_client

HEARTBEAT_MS = 2_000
POLL_MAX_S = 60.0
"""A worker that lives and does not ask for this long is stuck; a batch takes a second."""

POLL_MS = 200

LET_GO_S, ROUNDS_TO_LET_GO = 5.0, 2
"""How long a worker may take to finish the batch of a partition that is taken from it."""

log = logging.getLogger(__name__)


class GroupMember:
    """One worker's membership."""

    def __init__(
        self, bootstrap: str, topic: str, group: str, session_ms: int, name: str | None = None
    ) -> None:
        """Join; partitions come with time.

        Args:
            bootstrap: host:port of a broker.
            topic: its partitions are shared out.
            group: name of the group.
            session_ms: a member that is not heard of for this long is taken for dead; a broker
                wants 6 s at least.
            name: one that is kept over restarts (static membership): who comes back under it within
                the session goes on at once with what it had, and nobody else is disturbed.

        Raises:
            LogUnavailable: no broker answers.
        """
        self._listener = _Listener()
        self._consumer: KafkaConsumer = open_client(
            KafkaConsumer,
            bootstrap,
            group_id=group,
            group_instance_id=name,
            client_id=f"{group}-{uuid.uuid4().hex[:8]}",
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            partition_assignment_strategy=[CooperativeStickyAssignor()],
            session_timeout_ms=session_ms,
            heartbeat_interval_ms=min(HEARTBEAT_MS, session_ms // 3),
            max_poll_interval_ms=max(int(POLL_MAX_S * 1000), session_ms),
            allow_auto_create_topics=False,
        )
        self._listener.consumer = self._consumer
        self._consumer.subscribe([topic], listener=self._listener)
        self._stop = threading.Event()
        self._asked_at, self._error = time.monotonic(), ""
        self._thread = threading.Thread(target=self._stay, name="group", daemon=True)
        self._thread.start()

    def owned(self) -> frozenset[int]:
        """The partitions that are ours now; who does not ask for POLL_MAX_S gets no more.

        While the broker is away, what we had stays ours: nobody else can be given it.
        """
        self._asked_at = time.monotonic()
        self._listener.rounds += 1
        return frozenset(self._listener.mine)

    def close(self) -> None:
        """Leave, so that the others need not wait for the session to end."""
        self._listener.rounds += ROUNDS_TO_LET_GO
        self._stop.set()
        self._thread.join(2 * LET_GO_S)
        self._consumer.close(autocommit=False, timeout_ms=2_000)

    def _stay(self) -> None:
        """A thread of its own: joining waits for the others, and the worker has work to do."""
        while not self._stop.is_set():
            if time.monotonic() - self._asked_at > POLL_MAX_S:
                self._stop.wait(
                    0.1
                )  # the worker is stuck: the broker will notice that we do not poll
                continue
            try:
                self._consumer.poll(POLL_MS, max_records=1)
            except KafkaError as error:
                if str(error) != self._error:
                    log.warning("the group does not answer: %s", error)
                self._error = str(error)
                self._stop.wait(POLL_MS / 1000)


class _Listener(ConsumerRebalanceListener):
    """Keeps the set of our partitions; called from `poll`, in the member's thread."""

    def __init__(self) -> None:
        self.mine: set[int] = set()
        self.rounds = 0
        self.consumer: KafkaConsumer | None = None

    def on_partitions_assigned(self, assigned: Collection[TopicPartition]) -> None:
        assert self.consumer is not None
        if assigned:
            self.consumer.pause(*assigned)
        self.mine |= {place.partition for place in assigned}

    def on_partitions_revoked(self, revoked: Collection[TopicPartition]) -> None:
        """Returns when the worker has let go: it asked, was told, and asked again."""
        self.mine -= {place.partition for place in revoked}
        wanted, until = self.rounds + ROUNDS_TO_LET_GO, time.monotonic() + LET_GO_S
        while self.rounds < wanted and time.monotonic() < until:
            time.sleep(0.005)

    def on_partitions_lost(self, lost: Collection[TopicPartition]) -> None:
        self.mine -= {place.partition for place in lost}
