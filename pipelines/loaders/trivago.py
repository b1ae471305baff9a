"""trivago (RecSys Challenge 2019): hotel searches with the list shown and its order.

    clickout item          -> one impression per listed hotel, with its position, and a click
    interaction item ...   -> view
    search for item        -> view
    everything else        -> no hotel is named (filters, sorting, cities), so it is no event

Each clickout is one request; the moment the list was first shown is unknown, so its impressions
carry the moment of the clickout. The clicked hotel is not always in the list: such a click has no
position. Sessions of hundreds of steps are robots; their rows are refused with that reason.
"""

from pathlib import Path

import pandas as pd

from features.schema import OTHER, DatasetInfo
from pipelines.loaders.tables import Tables, public_file

ROBOT_STEPS = 300
"""A session of more steps is no person's: half of all sessions have fewer than ten."""

TYPES = {
    "clickout item": "click",
    "interaction item image": "view",
    "interaction item info": "view",
    "interaction item rating": "view",
    "interaction item deals": "view",
    "search for item": "view",
}

INFO = DatasetInfo(
    name="trivago", positive_types=("click",), seen_filter=False, has_impressions=True
)
"""Guests come back to the hotel they looked at: no seen filter."""


def load(folder: Path) -> Tables:
    """Read sessions.parquet.

    Returns:
        Tables with impressions, views and clicks; `row` is the 1-based row of the file. A hotel's
        category is the country and its subcategory the city of the searches it was shown in; its
        price is the median shown.

    Raises:
        ContractError: the file is missing.
    """
    rows = pd.read_parquet(public_file(folder, "sessions.parquet"))
    rows.insert(0, "row", range(1, len(rows) + 1))
    rows = rows[rows["action_type"].isin(list(TYPES))]
    robots = rows.groupby("session_id")["step"].transform("max") > ROBOT_STEPS
    refused = rows.loc[robots, ["row"]].assign(
        column="session_id",
        value=rows["session_id"],
        reason=f"a session of more than {ROBOT_STEPS} steps: a robot",
    )
    people = rows[~robots]
    shown = _shown(people)
    events = pd.concat([_actions(people, shown), shown.drop(columns=["price", "city"])])
    return Tables(events, _items(shown, people), None, INFO, unreadable=refused)


def _actions(rows: pd.DataFrame, shown: pd.DataFrame) -> pd.DataFrame:
    """One view or click per row that names a hotel."""
    events = _columns(rows).assign(
        event_type=rows["action_type"].map(TYPES),
        item_id=rows["reference"].where(rows["reference"].str.fullmatch(r"\d+")),
    )
    clicks = events["event_type"] == "click"
    events["request_id"] = _request_ids(rows).where(clicks)
    place = shown.drop_duplicates(["request_id", "item_id"])[["request_id", "item_id", "position"]]
    return events.merge(place, on=["request_id", "item_id"], how="left")


def _shown(rows: pd.DataFrame) -> pd.DataFrame:
    """One row per listed hotel, with position, price and the city searched."""
    clickouts = rows[rows["action_type"] == "clickout item"]
    lists = _columns(clickouts).assign(
        event_type="impression",
        request_id=_request_ids(clickouts),
        item_id=clickouts["impressions"].str.split("|"),
        price=clickouts["prices"].str.split("|"),
        city=clickouts["city"],
    )
    shown = lists.explode(["item_id", "price"], ignore_index=True)
    shown["position"] = shown.groupby("request_id").cumcount() + 1
    shown["event_id"] = shown["request_id"] + ":" + shown["position"].astype(str)
    return shown


def _columns(rows: pd.DataFrame) -> pd.DataFrame:
    context = '{"device": "' + rows["device"] + '", "location": "' + rows["platform"] + '"}'
    return rows[["row", "user_id", "session_id"]].assign(
        event_at=rows["timestamp"], context=context
    )


def _request_ids(rows: pd.DataFrame) -> pd.Series:
    return rows["session_id"] + "-" + rows["step"].astype(str)


def _items(shown: pd.DataFrame, rows: pd.DataFrame) -> pd.DataFrame:
    """Every hotel that was shown or touched; what is only touched has no price and no city list."""
    touched = rows.loc[rows["reference"].str.fullmatch(r"\d+"), ["reference", "city"]]
    touched = touched.rename(columns={"reference": "item_id"})
    places = pd.concat([shown[["item_id", "city"]], touched])
    counts = places.groupby(["item_id", "city"]).size().sort_values(ascending=False, kind="stable")
    city = counts.reset_index("city").groupby(level=0)["city"].first()  # the most frequent
    price = pd.to_numeric(shown["price"]).groupby(shown["item_id"]).median()
    country = city.str.rsplit(", ", n=1).str[-1].fillna(OTHER)
    return pd.DataFrame(
        {
            "item_id": city.index,
            "title": ("Hotel " + city.index + ", " + city).to_numpy(),
            "category": country.to_numpy(),
            "subcategory": city.to_numpy(),
            "price": price.reindex(city.index).to_numpy(),
        }
    )
