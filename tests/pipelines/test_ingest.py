"""Into the lake: what adds up, what repeats, and what a crash leaves."""

import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.errors import ContractError
from features.schema import DatasetInfo
from infra.workspace import Workspace
from pipelines import ingest as module
from pipelines import lake
from pipelines.ingest import ingest, ingest_log
from pipelines.loaders.tables import Tables

NOW = datetime(2026, 3, 1, tzinfo=UTC)
INFO = DatasetInfo("shop", positive_types=("purchase",))


def events(count=6, **columns):
    frame = pd.DataFrame(
        {
            "event_type": "purchase",
            "user_id": [f"u{n % 3}" for n in range(count)],
            "item_id": [f"i{n % 2}" for n in range(count)],
            "event_at": [f"2026-02-0{1 + n % 4}T10:00:0{n % 10}Z" for n in range(count)],
            "value": [str(n) for n in range(count)],
        }
    )
    return frame.assign(**columns)


def tables(frame, items=None, users=None, unreadable=None):
    return Tables(frame, items, users, INFO, unreadable)


@pytest.fixture
def workspace(tmp_path):
    return Workspace(tmp_path, "shop")


def digests(workspace):
    return {
        path.relative_to(workspace.root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(workspace.root.rglob("*"))
        if path.is_file()
    }


def test_good_rows_arrive_typed_with_ids_and_arrival_times(workspace):
    result = ingest(workspace, tables(events()), now=NOW)
    assert result["rows"] == {"read": 6, "accepted": 6, "quarantined": 0, "new": 6}
    assert (result["items"], result["users"], result["quarantine_file"]) == (2, 3, None)
    stored = lake.read_events(workspace.lake)
    assert stored["event_id"].nunique() == 6
    assert (stored["seen_at"] == stored["event_at"]).all()
    assert sorted(stored["value"]) == [0, 1, 2, 3, 4, 5]
    assert lake.read_info(workspace.lake) == INFO


@settings(max_examples=25, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["u", "v", "", None]),
            st.sampled_from(["2026-02-01", "2027-01-01", "never", "1770000000"]),
            st.sampled_from(["1", "-1", "x", None]),
            st.sampled_from(["a", "b", None]),
        ),
        max_size=12,
    ),
    st.integers(0, 3),
)
def test_read_is_always_accepted_plus_quarantined(tmp_path_factory, rows, lines):
    frame = pd.DataFrame(rows, columns=["user_id", "event_at", "value", "event_id"])
    frame = frame.assign(event_type="purchase", item_id="i")
    unreadable = pd.DataFrame(
        {"row": range(lines), "column": "line", "value": "?", "reason": "2 columns"}
    )
    workspace = Workspace(tmp_path_factory.mktemp("home"), "shop")
    file = workspace.quarantine / "shop-events.csv"
    try:
        counts = ingest(workspace, tables(frame, unreadable=unreadable), now=NOW)["rows"]
    except ContractError:
        counts = {
            "read": len(rows) + lines,
            "accepted": 0,
            "quarantined": len(rows) + lines,
            "new": 0,
        }
        assert not workspace.lake.exists()
    assert counts["read"] == len(rows) + lines == counts["accepted"] + counts["quarantined"]
    listed = len(pd.read_csv(file)) if file.exists() else 0
    assert listed == counts["quarantined"]
    assert counts["new"] == counts["accepted"]


def test_the_same_source_twice_changes_no_byte(workspace):
    frame = events(user_id=["u", "u", "v", None, "w", "w"])
    items = pd.DataFrame({"item_id": ["i0", "i9", "i9"], "title": ["Zero", "Nine", "Again"]})
    source = tables(frame, items, pd.DataFrame({"user_id": ["u"], "location": ["here"]}))
    first = ingest(workspace, source, now=NOW)
    before = digests(workspace)
    second = ingest(workspace, source, now=NOW)
    assert digests(workspace) == before
    assert second["rows"] == {**first["rows"], "new": 0}
    assert first["rows"]["quarantined"] == 1


def test_a_file_that_grew_adds_only_what_is_new(workspace):
    ingest(workspace, tables(events(4)), now=NOW)
    assert ingest(workspace, tables(events(6)), now=NOW)["rows"]["new"] == 2


