"""The event log on Kafka: one topic per kind of record, one partition per murmur2(user) mod P.

The interface is a log's, not a queue's: a reader names partition and offset, and keeps its own place
together with what it made of the records. So the consumer has no group and commits nothing.

Every call ends in bounded time. A client that failed is thrown away and the next call makes a new
one: a broker that comes back finds no client in a strange state. Topics are made with the broker's
own retention; it must be longer than a reader can be away, and a reader that was away for longer
gets `RecordsGone`, never a silent jump.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import ConfigResource, ConfigResourceType, KafkaAdminClient
from kafka.errors import (
    InvalidRecordError,
    KafkaError,
    MessageSizeTooLargeError,
    OffsetOutOfRangeError,
    RecordListTooLargeError,
    TopicAlreadyExistsError,
)
from kafka.net.compat import KafkaNetClient

from infra.event_log import (
    LogUnavailable,
    Raw,
    Record,
    RecordsGone,
    as_json,
    partition_of,
    value_of,
)
from infra.forgotten import NOBODY, Forgotten

TOPICS = ("events", "served", "items", "dead")

CONNECT_MS = 3_000
REQUEST_MS, DELIVERY_MS = 2_500, 4_000
"""One try of a batch, and all its tries together."""

ANSWER_S = 5.0
"""A call to a broker that is connected ends within this."""

MAX_RECORD_BYTES = 1_000_000
"""Just below what a broker takes unless told otherwise (message.max.bytes)."""

FETCH_WAIT_MS = 100
"""How long the broker holds a fetch ahead of the end; what is appended meanwhile ends the wait."""

POLL_MS = 200

REFUSED = (MessageSizeTooLargeError, RecordListTooLargeError, InvalidRecordError)
"""The broker's answers that speak of the record and not of the broker."""

# It writes a line for each try to connect; what fails here is raised, and told by who decides.
logging.getLogger("kafka").setLevel(logging.CRITICAL)

Client = TypeVar("Client")


