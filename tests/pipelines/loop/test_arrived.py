"""Who comes behind: the API's log, the stream worker's states, its pushes. Here they move by hand."""

import threading
from contextlib import closing

import pytest

from features.errors import ContractError, Unavailable
from infra.event_log import SqliteEventLog, partition_of
from infra.workspace import Workspace
from pipelines.loop.arrived import SERVED, Arrived
from pipelines.stream_state import Changes, PartitionState
from pipelines.stream_users import EVENTS

P = 2
ANN, BOB = "ann", "bob"


class Parts:
    """A log and the states of a worker that does what a test says."""

    def __init__(self, workspace):
        self.workspace = workspace
        self.log = SqliteEventLog(workspace.event_log, P)
        self.states = [PartitionState(workspace.state, p, P) for p in range(P)]

    def arrived(self, timeout_s):
        return Arrived(self.workspace, self.log, self.states, timeout_s)

    def append(self, user_id, topic=EVENTS):
        self.log.append(topic, [(user_id, {"user_id": user_id})])

    def fold(self, user_id, state=None):
        state = state or self.states[partition_of(user_id, P)]
        at = state.next_offset
        state.claim()
        state.commit(at, at + 1, Changes({user_id: {"version": at}}))

    def close(self):
        for part in (self.log, *self.states):
            part.close()


@pytest.fixture
def parts(tmp_path):
    with closing(Parts(Workspace(tmp_path, "shop"))) as parts:
        yield parts


def test_a_user_is_known_once_folded_and_pushed(parts):
    """Each step that is missing is named, with where it stands and whose log to read."""
    arrived, mine = parts.arrived(0.02), partition_of(ANN, P)
    arrived.known(ANN)  # nothing was sent
    arrived.sent(EVENTS, ANN, 1)
    with pytest.raises(
        Unavailable, match=rf"'events' ends at offset 0 of partition {mine}, expected 1; .*api\.log"
    ):
        arrived.known(ANN)
    parts.append(ANN)
    arrived.written(ANN)
    with pytest.raises(
        Unavailable,
        match=rf"worker stands at offset 0 of partition {mine}, expected 1; .*stream\.log",
    ):
        arrived.known(ANN)
    parts.fold(ANN)
    with pytest.raises(Unavailable, match=r"has not pushed .* knows of ann; .*stream\.log"):
        arrived.known(ANN)
    parts.states[mine].mark_pushed([ANN])
    arrived.known(ANN)
    arrived.everything()


def test_waiting_ends_when_the_worker_comes(parts):
    arrived = parts.arrived(30)
    arrived.sent(EVENTS, ANN, 1)
    mine = partition_of(ANN, P)

    def work():
        with closing(PartitionState(parts.workspace.state, mine, P)) as state:
            parts.append(ANN)
            parts.fold(ANN, state)
            state.mark_pushed([ANN])

    late = threading.Timer(0.1, work)
    late.start()
    arrived.known(ANN)
    assert parts.states[mine].next_offset == 1
    assert not parts.states[mine].is_waiting(ANN)
    late.join()


def test_nobody_waits_for_what_another_user_did(parts):
    arrived = parts.arrived(0.02)
    arrived.sent(EVENTS, BOB, 1)
    arrived.known(ANN)
    with pytest.raises(Unavailable, match=r"after 0\.02 s the API has not written"):
        arrived.everything()


def test_records_of_somebody_else_are_noticed(parts):
    arrived = parts.arrived(0.02)
    parts.append(ANN)
    with pytest.raises(ContractError, match="expected 0: somebody else uses this API"):
        arrived.written(ANN)


def test_the_log_is_read_from_where_counting_began(parts):
    for user_id in (ANN, BOB):
        parts.append(user_id)
    arrived = parts.arrived(0.02)
    for topic in (EVENTS, SERVED):
        arrived.sent(topic, BOB, 1)
        parts.append(BOB, topic)
        assert [record.key for record in arrived.records(topic)] == [BOB]
    arrived.sent(SERVED, BOB, 1)
    with pytest.raises(Unavailable, match=r"'served' ends at offset 1 .*, expected 2"):
        list(arrived.records(SERVED))
