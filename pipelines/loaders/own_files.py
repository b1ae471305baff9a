"""Your own events: CSV or Parquet, any separator, with or without header, columns mapped by name.

Columns that are not mapped are found by their usual names (KNOWN_AS). docs/bring-your-own-data.md
has a worked example for each case.
"""

from collections.abc import Mapping
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from features.errors import ContractError
from features.schema import EVENT_TYPES, POSITIVE_TYPES, DatasetInfo
from pipelines.loaders.tables import Tables
from pipelines.loaders.text_rows import Rows, read_text
from pipelines.parse import text

FLAGS = {
    "user_id": "--user-column",
    "item_id": "--item-column",
    "event_at": "--time-column",
    "event_type": "--type-column",
    "value": "--value-column",
}

KNOWN_AS: dict[str, tuple[str, ...]] = {
    "event_id": (),
    "event_type": ("event", "type", "action", "behavior"),
    "user_id": ("user", "userid", "customer_id", "customer", "visitor_id", "visitorid"),
    "item_id": ("item", "itemid", "product_id", "product", "movie_id", "movieid", "article_id"),
    "event_at": ("timestamp", "time", "datetime", "date", "ts", "created_at"),
    "session_id": ("session", "sessionid", "basket_id", "order_id"),
    "request_id": (),
    "position": (),
    "value": ("rating", "amount", "price", "revenue"),
    "context": (),
    "title": ("name", "product_name", "item_name"),
    "category": ("genre", "genres", "department", "category_id"),
    "subcategory": ("sub_category",),
    "price": ("unit_price",),
    "created_at": ("created", "launched_at", "released", "signup_at"),
    "location": ("country", "region", "city"),
}
"""Our name (always tried first) -> other names for it, in any case of letters."""

EVENT_COLUMNS = (
    "event_id", "event_type", "user_id", "item_id", "event_at",
    "session_id", "request_id", "position", "value", "context",
)  # fmt: skip
ITEM_COLUMNS = ("item_id", "title", "category", "subcategory", "price", "created_at")
USER_COLUMNS = ("user_id", "location", "created_at")

TYPES_KNOWN_AS = {
    "add_to_cart": "cart",
    "addtocart": "cart",
    "buy": "purchase",
    "order": "purchase",
    "transaction": "purchase",
    "page_view": "view",
    "pageview": "view",
    "pv": "view",
    "rate": "rating",
}


def load(
    name: str,
    events: Path,
    items: Path | None,
    users: Path | None,
    *,
    columns: Mapping[str, str],
    separator: str | None,
    header: bool,
    event_type: str,
    hide_seen: bool,
) -> Tables:
    """Read somebody's files.

    Args:
        name: of the data set.
        events: CSV or Parquet, one event a row.
        items: catalogue, or None: then an item's title is its id.
        users: user table, or None.
        columns: our name -> the column's name in `events`; its 1-based number without header.
        separator: of the text files, "tab" for a tab; None = found. Ignored for Parquet.
        header: the first line of the text files names their columns.
        event_type: what every row is, where no column says it.
        hide_seen: nobody wants the same item twice (films), so it is not recommended again.

    Raises:
        ContractError: a file cannot be read, or a column that was named or is needed is not there.
    """
    if event_type not in EVENT_TYPES:
        raise ContractError(f"event type {event_type!r} is not one of {', '.join(EVENT_TYPES)}")
    separator = {"tab": "\t", "\\t": "\t"}.get(separator or "", separator)
    rows = _read(events, separator, header)
    table = _mapped(rows.cells, EVENT_COLUMNS, columns, events)
    for needed in ("user_id", "item_id", "event_at"):
        if needed not in table:
            raise ContractError(
                f"no column for {needed} in {events}; {_listed(rows.cells)}; "
                f"name the right one with {FLAGS[needed]}"
            )
    table["event_type"] = _types(table, event_type)
    table["row"] = rows.numbers
    info = DatasetInfo(
        name,
        positive_types=_positive_types(table["event_type"]),
        seen_filter=hide_seen,
        has_impressions=bool((table["event_type"] == "impression").any()),
    )
    catalogue, bad_items = _entities(items, ITEM_COLUMNS, columns, separator, header)
    people, bad_users = _entities(users, USER_COLUMNS, columns, separator, header)
    return Tables(table, catalogue, people, info, rows.unreadable, bad_items, bad_users)


