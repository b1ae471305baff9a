"""Bad records stop nobody, wait with reason and bytes, and come back; lost ones raise an alarm."""

import base64
import json
from contextlib import closing, contextmanager
from uuid import uuid4

import pytest
from kafka import KafkaProducer, TopicPartition
from kafka.admin import KafkaAdminClient
from typer.testing import CliRunner

from features.store import OnlineStore
from infra.clients import open_feast
from infra.event_log import SqliteEventLog, partition_of
from infra.kafka_log import KafkaEventLog, open_client
from infra.local.process import free_port
from infra.workspace import Workspace
from monitoring.stream_metrics import StreamMetrics
from pipelines.cli import app
from pipelines.dead_letters import Letter, letters, read_letters, replay, write_letters
from pipelines.local.health import Unwell, folds
from pipelines.recount import recount
from pipelines.stream_read import GONE
from pipelines.stream_state import PartitionState
from tests.features.small_lake import POSITIVE
from tests.pipelines.stream_kit import (
    PARTITIONS,
    START,
    click,
    counted,
    offsets,
    online_of,
    running,
    until,
    worked_off,
)


def bad(**more) -> bytes:
    return json.dumps(click(7)[1] | more).encode()


SOON = START.isoformat()
POISON = {  # reason -> bytes under the key "u"
    "no JSON, and no UTF-8": (b"\xff\xfe{", "record is no JSON"),
    "cut off": (bad()[:-9], "record is no JSON"),
    "empty": (b"", "record is empty or no JSON"),
    "two records in one": (bad() + bad(), "record is no JSON"),
    "a list": (b"[1, 2]", "record is list, expected a JSON object"),
    "a number": (b"7", "record is int"),
    "null": (b"null", "record is NoneType"),
    "nested a hundred thousand deep": (b"[" * 100_000, "record is no JSON"),
    "NaN": (b'{"value": NaN}', "record is no JSON: aN|NaN is no JSON"),
    "without an id": (b'{"user_id": "u"}', "event_id is 'None'"),
    "an empty id": (bad(event_id=""), "event_id is ''"),
    "an endless id": (bad(item_id="x" * 5000), "item_id is 'x"),
    "an id that is a number": (bad(item_id=7), "item_id is '7'"),
    "half a surrogate pair": (bad(item_id="\ud800"), "which is no Unicode text"),
    "an unknown type": (bad(event_type="hover"), "event_type is 'hover'"),
    "a type that is a list": (bad(event_type=["click"]), r"event_type is \"\['click'\]\""),
    "of somebody else": (bad(user_id="v"), "it belongs to another partition"),
    "a time in words": (bad(event_at="yesterday"), "event_at is 'yesterday'"),
    "a time that is a number": (bad(event_at=1772323200), "event_at is '1772323200'"),
    "before 1970": (bad(event_at="1969-12-31T23:59:59Z"), "expected a moment after 1970"),
    "from the future": (bad(event_at="2027-01-01T00:00:00Z", seen_at=SOON), "later than its arrival"),
    "at the end of time": (bad(event_at="9999-12-31T23:59:59Z"), "later than its arrival"),
}  # fmt: skip


class RawLog:
    """Appends bytes as a careless producer would, to either log."""

    def __init__(self, log) -> None:
        self._log = log
        if isinstance(log, KafkaEventLog):
            self._producer = open_client(KafkaProducer, log._bootstrap, acks="all")

    def append(self, key: str, raw: bytes) -> None:
        place = partition_of(key, PARTITIONS)
        if isinstance(self._log, KafkaEventLog):
            name = self._log._name("events")
            self._producer.send(name, key=key.encode(), value=raw, partition=place).get(10)
        else:
            self._log._group.submit([("events", place, key, raw)])


def test_twenty_kinds_of_poison_stop_no_good_event(open_log, tmp_path):
    log, workspace, metrics = open_log(PARTITIONS), Workspace(tmp_path, "small"), StreamMetrics()
    raw, good, expected = RawLog(log), [], {}
    place = partition_of("u", PARTITIONS)
    for number, (poison, reason) in enumerate(POISON.values()):
        good.append(click(100 + number))
        log.append("events", good[-1:])
        expected[place, log.end_offset("events", place)] = (poison, reason)
        raw.append("u", poison)
    worked_off(workspace, log, metrics=metrics)
    found = letters(log)
    assert [letter.place for letter in found] == list(expected)
    for letter in found:
        poison, reason = expected[letter.place]
        assert base64.b64decode(letter.raw) == poison
        with pytest.raises(AssertionError, match=reason):
            raise AssertionError(letter.reason)
    row = OnlineStore(open_feast(workspace)).read_stream(["u"])["u"]
    assert row["history_items"] == [value["item_id"] for _, value in reversed(good)]
    assert counted(metrics, "shortlist_stream_records_refused_total") == len(POISON) >= 20
    verdict = recount(workspace, log, POSITIVE, wait_s=0, settle_s=0)
    assert (verdict["events"], verdict["refused"], verdict["wrong"]) == (len(good), len(POISON), 0)


