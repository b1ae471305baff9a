"""The relay: what the API's spools keep -> Kafka. `python -m pipelines.relay`, one per folder.

For every spool file in the workspace's spool folder, over and over:

    1. take its oldest records
    2. send them in their order, and wait until every in-sync replica has them
    3. forget them

A crash before 3 sends them again: the log may hold a record twice, and readers know it by its
event id. Nothing is forgotten that was not acknowledged. Spool files come and go with the API's
replicas. A file whose replica is gone is drained like any other and then stays: nothing here can
tell a replica that is gone from one that is silent.
"""

import fcntl
import json
import os
import signal
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge, start_http_server
from tenacity import (
    RetryCallState,
    Retrying,
    retry_if_exception_type,
    sleep_using_event,
    stop_when_event_set,
    wait_random_exponential,
)

from infra.forgotten import Forgotten
from infra.kafka_log import KafkaEventLog
from infra.logging import configure
from infra.settings import Settings
from infra.spool import Spooled, SpoolReader
from infra.workspace import Workspace

BATCH = 1_000
"""Records sent together: what bounds the memory, and what a crash repeats at most."""

POLL_S = 0.02
SWEEP_S = 1.0
"""How often the folder is looked at for new spool files."""

BACKOFF_MAX_S = 5.0

DEAD_LETTERS = "dead-letters.jsonl"
"""Beside the spools: records that the log refuses, with the reason; nothing reads it but people."""

OpenLog = Callable[[], KafkaEventLog]


class RelayMetrics:
    """What the relay counts, in Prometheus' format."""

    def __init__(self) -> None:
        registry = self.registry = CollectorRegistry()
        self.delivered = Counter(
            "shortlist_relay_delivered", "Records acknowledged.", ["topic"], registry=registry
        )
        self.failures = Counter(
            "shortlist_relay_failures", "Tries to deliver that failed.", registry=registry
        )
        self.dead_letters = Counter(
            "shortlist_relay_dead_letters",
            "Records that the log refused; they are in dead-letters.jsonl.",
            registry=registry,
        )
        self.waiting = Gauge(
            "shortlist_relay_waiting_records", "Records in all spools.", registry=registry
        )
        self.bytes = Gauge(
            "shortlist_relay_waiting_bytes", "Bytes in all spools.", registry=registry
        )
        self.oldest_seconds = Gauge(
            "shortlist_relay_oldest_seconds", "Age of the oldest record.", registry=registry
        )
        self.spools = Gauge("shortlist_relay_spools", "Spool files.", registry=registry)


