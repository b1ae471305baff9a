"""Where the truth would show if it leaked: names of columns and keys in whatever a folder holds."""

import json
import re
import sqlite3
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

ORACLE = re.compile(
    "quality|style|taste|budget|activity|attract|relevance|utility|oracle|truth|mood|segment|intent|"
    "satisf|examin|appeal|boredom|generos|patience|minority|is_bot",
    re.I,
)


def columns_of(folder: Path) -> set[str]:
    """Every column, array and JSON key of the files below a folder, by what it is called."""
    names: set[str] = set()
    for path in sorted(folder.rglob("*")):
        if path.suffix == ".parquet":
            names |= set(pq.read_schema(path).names)
        elif path.suffix == ".npz":
            with np.load(path) as arrays:
                names |= set(arrays.files)
        elif path.suffix == ".json":
            names |= _keys(json.loads(path.read_text()))
        elif path.is_file() and path.read_bytes()[:15] == b"SQLite format 3":
            names |= _tables(path)
    return names


def _keys(content: object) -> set[str]:
    if isinstance(content, dict):
        return set(map(str, content)).union(*map(_keys, content.values()))
    if isinstance(content, list):
        return set[str]().union(*map(_keys, content))
    return set()


def _tables(path: Path) -> set[str]:
    """Columns of a database, and the keys of JSON that its text columns hold."""
    names: set[str] = set()
    with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as database:
        tables = database.execute("select name from sqlite_master where type = 'table'").fetchall()
        for (table,) in tables:
            rows = database.execute(f'select * from "{table}" limit 200')
            names |= {column[0] for column in rows.description}
            for row in rows:
                for cell in row:
                    if isinstance(cell, str) and cell.startswith("{"):
                        try:
                            names |= _keys(json.loads(cell))
                        except ValueError:
                            continue
    return names