class KafkaEventLog:
    """Kafka as the event log; see the module. May be used by several threads.

    Interview: Why not let a consumer group keep the offsets?
        Because the worker's state and its offset must move together. A group's offset lives in
        Kafka and the state elsewhere, so a crash between the two commits repeats or skips
        events. Here the reader stores offset and state in one transaction and asks the log for
        "partition 2 from 4711": after any crash it goes on exactly where its state stands.
        Trade-off: nobody hands out partitions; who reads which is configuration, or a lock.
        Shown by: tests/infra/test_event_log.py::test_reading_starts_at_the_offset_and_stops_at_the_limit
    """

    def __init__(
        self, bootstrap: str, prefix: str, partitions: int, forgotten: Forgotten = NOBODY
    ) -> None:
        """Find the topics `<prefix>.events` and `<prefix>.served`, or make them.

        Args:
            bootstrap: host:port of a broker.
            prefix: of the topics' names.
            partitions: of every topic.
            forgotten: whose records are neither sent nor shown.

        Raises:
            ValueError: a topic has another number of partitions.
            LogUnavailable: no broker answers.
        """
        self.partitions = partitions
        self._forgotten = forgotten
        self._bootstrap, self._prefix = bootstrap, prefix
        self._producer_lock, self._readers_lock = threading.Lock(), threading.Lock()
        self._producer: KafkaProducer | None = None
        self._readers: dict[TopicPartition, _Reader] = {}
        for topic, found in _partitions_found(bootstrap, self._names(), partitions).items():
            if found != partitions:
                raise ValueError(
                    f"the event log's topic {topic} has {found} partitions, the settings say "
                    f"{partitions}: users would change partition and lose their order and state; "
                    f"set SHORTLIST_PARTITIONS={found}, or replay the log into a new one"
                )

    def append(self, topic: str, records: Sequence[tuple[str, Mapping[str, Any]]]) -> None:
        """Send the records; every in-sync replica has them when this returns.

        Raises:
            ValueError: a value is not JSON, or a record is too large; nothing was sent, unless it
                was the broker that found a record too large.
            LogUnavailable: not all were acknowledged in time; some may be stored all the same.
        """
        self.append_json(topic, [(key, as_json(value)) for key, value in records])

    def append_json(self, topic: str, records: Sequence[tuple[str, str]]) -> None:
        """As `append`, for values that are JSON already."""
        self._send(
            topic,
            [
                (partition_of(key, self.partitions), key.encode(), text.encode())
                for key, text in self._forgotten.kept(records)
            ],
        )

    def append_at(self, topic: str, records: Sequence[tuple[int, str]]) -> None:
        """As `append`, for JSON without a key, each to the partition it names."""
        self._send(topic, [(partition, b"", text.encode()) for partition, text in records])

    def _send(self, topic: str, records: Sequence[tuple[int, bytes, bytes]]) -> None:
        name = self._name(topic)
        for _, key, value in records:
            if (size := len(key) + len(value)) > MAX_RECORD_BYTES:
                raise ValueError(f"a record has {size} bytes, the log takes {MAX_RECORD_BYTES}")
        producer = self._open_producer()
        try:
            until = time.monotonic() + ANSWER_S
            sent = [
                producer.send(name, key=key, value=value, partition=place)
                for place, key, value in records
            ]
            for future in sent:
                future.get(max(until - time.monotonic(), 0.0))
        except KafkaError as error:
            self._drop(producer)
            if isinstance(error, REFUSED):
                raise ValueError(f"the broker refused a record: {error}") from error
            raise LogUnavailable(f"Kafka at {self._bootstrap} did not confirm: {error}") from error

    def read(self, topic: str, partition: int, offset: int, limit: int) -> list[Record]:
        """At most `limit` records from `offset` on, in order; empty at the end and only there.

        Raises:
            RecordsGone: retention has taken the record at `offset`.
            LogUnavailable: no answer in time.
        """
        rows = self.read_raw(topic, partition, offset, limit)
        return [Record(at, key, value_of(raw)) for at, key, raw in rows]

    def read_raw(self, topic: str, partition: int, offset: int, limit: int) -> list[Raw]:
        """As `read`, each value as the bytes that were sent."""
        with self._reader(topic, partition) as reader:
            rows = [
                (found.offset, (found.key or b"").decode(errors="replace"), found.value or b"")
                for found in reader.read(offset, limit)
            ]
        return self._forgotten.hidden(topic, rows)

    def end_offset(self, topic: str, partition: int) -> int:
        """The offset that the next record will get; 0 for an empty partition.

        Raises:
            LogUnavailable: no answer in time.
        """
        with self._reader(topic, partition) as reader:
            return reader.end()

    def close(self) -> None:
        """Close the connections; appends under way are finished or fail first."""
        with self._producer_lock:
            if self._producer is not None:
                _close(self._producer)
                self._producer = None
        with self._readers_lock:
            for reader in self._readers.values():
                reader.close()
            self._readers.clear()

    def _name(self, topic: str) -> str:
        if topic not in TOPICS:
            raise ValueError(f"the log has the topics {', '.join(TOPICS)}, not '{topic}'")
        return f"{self._prefix}.{topic}"

    def _names(self) -> list[str]:
        return [self._name(topic) for topic in TOPICS]

    def _open_producer(self) -> KafkaProducer:
        with self._producer_lock:
            if self._producer is None:
                self._producer = open_client(
                    KafkaProducer,
                    self._bootstrap,
                    acks="all",
                    enable_idempotence=True,
                    delivery_timeout_ms=DELIVERY_MS,
                    max_block_ms=CONNECT_MS,
                    batch_size=128 * 1024,
                    allow_auto_create_topics=False,
                )
            return self._producer

    def _drop(self, producer: KafkaProducer) -> None:
        """After any failure: an idempotent producer answers every later send with the same error."""
        with self._producer_lock:
            if self._producer is producer:
                self._producer = None
        _close(producer)

    @contextmanager
    def _reader(self, topic: str, partition: int) -> Iterator["_Reader"]:
        place = TopicPartition(self._name(topic), partition)
        with self._readers_lock:
            if (reader := self._readers.get(place)) is None:
                reader = self._readers[place] = _Reader(self._bootstrap, place)
        try:
            yield reader
        except (KafkaError, LogUnavailable) as error:
            with self._readers_lock:
                if self._readers.get(place) is reader:
                    del self._readers[place]
            reader.close()
            raise LogUnavailable(f"Kafka at {self._bootstrap}: {error}") from error