def test_the_quarantine_names_row_column_value_and_reason(workspace):
    frame = events(
        user_id=["u", "", "v", "v", "w", "w"], event_at=["2026-02-01"] * 5 + ["2026-04-01"]
    )
    result = ingest(workspace, tables(frame), now=NOW)
    listed = pd.read_csv(result["quarantine_file"], keep_default_na=False)
    assert listed.to_dict("records") == [
        {"row": 2, "column": "user_id", "value": "", "reason": "missing"},
        {"row": 6, "column": "event_at", "value": "2026-04-01", "reason": "in the future"},
    ]
    assert result["reasons"] == {"user_id: missing": 1, "event_at: in the future": 1}


def test_a_clean_run_leaves_no_stale_quarantine(workspace):
    ingest(workspace, tables(events(user_id=["u", None] * 3)), now=NOW)
    assert (workspace.quarantine / "shop-events.csv").exists()
    ingest(workspace, tables(events()), now=NOW)
    assert not (workspace.quarantine / "shop-events.csv").exists()


def test_a_repeated_event_id_keeps_the_first_row(workspace):
    result = ingest(workspace, tables(events(event_id=["a", "b", "a", "c", "a", "d"])), now=NOW)
    assert result["rows"] == {"read": 6, "accepted": 4, "quarantined": 2, "new": 4}
    assert result["reasons"] == {"event_id: repeats an earlier row": 2}
    kept = lake.read_events(workspace.lake).set_index("event_id")["value"]
    assert kept["a"] == 0.0


def test_bad_item_rows_go_to_a_file_of_their_own(workspace):
    items = pd.DataFrame(
        {"item_id": ["i0", None], "title": ["Zero", "Nobody"], "price": ["-2", "1"]}
    )
    ingest(workspace, tables(events(), items), now=NOW)
    listed = pd.read_csv(workspace.quarantine / "shop-items.csv")
    assert listed["reason"].tolist() == ["negative; kept without it", "missing"]
    stored = lake.read_items(workspace.lake).set_index("item_id")
    assert stored.loc["i0", "title"] == "Zero"
    assert stored.loc["i1", "title"] == "i1"


def test_when_nothing_is_usable_the_message_counts_the_reasons(workspace):
    told = r"not one of 6 rows could be used: 6 x user_id: missing; every row is listed in .*events\.csv"
    with pytest.raises(ContractError, match=told):
        ingest(workspace, tables(events(user_id=None)), now=NOW)
    assert (workspace.quarantine / "shop-events.csv").exists()
    assert not workspace.lake.exists()


def test_an_empty_source_says_so(workspace):
    with pytest.raises(ContractError, match="the source has no rows; expected at least one event"):
        ingest(workspace, tables(events(0)), now=NOW)


# The event log.


@dataclass(frozen=True)
class Entry:
    offset: int
    value: dict


class ListLog:
    """The log's interface over lists."""

    def __init__(self, *partitions):
        self._partitions = [list(entries) for entries in partitions]
        self.reads = 0

    @property
    def partitions(self):
        return len(self._partitions)

    def append(self, partition, value):
        self._partitions[partition].append(value)

    def read(self, topic, partition, offset, limit):
        assert topic == "events"
        self.reads += 1
        values = self._partitions[partition][offset : offset + limit]
        return [Entry(offset + n, value) for n, value in enumerate(values)]


def logged(event_id, **fields):
    return {
        "event_id": event_id,
        "event_type": "click",
        "user_id": "u",
        "item_id": "i",
        "event_at": "2026-03-05T10:00:00+00:00",
        "seen_at": "2026-03-05T10:00:01+00:00",
        "context": {"device": "mobile"},
        **fields,
    }