def _read(path: Path, separator: str | None, header: bool) -> Rows:
    try:
        with path.open("rb") as file:
            is_parquet = file.read(4) == b"PAR1"
    except FileNotFoundError:
        raise ContractError(f"no file at {path}; expected CSV or Parquet") from None
    except OSError as error:  # a folder, no permission, a broken disk
        raise ContractError(
            f"{path} cannot be read: {error.strerror}; expected a file that you may open"
        ) from error
    return _read_parquet(path) if is_parquet else read_text(path, separator, header)


def _read_parquet(path: Path) -> Rows:
    try:
        table = pq.ParquetFile(path).read()
    except (pa.ArrowException, OSError) as error:
        raise ContractError(f"{path} is not a readable Parquet file: {error}") from error
    # Whole numbers stay whole where some are null: an id 7 must not become "7.0".
    cells = table.to_pandas(integer_object_nulls=True)
    coded = cells.select_dtypes("category").columns
    cells = cells.astype(dict.fromkeys(coded, object))
    return Rows(cells, list(range(1, len(cells) + 1)), pd.DataFrame())


def _mapped(
    cells: pd.DataFrame, wanted: tuple[str, ...], columns: Mapping[str, str], path: Path
) -> pd.DataFrame:
    """The wanted columns that can be found, under our names."""
    theirs = {name.lower(): name for name in reversed(cells.columns)}
    found = {}
    for ours in wanted:
        if ours in columns:
            asked = str(columns[ours])
            if asked.lower() not in theirs:
                flag = FLAGS.get(ours, "its flag")
                raise ContractError(
                    f"no column {asked!r} in {path}; {_listed(cells)}; name the right one with {flag}"
                )
            found[ours] = theirs[asked.lower()]
        else:
            taken = {*found.values(), *columns.values()}
            names = (ours, *KNOWN_AS[ours])
            match = [theirs[name] for name in names if name in theirs and theirs[name] not in taken]
            found.update({ours: match[0]} if match else {})
    return pd.DataFrame({ours: cells[name] for ours, name in found.items()})


def _listed(cells: pd.DataFrame) -> str:
    """What there is, for a message: names, a row to recognise them by, and a hint when it is one."""
    listed = f"its columns are: {', '.join(map(str, cells.columns))}"
    if len(cells):
        listed += f" (first row: {', '.join(map(str, cells.iloc[0]))[:200]})"
    if cells.shape[1] == 1:
        listed += "; only one was found: is the separator right (--separator)?"
    return listed


def _types(table: pd.DataFrame, event_type: str) -> pd.Series:
    if "event_type" not in table:
        return pd.Series(event_type, table.index, dtype=object)
    return text(table["event_type"]).str.lower().replace(TYPES_KNOWN_AS)


def _positive_types(types: pd.Series) -> tuple[str, ...]:
    """The usual ones that occur; a file of nothing but views counts these."""
    present = set(types.dropna())
    positive = tuple(kind for kind in POSITIVE_TYPES if kind in present)
    return positive or (("view",) if "view" in present else POSITIVE_TYPES)


def _entities(
    path: Path | None,
    wanted: tuple[str, ...],
    columns: Mapping[str, str],
    separator: str | None,
    header: bool,
) -> tuple[pd.DataFrame | None, pd.DataFrame | None]:
    """An item or user table, and its unreadable lines.

    Its id may be called as in the events; without header, the order of the columns counts.
    """
    if path is None:
        return None, None
    rows = _read(path, separator, header)
    if rows.cells.shape[1] == 1:  # another separator than the events'
        rows = _read(path, None, header)
    names = list(rows.cells.columns)
    if names[0] == "1":
        positions = dict(zip(wanted, names, strict=False))
        table = _mapped(rows.cells, tuple(positions), positions, path)
    else:
        named = columns.get(wanted[0], "")
        table = _mapped(rows.cells, wanted, {wanted[0]: named} if named in names else {}, path)
    if wanted[0] not in table:
        raise ContractError(
            f"no column for {wanted[0]} in {path}; {_listed(rows.cells)}; rename one to {wanted[0]}"
        )
    return table.assign(row=rows.numbers), rows.unreadable
