"""Rows of a delimited text file, each with its line number, and the lines that are no rows.

Why not a library's reader: one stray quote makes csv, pandas and DuckDB alike swallow the lines
that follow as one value, DuckDB's strict mode refuses a file with mixed line ends, and pandas
drops what it cannot split without saying which lines. Here a line is a row, unless a quote is
left open *and* the lines below close it into the expected number of columns.
"""

import csv
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from features.errors import ContractError

SEPARATORS = ("\t", "::", ";", "|", ",")
"""Tried in this order where none is given; a comma last, because it occurs inside of text."""

SAMPLE_LINES = 200
SAMPLE_BYTES = 65_536
VALUE_LENGTH = 200
"""Characters of a refused line kept in the quarantine file."""

JOINED_LINES_MAX = 50
"""A quoted value may span this many lines; beyond it the quote is a stray one."""

BLANKS = frozenset({"", "null", "none", "nan", "na", "n/a", "\\n"})
"""Cells that say "nothing", in lower case."""

UNDECODED = re.compile("[\udc80-\udcff]")
UNIT = "\x1f"
"""Stands for a separator of several characters inside csv, which knows only single ones."""


@dataclass(frozen=True, slots=True)
class Rows:
    """What was split, and what could not be."""

    cells: pd.DataFrame  # stripped text, None where blank
    numbers: list[int]  # 1-based line of each row of `cells`
    unreadable: pd.DataFrame  # row, column, value, reason


def read_text(path: Path, separator: str | None, header: bool) -> Rows:
    """Split a text file.

    Args:
        path: a file that can be opened; UTF-8, or UTF-16 with its mark. It is held in memory.
        separator: one or more characters; None = found from the first lines.
        header: the first line names the columns; without it they are named "1", "2", ...

    Raises:
        ContractError: the file is binary or empty.

    Interview: A CSV of a million lines has a few broken ones. How do you read it?
        Line by line, with the expected number of columns in hand, so that a stray quote costs at
        most its own line. A reader that honours an open quote runs on to the next quote, and
        hundreds of good rows vanish inside a single value.
        Trade-off: quoted values with line breaks need a look-ahead, and pure Python is several
        times slower than a compiled reader.
        Shown by: tests/pipelines/test_loaders_text_rows.py::test_a_stray_quote_costs_no_other_line
    """
    lines = _lines(path)
    start = next((at for at, line in enumerate(lines) if line.strip()), None)
    if start is None:
        raise ContractError(f"{path} is empty; expected one row a line")
    sample = [line for line in lines[start : start + SAMPLE_LINES] if line.strip()]
    separator = separator or _found_separator(sample)
    if not header:
        widths = Counter(len(_split(line, separator) or ()) for line in sample)
        names = [str(place + 1) for place in range(widths.most_common(1)[0][0])]
        return _rows(lines, start, separator, names)
    titles = _split(lines[start], separator) or lines[start].split(separator)
    return _rows(lines, start + 1, separator, _distinct([_shown(title) for title in titles]))


def _lines(path: Path) -> list[str]:
    """The lines without their ends, whichever of the three kinds these are."""
    with path.open("rb") as file:
        head = file.read(SAMPLE_BYTES)
    is_utf16 = head.startswith((b"\xff\xfe", b"\xfe\xff"))
    if head.startswith((b"PK\x03\x04", b"\x1f\x8b")):
        raise ContractError(
            f"{path} is a ZIP, Excel or gzip file; expected CSV text or Parquet: "
            "unpack it, or save it as CSV"
        )
    if b"\x00" in head and not is_utf16:
        raise ContractError(f"{path} is binary; expected CSV text or Parquet")
    # surrogateescape keeps bytes that are no UTF-8 recognisable; UTF-16 has no such thing.
    encoding, errors = ("utf-16", "replace") if is_utf16 else ("utf-8-sig", "surrogateescape")
    with path.open(encoding=encoding, errors=errors) as file:
        return [line.rstrip("\n") for line in file]


def _rows(lines: list[str], start: int, separator: str, names: list[str]) -> Rows:
    numbers, cells, refused = [], [], []
    at = start
    while at < len(lines):
        line, taken = lines[at], 1
        if line.strip():
            values = _split(line, separator)
            if values is None:
                values, taken = _closed(lines, at, separator, len(names))
            while len(values) > len(names) and values[-1] == "":
                values.pop()
            if fault := _fault(line, values, len(names)):
                refused.append((at + 1, "line", _shown(line)[:VALUE_LENGTH], fault))
            else:
                numbers.append(at + 1)
                cells.append(values)
        at += taken
    columns = list(zip(*cells, strict=True)) or [()] * len(names)
    cleaned = ([_cell(value) for value in column] for column in columns)
    table = pd.DataFrame(dict(zip(names, cleaned, strict=True)), dtype=object)
    unreadable = pd.DataFrame(refused, columns=["row", "column", "value", "reason"])
    return Rows(table, numbers, unreadable)


def _split(text: str, separator: str) -> list[str] | None:
    """The values of a row; None where its quotes do not fit."""
    if '"' not in text:
        return text.split(separator)
    single = separator if len(separator) == 1 else UNIT
    lines = text.replace(separator, single).splitlines(keepends=True)
    try:
        rows = list(csv.reader(lines, delimiter=single, strict=True))
    except csv.Error:
        return None
    return [value.replace(single, separator) for value in rows[0]] if len(rows) == 1 else None


def _closed(lines: list[str], at: int, separator: str, width: int) -> tuple[list[str], int]:
    """A row whose quoted value spans lines, and how many; else the line with quotes as plain text."""
    for taken in range(2, min(JOINED_LINES_MAX, len(lines) - at) + 1):
        if '"' in lines[at + taken - 1]:
            values = _split("\n".join(lines[at : at + taken]), separator)
            if values is not None and len(values) == width:
                return values, taken
    return [value.strip().strip('"') for value in lines[at].split(separator)], 1


def _fault(line: str, values: list[str], width: int) -> str | None:
    if len(values) != width:
        return f"{len(values)} columns where {width} are expected"
    if not line.isascii() and UNDECODED.search(line):
        return "not UTF-8: save the file in that encoding"
    return None


def _shown(text: str) -> str:
    """Text that can be written and printed: bytes that were no UTF-8 by their numbers."""
    return text.strip().encode(errors="surrogateescape").decode(errors="backslashreplace")


def _cell(value: str) -> str | None:
    value = value.strip()
    return None if value.lower() in BLANKS else value


def _found_separator(sample: list[str]) -> str:
    """The candidate that splits most lines into one and the same number of columns, above one."""

    def agreement(separator: str) -> int:
        counts = Counter(line.count(separator) for line in sample if separator in line)
        return max(counts.values(), default=0)

    return max(SEPARATORS, key=agreement)  # the first of equals


def _distinct(names: list[str]) -> list[str]:
    """Repeated names get a number, as pandas does: a, a.1, a.2."""
    seen: Counter[str] = Counter()
    distinct = []
    for name in names:
        distinct.append(f"{name}.{seen[name]}" if seen[name] else name)
        seen[name] += 1
    return distinct
