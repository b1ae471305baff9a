"""Somebody's files, good and bad: each works, or says clearly what is wrong; no traceback."""

import random
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.errors import ContractError
from infra.workspace import Workspace
from pipelines import lake
from pipelines.ingest import ingest
from pipelines.loaders.own_files import load

NOW = datetime(2026, 3, 1, tzinfo=UTC)
SECONDS = 1_770_000_000  # 2026-02-02


@pytest.fixture
def shop(tmp_path):
    """Write files, load them, put them into a lake; returns what ingest says and the events."""

    def shop(events, items=None, users=None, **options):
        def written(name, content):
            if content is None or isinstance(content, Path):
                return content
            path = tmp_path / name
            path.write_bytes(content if isinstance(content, bytes) else content.encode())
            return path

        settings = {
            "columns": {},
            "separator": None,
            "header": True,
            "event_type": "purchase",
            "hide_seen": False,
        }
        tables = load(
            "shop",
            written("events.csv", events),
            written("items.csv", items),
            written("users.csv", users),
            **{**settings, **options},
        )
        workspace = Workspace(tmp_path / "home", "shop")
        result = ingest(workspace, tables, now=NOW)
        assert result["rows"]["read"] == result["rows"]["accepted"] + result["rows"]["quarantined"]
        return result, workspace.lake

    return shop


def rows(count, separator=","):
    return "".join(
        separator.join([f"u{n % 7}", f"i{n % 11}", str(SECONDS + 60 * n), f"{n}.5"]) + "\n"
        for n in range(count)
    )


def test_our_own_names_need_no_flag(shop):
    result, folder = shop("user_id,item_id,event_at,value\n" + rows(20))
    assert result["rows"] == {"read": 20, "accepted": 20, "quarantined": 0, "new": 20}
    events = lake.read_events(folder)
    assert set(events["event_type"]) == {"purchase"}
    assert events["event_at"].min() == pd.Timestamp(SECONDS, unit="s", tz="UTC")


def test_usual_names_are_recognised(shop):
    result, folder = shop(
        "CustomerID,Product,Timestamp,Amount\n".replace("CustomerID", "Customer_ID") + rows(5)
    )
    assert result["rows"]["accepted"] == 5
    assert lake.read_events(folder)["value"].tolist() == [0.5, 1.5, 2.5, 3.5, 4.5]


def test_other_column_names_are_mapped(shop):
    columns = {"user_id": "wer", "item_id": "Was", "event_at": "wann", "value": "preis"}
    result, folder = shop("preis,wann,was,wer\n3.5,2026-02-01 10:00,apfel,ada\n", columns=columns)
    assert result["rows"]["accepted"] == 1
    event = lake.read_events(folder).iloc[0]
    assert (event["user_id"], event["item_id"], event["value"]) == ("ada", "apfel", 3.5)


def test_double_colons_without_header_are_mapped_by_number(shop):
    columns = {"user_id": "1", "item_id": "2", "value": "4", "event_at": "3"}
    result, folder = shop(
        rows(9, "::"),
        columns=columns,
        separator="::",
        header=False,
        event_type="rating",
        hide_seen=True,
    )
    assert result["rows"]["accepted"] == 9
    info = lake.read_info(folder)
    assert (info.positive_types, info.seen_filter) == (("rating",), True)


@pytest.mark.parametrize("separator", [";", "\t", "|", ","])
def test_any_separator_is_found_or_given(shop, separator):
    content = (
        separator.join(["user_id", "item_id", "event_at", "value"]) + "\n" + rows(5, separator)
    )
    assert shop(content)[0]["rows"]["accepted"] == 5
    given = "tab" if separator == "\t" else separator
    assert shop(content, separator=given)[0]["rows"]["new"] == 0


def test_types_are_read_from_a_column_and_translated(shop):
    content = (
        "visitorid,itemid,event,timestamp\n"
        "a,x,view,1770000000000\na,x,addtocart,1770000001000\na,x,transaction,1770000002000\n"
        "b,x,stare,1770000003000\n"
    )
    result, folder = shop(content)
    assert lake.read_events(folder)["event_type"].tolist() == ["view", "cart", "purchase"]
    assert lake.read_info(folder).positive_types == ("cart", "purchase")
    assert list(result["reasons"]) == [
        "event_type: not one of impression, view, click, cart, purchase, rating"
    ]


def test_a_file_of_nothing_but_views_counts_views(shop):
    _, folder = shop("user,item,time\na,x,2026-02-01\n", event_type="view")
    assert lake.read_info(folder).positive_types == ("view",)


