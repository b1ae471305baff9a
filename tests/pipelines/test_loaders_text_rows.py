"""Broken lines cost themselves and nothing else."""

import csv
import io

import duckdb
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.errors import ContractError
from pipelines.loaders.text_rows import read_text


@pytest.fixture
def read(tmp_path):
    def read(content, separator=None, header=True):
        path = tmp_path / "file.csv"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return read_text(path, separator, header)

    return read


def good(count):
    return "".join(f"u{n},i{n},{n}\n" for n in range(count))


def test_a_stray_quote_costs_no_other_line(read, tmp_path):
    content = "user,item,time\n" + good(20) + '"oops,9,9\n' + good(30)
    rows = read(content)
    assert len(rows.cells) == 20 + 1 + 30
    assert rows.cells["user"][20] == "oops"  # its quote was no quote
    # What readers that trust the quote make of it:
    swallowed = list(csv.reader(io.StringIO(content)))
    assert len(swallowed) == 1 + 20 + 1
    assert len(pd.read_csv(io.StringIO(content), on_bad_lines="skip", engine="python")) <= 20
    path = tmp_path / "file.csv"
    columns = "{'user': 'VARCHAR', 'item': 'VARCHAR', 'time': 'VARCHAR'}"
    options = "header=true, delim=',', quote='\"', store_rejects=true, auto_detect=false"
    query = f"FROM read_csv('{path}', columns={columns}, {options})"
    assert len(duckdb.sql(query).fetchall()) == 20


def test_two_stray_quotes_do_not_meet(read):
    rows = read("user,item,time\n" + '"a,1,1\n' + good(3) + 'b,2,"2\n' + good(3))
    assert len(rows.cells) == 8
    assert rows.unreadable.empty


def test_a_quoted_value_may_hold_separators_quotes_and_line_breaks(read):
    rows = read('id,title\n1,"a, b"\n2,"say ""hi"""\n3,"two\nlines"\n4,last\n')
    assert rows.cells["title"].tolist() == ["a, b", 'say "hi"', "two\nlines", "last"]
    assert rows.numbers == [2, 3, 4, 6]


def test_lines_of_another_width_are_refused_with_their_number(read):
    rows = read("a,b,c\n1,2,3\n4,5\n\n6,7,8,9\n10,11,12,\n")
    assert rows.numbers == [2, 6]  # empty columns at the end are no columns
    assert rows.unreadable.to_dict("records") == [
        {"row": 3, "column": "line", "value": "4,5", "reason": "2 columns where 3 are expected"},
        {
            "row": 5,
            "column": "line",
            "value": "6,7,8,9",
            "reason": "4 columns where 3 are expected",
        },
    ]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_all_three_line_ends_and_a_mixture_are_lines(read, end):
    assert len(read(f"a,b{end}1,2{end}3,4").cells) == 2
    assert len(read(f"a,b\n1,2{end}3,4\n5,6").cells) == 3


@pytest.mark.parametrize("separator", [",", ";", "\t", "|", "::"])
def test_the_separator_is_found(read, separator):
    lines = [["user", "item", "title"], ["1", "2", "x"], ["3", "4", "y"]]
    rows = read("\n".join(separator.join(line) for line in lines))
    assert list(rows.cells.columns) == ["user", "item", "title"]
    assert rows.cells["title"].tolist() == ["x", "y"]


def test_commas_inside_of_text_do_not_win_over_the_separator(read):
    rows = read("id;title\n1;a, b\n2;c, d\n3;e, f\n")
    assert rows.cells["title"].tolist() == ["a, b", "c, d", "e, f"]


def test_double_colons_without_header_are_numbered_columns(read):
    rows = read("1::1193::5::978300760\n2::661::3::978302109\n", "::", header=False)
    assert list(rows.cells.columns) == ["1", "2", "3", "4"]
    assert rows.numbers == [1, 2]


def test_words_for_nothing_are_nothing(read):
    rows = read("a,b\nNULL,x\nNaN,\\N\n ,y\n")
    assert rows.cells["a"].tolist() == [None, None, None]
    assert rows.cells["b"].tolist() == ["x", None, "y"]


def test_repeated_names_are_told_apart(read):
    assert list(read("a,a,b\n1,2,3\n").cells.columns) == ["a", "a.1", "b"]


def test_marks_at_the_start_of_a_file_are_no_letters(read):
    assert list(read("\ufeffuser,item\n1,2\n").cells.columns) == ["user", "item"]
    assert list(read("user,item\n1,2\n".encode("utf-16")).cells.columns) == ["user", "item"]


def test_a_line_in_another_encoding_is_refused_alone(read):
    rows = read(b"user,item\n1,caf\xe9\n2,tea\n")
    assert rows.cells["item"].tolist() == ["tea"]
    assert rows.unreadable["reason"].tolist() == ["not UTF-8: save the file in that encoding"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty; expected one row a line"),
        (b"\n \n\r\n", "is empty; expected one row a line"),
        (b"\x89PNG\r\n\x1a\n\x00\x00", "is binary; expected CSV text or Parquet"),
        (b"PK\x03\x04rest", "is a ZIP, Excel or gzip file; .* save it as CSV"),
        (b"\x1f\x8brest", "is a ZIP, Excel or gzip file"),
    ],
)
def test_what_is_no_text_is_refused_whole(read, content, message):
    with pytest.raises(ContractError, match=message):
        read(content)


cell = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=5)


@given(st.lists(st.tuples(cell, cell, cell), min_size=1, max_size=6))
def test_what_csv_writes_is_read_back(tmp_path_factory, rows):
    path = tmp_path_factory.mktemp("csv") / "file.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, quoting=csv.QUOTE_ALL).writerows([("a", "b", "c"), *rows])
    read = read_text(path, ",", header=True)
    blank = {"", "null", "none", "nan", "na", "n/a", "\\n"}
    expected = [[None if v.strip().lower() in blank else v.strip() for v in row] for row in rows]
    assert [list(row) for row in read.cells.itertuples(index=False)] == expected
    assert read.unreadable.empty