def test_mended_letters_count_once_however_often_replayed(tmp_path):
    workspace, path = Workspace(tmp_path, "small"), tmp_path / "bad.jsonl"
    with closing(SqliteEventLog(workspace.event_log, PARTITIONS)) as log:
        log.append(
            "events", [click(1), click(2, event_at="yesterday"), click(3, event_type="hover")]
        )
        worked_off(workspace, log)
        write_letters(path, letters(log))
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        lines[0]["record"] = click(2)[1]  # the event itself, mended
        path.write_text("".join(json.dumps(line) + "\n" for line in lines))
        told = replay(log, read_letters(path))
        assert told["replayed"] == 1
        assert "event_type is 'hover'" in told["still_bad"][0]["reason"]
        assert [letter.replayed for letter in letters(log)] == [True, False]
        assert replay(log, read_letters(path))["replayed"] == 0
        log.append("events", [click(2)])  # as if the crash had come between the two appends
        worked_off(workspace, log)
        row = OnlineStore(open_feast(workspace)).read_stream(["u"])["u"]
        assert row["history_items"] == ["i2", "i1"]
        assert recount(workspace, log, POSITIVE, wait_s=0, settle_s=0)["wrong"] == 0


def test_the_command_lists_and_replays(tmp_path, monkeypatch):
    monkeypatch.setenv("SHORTLIST_HOME", str(tmp_path))
    monkeypatch.setenv("SHORTLIST_PARTITIONS", str(PARTITIONS))
    workspace, path = Workspace(tmp_path, "small"), tmp_path / "bad.jsonl"
    with closing(SqliteEventLog(workspace.event_log, PARTITIONS)) as log:
        log.append("events", [click(1, event_at="yesterday")])
        worked_off(workspace, log)
        run = CliRunner().invoke
        told = run(app, ["dead-letters", "list", "--dataset", "small"])
        assert "1 dead letters" in told.output
        assert (
            run(app, ["dead-letters", "list", "--dataset", "small", "--to", str(path)]).exit_code
            == 0
        )
        arguments = ["dead-letters", "replay", "--dataset", "small", "--from", str(path)]
        assert run(app, arguments).exit_code == 1  # nothing was mended
        path.write_text(path.read_text().replace("yesterday", START.isoformat()))
        assert run(app, arguments).exit_code == 0
        worked_off(workspace, log)
        assert online_of(workspace).read_stream(["u"])["u"]["history_items"] == ["i1"]


def test_what_is_no_letter_is_refused(tmp_path):
    path = tmp_path / "bad.jsonl"
    path.write_text('{"record": 1}\n')
    with pytest.raises(Exception, match=r"bad.jsonl, line 1 is no dead letter"):
        read_letters(path)
    assert Letter(0, 1, "k", "why", "{}", "").place == (0, 1)


def test_records_gone_unread_raise_an_alarm(kafka_address, tmp_path, caplog):
    """Retention overtook the worker: its partition stands and says so, the other goes on."""
    workspace, metrics = Workspace(tmp_path, "small"), StreamMetrics()
    gone, other = partition_of("u", PARTITIONS), 1 - partition_of("u", PARTITIONS)
    fine = next(f"v{n}" for n in range(99) if partition_of(f"v{n}", PARTITIONS) == other)
    with closing(KafkaEventLog(kafka_address, uuid4().hex, PARTITIONS)) as log:
        log.append("events", [click(n) for n in range(5)])
        with closing(open_client(KafkaAdminClient, kafka_address)) as admin:
            admin.delete_records({TopicPartition(log._name("events"), gone): 3})
        log.append("events", [click(9, fine)])
        with running(workspace, log, metrics=metrics) as failed:
            until(lambda: counted(metrics, "shortlist_stream_records_gone", partition=str(gone)))
            until(lambda: online_of(workspace).read_stream([fine]), seconds=60)
            assert offsets(workspace)[gone] == 0  # no silent reset
    assert not failed
    assert counted(metrics, "shortlist_stream_records_gone", partition=str(gone)) == 3
    assert "3 records of" in caplog.text
    assert "the log begins at 3" in caplog.text
    with closing(PartitionState(workspace.state, gone, PARTITIONS)) as state:
        assert state.number(GONE) == 3


@contextmanager
def showing(metrics: StreamMetrics):
    from prometheus_client import start_http_server

    port = free_port()
    server, thread = start_http_server(port, addr="127.0.0.1", registry=metrics.registry)
    yield f"http://127.0.0.1:{port}/metrics"
    server.shutdown()
    thread.join()


def test_status_shows_lag_dead_letters_and_lost_records():
    metrics = StreamMetrics()
    with showing(metrics) as url:
        metrics.lag.labels(0).set(3)
        metrics.lag.labels(1).set(4)
        assert folds(url)() == "lag 7"
        metrics.refused.inc(2)
        assert folds(url)() == "lag 7, 2 dead letters"
        metrics.gone.labels(1).set(12)
        with pytest.raises(Unwell, match="12 records were deleted before they were read"):
            folds(url)()