def test_parquet_is_read_whatever_its_types(shop, tmp_path):
    path = tmp_path / "events.parquet"
    pd.DataFrame(
        {
            "user_id": [1, 2, 3],
            "item_id": ["a", "b", "c"],
            "event_at": pd.to_datetime(["2026-02-01T10:00:00Z"] * 3),
            "value": [1.5, None, 2.5],
            "tags": [["x"], [], ["y", "z"]],
        }
    ).to_parquet(path)
    result, folder = shop(path)
    assert result["rows"]["accepted"] == 3
    events = lake.read_events(folder)
    assert sorted(events["user_id"]) == ["1", "2", "3"]
    assert events["event_at"].iloc[0] == pd.Timestamp("2026-02-01T10:00:00Z")


def test_items_and_users_bring_titles_categories_and_places(shop):
    items = "item_id;name;genre;price\ni0;Apple;Fruit;1.5\ni1;Beet;Root;-3\n"
    users = "user_id|country\nu0|Chile\n"
    _, folder = shop("user_id,item_id,event_at,value\n" + rows(3), items, users)
    catalogue = lake.read_items(folder).set_index("item_id")
    assert catalogue["title"].to_dict() == {"i0": "Apple", "i1": "Beet", "i2": "i2"}
    assert catalogue["category"].to_dict() == {"i0": "Fruit", "i1": "Root", "i2": "other"}
    assert catalogue["price"].isna().to_dict() == {"i0": False, "i1": True, "i2": True}
    assert lake.read_users(folder).set_index("user_id").loc["u0", "location"] == "Chile"


def test_item_files_may_name_the_id_as_the_events_do_or_have_no_header(shop):
    events = "user,sku,time\na,x,2026-02-01\n"
    _, folder = shop(events, "sku,title\nx,Xylophone\n", columns={"item_id": "sku"})
    assert lake.read_items(folder)["title"].tolist() == ["Xylophone"]
    _, folder = shop(
        "a::x::2026-02-01\n", "x::Xylo::Music\n", separator="::", header=False,
        columns={"user_id": "1", "item_id": "2", "event_at": "3"},
    )  # fmt: skip
    assert lake.read_items(folder)[["title", "category"]].to_numpy().tolist() == [["Xylo", "Music"]]


def test_a_wrong_column_is_answered_with_the_columns_there_are(shop):
    content = "kunde,was,wann\nada,apfel,2026-02-01\n"
    with pytest.raises(
        ContractError,
        match=r"no column 'wer' in .*; its columns are: kunde, was, wann \(first row: ada, apfel, "
        r"2026-02-01\); name the right one with --user-column",
    ):
        shop(content, columns={"user_id": "wer"})
    with pytest.raises(ContractError, match=r"no column for user_id in .* with --user-column"):
        shop(content)
    with pytest.raises(ContractError, match=r"no column '9' in .*its columns are: 1, 2, 3"):
        shop(content, columns={"user_id": "9"}, header=False)


def test_a_wrong_separator_is_suspected(shop):
    with pytest.raises(ContractError, match="is the separator right"):
        shop("user_id;item_id;event_at\na;b;2026-02-01\n", separator=",")


def test_items_without_an_id_are_refused(shop):
    with pytest.raises(ContractError, match=r"no column for item_id in .*; rename one to item_id"):
        shop("user,item,time\na,x,2026-02-01\n", "colour,size\nred,9\n")


def test_an_unknown_event_type_is_refused(shop):
    with pytest.raises(ContractError, match="event type 'stare' is not one of impression"):
        shop("user,item,time\na,x,2026-02-01\n", event_type="stare")


def test_what_cannot_be_opened_says_why(shop, tmp_path, monkeypatch):
    with pytest.raises(ContractError, match=r"no file at .*; expected CSV or Parquet"):
        shop(tmp_path / "nowhere.csv")
    with pytest.raises(ContractError, match="cannot be read: Is a directory"):
        shop(tmp_path)

    def denied(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", denied)  # root may open everything, so chmod proves nothing
    with pytest.raises(ContractError, match="Permission denied; expected a file that you may open"):
        shop(tmp_path / "locked.csv")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\x89PNG\r\n\x1a\n\x00\x01\x02", "is binary"),
        (bytes(range(256)) * 40, "is binary"),
        (b"PAR1 and then nothing of the kind", "is not a readable Parquet file"),
        (b"", "is empty"),
        (b"user_id,item_id,event_at\n", "the source has no rows; expected at least one event"),
    ],
)
def test_unreadable_and_empty_files_say_so(shop, content, message):
    with pytest.raises(ContractError, match=message):
        shop(content)


def test_one_user_and_one_item_are_data_too(shop):
    content = "user_id,item_id,event_at\n" + "".join(f"u,i{n},{SECONDS + n}\n" for n in range(9))
    assert shop(content)[0]["users"] == 1
    content = "user_id,item_id,event_at\n" + "".join(f"v{n},i,{SECONDS + n}\n" for n in range(9))
    assert shop(content)[0]["rows"]["accepted"] == 9


