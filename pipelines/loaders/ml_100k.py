"""MovieLens 100K: ratings, films with year and genre, users with a postal region.

Films carry up to 18 genre flags. `category` is the flag that fewest films have, which says most
about the film (`Film-Noir` rather than `Drama`), and `subcategory` is all of them together.
Source: Harper and Konstan 2015, "The MovieLens Datasets", ACM TiiS 5(4).
"""

from pathlib import Path

import pandas as pd

from features.schema import DatasetInfo
from pipelines.loaders.tables import Tables, public_file

FILM_COLUMNS = ["item_id", "title", "released", "video", "link"]
USER_COLUMNS = ["user_id", "age", "gender", "occupation", "zip"]

INFO = DatasetInfo(name="ml-100k", positive_types=("rating",), seen_filter=True)


def load(folder: Path) -> Tables:
    """Read u.data, u.item, u.genre and u.user.

    Returns:
        Tables with 100,000 rating events (value = stars). Films have no price, and users no
        account date. `created_at` of a film is its release: 1922 is before any event, and meant.

    Raises:
        ContractError: a file is missing.
    """
    events = pd.read_csv(
        public_file(folder, "u.data"),
        sep="\t",
        names=["user_id", "item_id", "value", "event_at"],
        dtype=str,
    )
    users = pd.read_csv(
        public_file(folder, "u.user"), sep="|", names=USER_COLUMNS, dtype=str, encoding="latin-1"
    )
    events.insert(0, "event_type", "rating")
    events["row"] = range(1, len(events) + 1)
    users["location"] = "region " + users["zip"].str[0]  # 795 codes for 943 users say nothing
    return Tables(events, _films(folder), users[["user_id", "location"]], INFO)


def _films(folder: Path) -> pd.DataFrame:
    genres = pd.read_csv(public_file(folder, "u.genre"), sep="|", names=["genre", "number"])
    names = genres["genre"].tolist()
    films = pd.read_csv(
        public_file(folder, "u.item"),
        sep="|",
        names=FILM_COLUMNS + names,
        encoding="latin-1",
        dtype={"item_id": str, "title": str},
    )
    flags = films[names]
    rarest_first = flags[flags.sum().sort_values(kind="stable").index]
    released = pd.to_datetime(films["released"], format="%d-%b-%Y", utc=True)
    return pd.DataFrame(
        {
            "item_id": films["item_id"],
            "title": films["title"],
            "category": rarest_first.idxmax(axis=1),
            "subcategory": [" | ".join(flags.columns[row == 1]) for row in flags.to_numpy()],
            "created_at": released,
        }
    )
