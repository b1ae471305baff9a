"""Has what was sent arrived: in the log, in the stream worker's states, in the online store?

The API writes impressions behind its answers, and the worker folds behind the log. In real time
that is a fraction of a second that nobody notices; a simulated day asks the next question at once,
and has to wait until the answer to it is the one that a real user would have got.
"""

import time
from collections.abc import Callable, Iterator, Sequence

from features.errors import ContractError, Unavailable
from infra.event_log import EventLog, Record, partition_of
from infra.workspace import Workspace
from pipelines.stream_read import BATCH
from pipelines.stream_state import PartitionState
from pipelines.stream_users import EVENTS

SERVED = "served"
POLL_S = 0.005

EXAMPLES = 3
TIMEOUT_S = 60.0
"""Fractions of a second are usual; a minute is a part that has stopped."""


class Arrived:
    """Counts what is sent to a log that nobody else writes to, and waits for who comes behind.

    Interview: How do you test an asynchronous system for equality, to the last item of a list?
        Count what went in, and before each question wait until that much has come out: the log's
        end, the worker's offset, and nothing of this user left to push. No sleeps: they are too
        short on a busy machine and too long on a quiet one.
        Trade-off: it shows what the system answers once it has caught up; how far behind it runs
        under load is another measurement.
        Shown by: tests/pipelines/loop/test_arrived.py::test_a_user_is_known_once_folded_and_pushed
    """

    def __init__(
        self,
        workspace: Workspace,
        log: EventLog,
        states: Sequence[PartitionState],
        timeout_s: float = TIMEOUT_S,
    ) -> None:
        """Begin to count where the log ends now.

        Args:
            workspace: where the parts write their own logs; named in errors.
            log: of the API.
            states: of the worker, one per partition; only read.
            timeout_s: how long to wait for any one thing.
        """
        self._logs, self._log, self._states = workspace.root / "logs", log, states
        self._timeout_s = timeout_s
        self._begin = {
            topic: [log.end_offset(topic, p) for p in range(log.partitions)]
            for topic in (EVENTS, SERVED)
        }
        self._end = {topic: list(ends) for topic, ends in self._begin.items()}
        self._last: dict[str, int] = {}  # user -> where the log ends after their newest event

    def sent(self, topic: str, user_id: str, records: int) -> None:
        """So many records of a user are on their way to the log, or there."""
        partition = self._partition(user_id)
        self._end[topic][partition] += records
        if topic == EVENTS:
            self._last[user_id] = self._end[topic][partition]

    def written(self, user_id: str) -> None:
        """Wait until the log of this user's partition is whole, so that the next record comes last.

        Raises:
            Unavailable: it is not after the time-out.
            ContractError: there is more, so somebody else uses the API.
        """
        partition = self._partition(user_id)
        self._in_log(EVENTS, partition, self._end[EVENTS][partition])

    def known(self, user_id: str) -> None:
        """Wait until the online store says of this user what the log says.

        Raises:
            Unavailable: the worker has not come so far after the time-out.
            ContractError: somebody else uses the API.
        """
        partition = self._partition(user_id)
        self._folded(partition, self._last.get(user_id, 0))
        state = self._states[partition]
        self._pushed(lambda limit: [user_id] if state.is_waiting(user_id) else [])

    def everything(self) -> None:
        """Wait until all that was sent of anybody is folded and pushed.

        Raises:
            Unavailable: it is not after the time-out.
            ContractError: somebody else uses the API.
        """
        for partition, state in enumerate(self._states):
            self._folded(partition, self._end[EVENTS][partition])
            self._pushed(state.unpushed)

    def records(self, topic: str) -> Iterator[Record]:
        """What came in since this began to count, partition by partition; all of it is there.

        Raises:
            Unavailable: the API has not written everything after the time-out.
            ContractError: somebody else uses the API.
        """
        for partition, begin in enumerate(self._begin[topic]):
            offset, end = begin, self._end[topic][partition]
            self._in_log(topic, partition, end)
            while offset < end:
                some = self._log.read(topic, partition, offset, BATCH)
                yield from some
                offset = some[-1].offset + 1

    def _folded(self, partition: int, end: int) -> None:
        self._in_log(EVENTS, partition, end)
        state = self._states[partition]
        self._wait(
            lambda: state.next_offset >= end,
            lambda: (
                f"the stream worker stands at offset {state.next_offset} of partition {partition}, "
                f"expected {end}; see {self._logs / 'stream.log'}"
            ),
        )

    def _pushed(self, waiting: Callable[[int], list[str]]) -> None:
        self._wait(
            lambda: not waiting(1),
            lambda: (
                f"the stream worker has not pushed to the online store what it knows of "
                f"{', '.join(waiting(EXAMPLES))}; see {self._logs / 'stream.log'}"
            ),
        )

    def _in_log(self, topic: str, partition: int, end: int) -> None:
        found = 0

        def is_there() -> bool:
            nonlocal found
            found = self._log.end_offset(topic, partition)
            return found >= end

        self._wait(
            is_there,
            lambda: (
                f"the API has not written everything: '{topic}' ends at offset {found} of "
                f"partition {partition}, expected {end}; see {self._logs / 'api.log'}"
            ),
        )
        if found > (most := self._end[topic][partition]):
            raise ContractError(
                f"'{topic}' ends at offset {found} of partition {partition}, expected {most}: "
                "somebody else uses this API or writes to its log; a simulated day needs its own"
            )

    def _wait(self, holds: Callable[[], bool], missing: Callable[[], str]) -> None:
        until = time.monotonic() + self._timeout_s
        while not holds():
            if time.monotonic() >= until:
                raise Unavailable(f"after {self._timeout_s:g} s {missing()}")
            time.sleep(POLL_S)

    def _partition(self, user_id: str) -> int:
        return partition_of(user_id, self._log.partitions)
