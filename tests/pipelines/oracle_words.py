"""Where the truth would show if it leaked: names of columns and keys in whatever a folder holds."""

import csv
import dataclasses
import json
import re
import sqlite3
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from pipelines.world.truth import Items, State, Users

ORACLE = re.compile(
    "quality|style|taste|budget|activity|attract|relevance|utility|oracle|truth|mood|segment|intent|"
    "satisf|examin|appeal|boredom|generos|patience|minority|is_bot|curiosity|retires|half_life|"
    "season_peak|hit_at$|price_level|hour_shift|dwell|disliked",
    re.I,
)
"""Nothing that a platform can know is called so."""

PUBLIC = {"ids", "titles", "category", "told_kind", "price", "launched_at", "joined_at",
          "location", "device", "day"}  # fmt: skip
"""Fields of the truth that the platform is told, under names of its own."""

HIDDEN = {f.name for kind in (Items, Users, State) for f in dataclasses.fields(kind)} - PUBLIC
TOO_PLAIN = {"kind", "left", "gone", "seen", "seen_at", "clicked"}
"""Of the hidden: words that mean other things elsewhere."""

NAME_COLUMNS = ("feature_name", "key")
"""Columns of databases whose cells are names: Feast's features, MLflow's parameters and metrics."""


def leaks(names: set[str]) -> list[str]:
    """Names that only the truth has."""
    return sorted(n for n in names if ORACLE.search(n) or n in HIDDEN - TOO_PLAIN)


def columns_of(folder: Path) -> set[str]:
    """Every column, array, feature and JSON key of the files below a folder, by what it is called."""
    names: set[str] = set()
    for path in sorted(folder.rglob("*")):
        if path.suffix == ".parquet":
            names |= set(pq.read_schema(path).names)
        elif path.suffix == ".npz":
            with np.load(path) as arrays:
                names |= set(arrays.files)
        elif path.suffix == ".json":
            names |= keys_of(json.loads(path.read_text()))
        elif path.suffix == ".csv":
            with path.open(newline="") as rows:
                names |= set(next(csv.reader(rows), []))
        elif path.is_file() and not path.name.endswith(("-wal", "-shm")):  # read with the database
            names |= _of_bytes(path)
    return names


def keys_of(content: object) -> set[str]:
    """All keys of JSON, at every depth."""
    if isinstance(content, dict):
        return set(map(str, content)).union(*map(keys_of, content.values()))
    if isinstance(content, list):
        return set[str]().union(*map(keys_of, content))
    return set()


def _of_bytes(path: Path) -> set[str]:
    """A database's names; of anything else every word long enough to be one of the truth's."""
    content = path.read_bytes()
    if content[:15] == b"SQLite format 3":
        return _tables(path)
    return {word.decode() for word in re.findall(rb"[a-z_]{6,40}", content)}


def cells_of(path: Path) -> set[str]:
    """Names that stand in cells of a database, such as those of MLflow's parameters and metrics."""
    names: set[str] = set()
    with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as database:
        tables = database.execute("select name from sqlite_master where type = 'table'").fetchall()
        for (table,) in tables:
            about = database.execute(f'select * from "{table}" limit 0').description
            for column in {name for name, *_ in about} & set(NAME_COLUMNS):
                found = database.execute(f'select distinct "{column}" from "{table}"')
                names |= {str(cell) for (cell,) in found}
    return names


def _tables(path: Path) -> set[str]:
    """Columns of a database, the names in its cells, and the keys of JSON that its columns hold."""
    names = cells_of(path)
    with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as database:
        tables = database.execute("select name from sqlite_master where type = 'table'").fetchall()
        for (table,) in tables:
            rows = database.execute(f'select * from "{table}" limit 200')
            names |= {column[0] for column in rows.description}
            for row in rows:
                for cell in row:
                    if isinstance(cell, str) and cell.startswith("{"):
                        try:
                            names |= keys_of(json.loads(cell))
                        except ValueError:
                            continue
    return names