def test_the_future_negative_prices_and_repeated_ids_are_quarantined(shop):
    content = (
        "event_id,user_id,item_id,event_at,value\n"
        "a,u,i,2026-02-01,1\nb,u,i,2031-01-01,1\nc,u,i,2026-02-02,-5\na,v,i,2026-02-03,1\n"
    )
    result, folder = shop(content)
    assert result["rows"] == {"read": 4, "accepted": 1, "quarantined": 3, "new": 1}
    listed = pd.read_csv(result["quarantine_file"])
    assert list(zip(listed["row"], listed["reason"], strict=True)) == [
        (3, "in the future"),
        (4, "negative"),
        (5, "repeats an earlier row"),
    ]
    assert lake.read_events(folder)["event_id"].tolist() == ["a"]


def test_one_percent_of_garbage_costs_one_percent(shop):
    garbage = random.Random(4)
    lines = rows(2_000).splitlines()
    bad = garbage.sample(range(2_000), 20)
    for place in bad:
        lines[place] = "".join(
            garbage.choices('",;\x07é\U0001f600 abc\\', k=garbage.randint(1, 60))
        )
    result, folder = shop("user_id,item_id,event_at,value\n" + "\n".join(lines))
    blank = sum(not lines[place].strip() for place in bad)
    assert result["rows"]["accepted"] == 1_980
    assert result["rows"]["quarantined"] == 20 - blank
    listed = pd.read_csv(result["quarantine_file"])
    assert set(listed["row"]) <= {place + 2 for place in bad}  # line 1 is the header
    assert len(lake.read_events(folder)) == 1_980


def test_the_same_file_twice_adds_nothing(shop):
    content = "user_id,item_id,event_at,value\n" + rows(20) + rows(3)
    assert shop(content)[0]["rows"]["new"] == 23
    assert shop(content)[0]["rows"]["new"] == 0


def test_whole_numbers_with_gaps_stay_whole_in_parquet(shop, tmp_path):
    path = tmp_path / "events.parquet"
    frame = pd.DataFrame(
        {
            "user_id": pd.array([1, None, 3], dtype="Int64"),
            "item_id": pd.Categorical(["a", "b", "a"]),
            "date": [datetime(2026, 2, 1).date()] * 3,
        }
    )
    frame.to_parquet(path)
    result, folder = shop(path)
    assert result["reasons"] == {"user_id: missing": 1}
    assert lake.read_events(folder)["user_id"].tolist() == ["1", "3"]


def test_unreadable_lines_of_the_item_file_are_listed_too(shop, tmp_path):
    items = b"item_id,title\nx,Xylophone\n" + "y,Café\n".encode("latin-1")
    _, folder = shop("user,item,time\na,x,2026-02-01\na,y,2026-02-01\n", items)
    listed = pd.read_csv(folder.parent / "quarantine" / "shop-items.csv")
    assert listed[["row", "reason"]].to_numpy().tolist() == [
        [3, "not UTF-8: save the file in that encoding"]
    ]
    assert listed["value"].tolist() == [r"y,Caf\xe9"]
    assert lake.read_items(folder)["title"].tolist() == ["Xylophone", "y"]


def test_a_header_in_another_encoding_can_still_be_told(shop):
    with pytest.raises(ContractError, match=r"its columns are: Schl\\xfcssel, was, wann") as error:
        shop("Schlüssel,was,wann\na,b,2026-02-01\n".encode("latin-1"))
    str(error.value).encode()


HEADER = b"user_id,item_id,event_at\n"
pieces = st.one_of(
    st.binary(max_size=30),
    st.sampled_from(
        [b"u,i,2026-02-01\n", b'"', b",", b"\n", b"\r\n", b"\x00", b"\xff\xfe", b"\xed\xa0\x80"]
    ),
)


@settings(max_examples=80, deadline=None)
@given(st.sampled_from([b"", HEADER, b"\xff\xfe", b"PAR1"]), st.lists(pieces, max_size=8))
def test_whatever_bytes_a_file_holds_there_is_no_traceback(tmp_path_factory, start, content):
    folder = tmp_path_factory.mktemp("bytes")
    path = folder / "events.csv"
    path.write_bytes(start + b"".join(content))
    try:
        tables = load(
            "shop", path, path, None, columns={}, separator=None, header=True,
            event_type="click", hide_seen=False,
        )  # fmt: skip
        rows = ingest(Workspace(folder, "shop"), tables, now=NOW)["rows"]
    except ContractError as error:
        str(error).encode()  # can be printed
    else:
        assert rows["read"] == rows["accepted"] + rows["quarantined"] > 0