class Relay:
    """Moves records from the spools of one folder to the log.

    Interview: Why is an outbox table with a relay better than sending to Kafka from the request?
        Because two systems cannot be written in one transaction. If the API wrote its disk and
        Kafka, a crash in between would leave them apart, and a slow broker would be a slow API.
        The spool is the single place of truth until Kafka has acknowledged; then the record is
        forgotten there. So each failure repeats a send, and none loses a record.
        Trade-off: at least once, never exactly once: event ids make a repeat harmless downstream.
        Shown by: tests/pipelines/test_relay.py::test_killed_in_the_middle_it_loses_nothing
    """

    def __init__(
        self, folder: Path, open_log: OpenLog, metrics: RelayMetrics, stop: threading.Event
    ) -> None:
        self._folder, self._open_log, self._metrics, self._stop = folder, open_log, metrics, stop
        self._log: KafkaEventLog | None = None
        self._spools: dict[Path, tuple[int, SpoolReader]] = {}  # path -> inode, spool
        # Full jitter: after an outage the relays of many machines must not come back in step.
        self._retrying = Retrying(
            retry=retry_if_exception_type(OSError),
            wait=wait_random_exponential(multiplier=0.2, max=BACKOFF_MAX_S),
            stop=stop_when_event_set(stop),
            sleep=sleep_using_event(stop),
            before_sleep=self._note_failure,
            reraise=True,
        )

    def run(self) -> None:
        """Work until stopped.

        Raises:
            ValueError: the log has another number of partitions than the settings say.
        """
        swept = -SWEEP_S
        while not self._stop.is_set():
            if time.monotonic() - swept >= SWEEP_S:
                self._sweep()
                swept = time.monotonic()
            # A list, not a generator: every spool gets its turn, whatever the others had.
            if not any([self._turn(path, spool) for path, (_, spool) in [*self._spools.items()]]):
                self._stop.wait(POLL_S)

    def close(self) -> None:
        """Close the spools and the connections; what was not acknowledged stays."""
        for _, spool in self._spools.values():
            spool.close()
        if self._log is not None:
            self._log.close()

    def _sweep(self) -> None:
        """Open spools that have come, close those whose file is gone or another one."""
        found = {path: _inode(path) for path in sorted(self._folder.glob("*.sqlite"))}
        for path, (inode, _) in list(self._spools.items()):
            if found.get(path) != inode:
                self._put_aside(path, "its file is gone")
        for path, now in found.items():
            if now is not None and path not in self._spools:
                try:
                    self._spools[path] = now, SpoolReader(path)
                except sqlite3.Error as error:  # being made just now, or no spool: the next sweep
                    self._put_aside(path, str(error))
        self._observe()

    def _put_aside(self, path: Path, why: str) -> None:
        """Until the next sweep, which opens it again if it is there."""
        structlog.get_logger().warning("spool put aside", file=path.name, why=why)
        if path in self._spools:
            self._spools.pop(path)[1].close()

    def _turn(self, path: Path, spool: SpoolReader) -> bool:
        """One batch of one spool; says whether there was one."""
        try:
            return self._retrying(self._move, spool)
        except sqlite3.Error as error:  # this file's trouble, and none of the others'
            self._metrics.failures.inc()
            self._put_aside(path, str(error))
            return False
        except OSError:
            if self._stop.is_set():  # the records stay in the spool, for the next relay
                return False
            raise

    def _move(self, spool: SpoolReader) -> bool:
        # Step 1. What waits, oldest first.
        records = spool.take(BATCH)
        if not records:
            return False
        # Step 2. Into the log; by topic, since order matters within a topic only.
        for topic in dict.fromkeys(record.topic for record in records):
            self._send(topic, [record for record in records if record.topic == topic])
        # Step 3. Only now; the API's next append removes them.
        spool.forget(records[-1].number)
        return True

    def _send(self, topic: str, records: Sequence[Spooled]) -> None:
        log = self._log = self._log or self._open_log()
        try:
            log.append_json(topic, [(record.key, record.value) for record in records])
            self._metrics.delivered.labels(topic).inc(len(records))
        except ValueError as why:
            if len(records) > 1:  # one of them; the others must not wait for it for ever
                for record in records:
                    self._send(topic, [record])
            else:
                self._bury(records[0], why)

    def _bury(self, record: Spooled, why: ValueError) -> None:
        letter = {
            "topic": record.topic,
            "key": record.key,
            "value": record.value,
            "reason": str(why),
            "at": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        with (self._folder / DEAD_LETTERS).open("a", encoding="utf-8") as file:
            file.write(json.dumps(letter) + "\n")
            file.flush()
            os.fsync(file.fileno())
        self._metrics.dead_letters.inc()
        structlog.get_logger().error("record refused by the log", topic=record.topic, why=str(why))

    def _note_failure(self, state: RetryCallState) -> None:
        self._metrics.failures.inc()
        self._observe()
        assert state.outcome is not None
        structlog.get_logger().warning(
            "not delivered, trying again",
            tries=state.attempt_number,
            next_in_s=round(state.upcoming_sleep, 2),
            why=str(state.outcome.exception()),
        )

    def _observe(self) -> None:
        with suppress(sqlite3.Error):  # a number less, and no reason to stop
            backlogs = [spool.backlog() for _, spool in self._spools.values()]
            self._metrics.waiting.set(sum(backlog.records for backlog in backlogs))
            self._metrics.bytes.set(sum(backlog.bytes for backlog in backlogs))
            self._metrics.oldest_seconds.set(
                max((backlog.oldest_s for backlog in backlogs), default=0.0)
            )
            self._metrics.spools.set(len(backlogs))


def _inode(path: Path) -> int | None:
    try:
        return path.stat().st_ino
    except FileNotFoundError:  # gone since it was listed
        return None


@contextmanager
def alone(folder: Path, stop: threading.Event) -> Iterator[None]:
    """Wait until no other relay works on this folder, since two would send everything twice.

    The lock ends with the process, however it ends.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "relay.lock").open("w") as file:
        while not _locked(file) and not stop.wait(SWEEP_S):
            pass
        yield


def _locked(file: IO[str]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def main() -> None:
    """`python -m pipelines.relay`: the spools of the workspace that the settings name."""
    configure()
    settings = Settings()
    workspace = Workspace.of(settings)
    services = workspace.services
    if services is None:
        raise SystemExit("embedded, the API writes the log itself; set SHORTLIST_MODE=services")
    stop, metrics = threading.Event(), RelayMetrics()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    if settings.metrics_port is not None:
        start_http_server(settings.metrics_port, addr=settings.host, registry=metrics.registry)

    def open_log() -> KafkaEventLog:
        return KafkaEventLog(
            services.kafka, workspace.name, settings.partitions, Forgotten(workspace.forgotten)
        )

    relay = Relay(workspace.spool, open_log, metrics, stop)
    with alone(workspace.spool, stop):
        structlog.get_logger().info(
            "relay starts", spool=str(workspace.spool), kafka=services.kafka
        )
        try:
            relay.run()
        except ValueError as error:
            raise SystemExit(str(error)) from error
        finally:
            relay.close()


if __name__ == "__main__":
    main()