class _Reader:
    """One consumer of one partition, whose position is kept: reading on does not seek.

    One for each partition, because a consumer of many would hand out what it fetched of any, and
    kafka-python 3.0.12 loses the way back to a paused partition whose records it had parked.
    """

    def __init__(self, bootstrap: str, place: TopicPartition) -> None:
        self._place = place
        self._lock = threading.Lock()
        self._next = self._end = 0
        self._consumer = open_client(
            KafkaConsumer,
            bootstrap,
            group_id=None,
            enable_auto_commit=False,
            auto_offset_reset="none",
            check_crcs=True,
            fetch_max_wait_ms=FETCH_WAIT_MS,
            allow_auto_create_topics=False,
        )
        self._consumer.assign([place])
        self._consumer.seek(place, 0)

    def read(self, offset: int, limit: int) -> list[Any]:
        """Raw records.

        Raises:
            RecordsGone, LogUnavailable, KafkaError: see the log's `read`.
        """
        with self._lock:
            # Only where nothing is known to lie ahead is the broker asked for the end.
            if offset >= self._end and offset >= self._ask_end():
                return []
            if self._next != offset:
                self._consumer.seek(self._place, offset)
                self._next = offset
            return self._poll(offset, limit)

    def end(self) -> int:
        """The offset that the next record will get."""
        with self._lock:
            return self._ask_end()

    def close(self) -> None:
        with suppress(KafkaError):
            self._consumer.close(autocommit=False, timeout_ms=1000)

    def _poll(self, offset: int, limit: int) -> list[Any]:
        until, found = time.monotonic() + ANSWER_S, list[Any]()
        try:
            # By position, not by count: after a compaction an offset may have no record.
            while len(found) < limit and self._next < self._end:
                if time.monotonic() > until:
                    raise LogUnavailable(f"no record came from {self._place} {self._next}")
                polled = self._consumer.poll(POLL_MS, max_records=limit - len(found))
                found += polled.get(self._place, [])
                self._next = self._consumer.position(self._place, timeout_ms=POLL_MS)
        except OffsetOutOfRangeError:
            self._next = -1  # whatever comes next has to seek
            self._tell_what_is_gone(offset)
            return []
        return found

    def _ask_end(self) -> int:
        ends = self._consumer.end_offsets([self._place], timeout_ms=ANSWER_S * 1000)
        self._end = int(ends[self._place])
        return self._end

    def _tell_what_is_gone(self, offset: int) -> None:
        firsts = self._consumer.beginning_offsets([self._place], timeout_ms=ANSWER_S * 1000)
        if offset < (first := firsts[self._place]):
            where = f"{self._place.topic}, partition {self._place.partition}"
            raise RecordsGone(where, offset, first)


def open_client(make: Callable[..., Client], bootstrap: str, **options: Any) -> Client:
    """A client that is connected, or none at all: one that failed would leave its thread behind."""
    made: list[KafkaNetClient] = []

    def network(**config: Any) -> KafkaNetClient:
        made.append(KafkaNetClient(**config))
        return made[-1]

    try:
        return make(
            bootstrap_servers=bootstrap,
            bootstrap_timeout_ms=CONNECT_MS,
            request_timeout_ms=REQUEST_MS,
            reconnect_backoff_max_ms=1_000,
            kafka_client=network,
            **options,
        )
    except KafkaError as error:
        for client in made:
            client.close()
        raise LogUnavailable(f"no Kafka broker answers at {bootstrap}: {error}") from error


def _close(producer: KafkaProducer) -> None:
    with suppress(KafkaError):
        producer.close(timeout=1)


def _partitions_found(bootstrap: str, names: Sequence[str], partitions: int) -> dict[str, int]:
    """Topic -> number of partitions, after making those that were not there."""
    admin = open_client(KafkaAdminClient, bootstrap)
    try:
        missing = [name for name, found in _described(admin, names).items() if found == 0]
        if missing:
            with suppress(TopicAlreadyExistsError):  # another process was faster
                admin.create_topics({name: {"num_partitions": partitions} for name in missing})
            admin.wait_for_topics(missing, timeout_ms=ANSWER_S * 1000)
        return _described(admin, names)
    except KafkaError as error:
        raise LogUnavailable(f"Kafka at {bootstrap} has no topics for us: {error}") from error
    finally:
        admin.close()


def _described(admin: KafkaAdminClient, names: Sequence[str]) -> dict[str, int]:
    return {found["name"]: len(found["partitions"]) for found in admin.describe_topics(list(names))}


def retention_ms(bootstrap: str, topic: str) -> int | None:
    """How long the broker keeps a topic's records; -1 = for ever, None = it does not say.

    Raises:
        LogUnavailable: no broker answers.
    """
    admin = open_client(KafkaAdminClient, bootstrap)
    try:
        wanted = ConfigResource(ConfigResourceType.TOPIC, topic)
        found = admin.describe_configs([wanted], config_filter="all")
        told = found["topic"][topic]["retention.ms"]["value"]
        return int(told)
    except (KafkaError, KeyError, TypeError, ValueError):
        return None
    finally:
        admin.close()