def test_the_log_is_copied_once_and_then_only_what_is_new(workspace):
    log = ListLog([logged("a"), logged("b")], [logged("c", user_id="v")])
    assert ingest_log(workspace, log)["rows"]["new"] == 3
    assert ingest_log(workspace, log)["rows"] == {
        "read": 0,
        "accepted": 0,
        "quarantined": 0,
        "new": 0,
    }
    log.append(1, logged("d"))
    assert ingest_log(workspace, log)["rows"]["read"] == 1
    stored = lake.read_events(workspace.lake)
    assert sorted(stored["event_id"]) == ["a", "b", "c", "d"]
    assert stored["context"].unique().tolist() == ['{"device": "mobile"}']
    assert lake.read_users(workspace.lake)["user_id"].tolist() == ["u", "v"]


def test_an_unknown_item_of_the_log_gets_a_row_and_a_known_one_keeps_its_title(workspace):
    items = pd.DataFrame({"item_id": ["i0", "i1"], "title": ["Zero", "One"]})
    ingest(workspace, tables(events(), items), now=NOW)
    ingest_log(workspace, ListLog([logged("a", item_id="i0"), logged("b", item_id="new")]))
    titles = lake.read_items(workspace.lake).set_index("item_id")["title"]
    assert titles.to_dict() == {"i0": "Zero", "i1": "One", "new": "new"}


def test_a_crash_before_the_offset_repeats_but_never_doubles(workspace, monkeypatch):
    log = ListLog([logged("a"), logged("b")])
    real = lake.write_text

    def dies(path, text):
        if path.name == "log_offsets.json":
            raise KeyboardInterrupt
        real(path, text)

    monkeypatch.setattr(module.lake, "write_text", dies)
    with pytest.raises(KeyboardInterrupt):
        ingest_log(workspace, log)
    monkeypatch.setattr(module.lake, "write_text", real)
    assert ingest_log(workspace, log)["rows"] == {
        "read": 2,
        "accepted": 2,
        "quarantined": 0,
        "new": 0,
    }
    assert len(lake.read_events(workspace.lake)) == 2


def test_a_retried_event_counts_as_accepted_and_not_as_new(workspace):
    result = ingest_log(workspace, ListLog([logged("a"), logged("a")]))
    assert result["rows"] == {"read": 2, "accepted": 2, "quarantined": 0, "new": 1}


def test_a_bad_record_is_named_by_partition_and_offset(workspace):
    log = ListLog([logged("a")], [logged("b"), {"event_id": "c"}, logged("d", event_type="stare")])
    result = ingest_log(workspace, log)
    assert result["rows"] == {"read": 4, "accepted": 2, "quarantined": 2, "new": 2}
    assert pd.read_csv(result["quarantine_file"])["row"].tolist() == ["1:1", "1:2"]


def test_half_an_emoji_in_the_log_is_refused_and_can_be_written_down(workspace):
    result = ingest_log(workspace, ListLog([logged("a"), logged("b", item_id="\ud83d")]))
    assert result["reasons"] == {"item_id: contains a control character": 1}
    assert pd.read_csv(result["quarantine_file"])["value"].tolist() == [r"\ud83d"]


def test_a_long_log_is_copied_in_batches(workspace, monkeypatch):
    monkeypatch.setattr(module, "LOG_BATCH", 2)
    log = ListLog([logged(f"e{n}") for n in range(5)])
    assert ingest_log(workspace, log)["rows"]["new"] == 5
    assert log.reads == 4  # 2 + 2 + 1, and one that finds nothing


def test_every_kind_of_log_is_copied_into_the_same_lake(workspace, open_log, monkeypatch):
    monkeypatch.setattr(module, "LOG_BATCH", 7)
    log = open_log(partitions=3)
    log.append("events", [(f"u{n}", logged(f"e{n}", user_id=f"u{n}")) for n in range(60)])
    log.append("served", [("u1", {"request_id": "r"})])
    log.append("events", [("u1", logged("e1", user_id="u1"))])  # the relay sent it twice
    copied = {"read": 61, "accepted": 61, "quarantined": 0, "new": 60}
    assert ingest_log(workspace, log)["rows"] == copied
    assert ingest_log(workspace, open_log(partitions=3))["rows"]["read"] == 0
    log.append("events", [("u9", logged("late", user_id="u9"))])
    assert ingest_log(workspace, log)["rows"]["new"] == 1
    assert len(lake.read_events(workspace.lake)) == 61
