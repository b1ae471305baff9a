"""The lake as a model may know it: everything up to one moment and nothing after it.

Training, evaluation and publishing ask the same object for the same parts at different moments, so
that a published bundle and the one that was evaluated differ in their moment only.

Throughout: A is all items of the lake, N those known at the moment.
"""

import json
from collections import Counter
from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np
import pandas as pd

from features.request import microseconds
from features.schema import MAX_CATEGORIES, OTHER, DatasetInfo
from infra.workspace import Workspace
from models import covisitation
from models.popularity import popular_order
from models.staging import ITEM_COLUMNS, Parts
from pipelines.lake import read_events, read_info, read_items
from pipelines.retrieval import Retrieval

NEW_ITEM = timedelta(days=30)
"""An item launched within this time may be recommended before anybody has touched it."""

SAMPLE_USERS = 50
"""Users with the longest history, for the page to choose from."""

CONTROL = "popular"
"""Arm whose slates no learned ranking has touched."""

NEVER_US = np.iinfo(np.int64).max


@dataclass(frozen=True, slots=True)
class Past:
    """What the lake holds, read once; `parts` cuts it at a moment."""

    info: DatasetInfo
    items: pd.DataFrame  # (A,) ITEM_COLUMNS and created_us, by item_id
    # user_id, item_id, event_us, user_ix, item_ix (row of `items`), is_neutral; by time
    positives: pd.DataFrame
    first_us: np.ndarray  # (A,) first event of any type; NEVER_US = none
    vocabulary: dict[str, tuple[str, ...]]

    def known(self, moment: datetime) -> np.ndarray:
        """(N,) rows of `items` that exist at `moment`: touched before it, or launched lately."""
        now_us = microseconds(moment)
        created = self.items["created_us"].to_numpy()
        launched = (created <= now_us) & (created > now_us - NEW_ITEM // timedelta(microseconds=1))
        return np.flatnonzero((self.first_us < now_us) | launched)

    def before(self, moment: datetime) -> pd.DataFrame:
        """Positives that happened before `moment`."""
        return self.between(None, moment)

    def between(self, start: datetime | None, end: datetime) -> pd.DataFrame:
        """Positives of [start, end)."""
        at = self.positives["event_us"].to_numpy()
        first = 0 if start is None else int(np.searchsorted(at, microseconds(start)))
        return self.positives.iloc[first : int(np.searchsorted(at, microseconds(end)))]

    def parts(self, moment: datetime, matrix: np.ndarray, retrieval: Retrieval | None) -> Parts:
        """What a bundle made at `moment` consists of, without a ranker.

        Args:
            moment: UTC.
            matrix: (N, Fi) features of the items `known(moment)`, in that order.
            retrieval: towers, trained on nothing after `moment`.
        """
        known = self.known(moment)
        row = np.full(len(self.items), -1, dtype=np.int64)
        row[known] = np.arange(len(known))
        past = self.before(moment)
        item_ix = row[past["item_ix"].to_numpy()]
        vectors = tower = None
        if retrieval is not None:
            vectors, tower = retrieval.of(self.items["item_id"].to_numpy()[known])
        return Parts(
            info=self.info,
            items=self.items[ITEM_COLUMNS].iloc[known].reset_index(drop=True),
            vocabulary=self.vocabulary,
            matrix=matrix,
            popular=popular_order(item_ix, past["event_us"].to_numpy(), len(known)),
            as_of=moment.isoformat(),
            trained_until=(retrieval.trained_until if retrieval else moment.isoformat()),
            covisitation=covisitation.fit(past["user_ix"].to_numpy(), item_ix, len(known)),
            item_vectors=vectors,
            tower=tower,
        )

    def ids(self, moment: datetime) -> list[str]:
        """Ids of the items `known(moment)`."""
        return self.items["item_id"].to_numpy()[self.known(moment)].tolist()


def read_past(workspace: Workspace) -> Past:
    """Read the lake of a workspace."""
    info, items = read_info(workspace.lake), read_items(workspace.lake)
    columns = ["event_type", "user_id", "item_id", "event_at", "context"]
    events = read_events(workspace.lake, columns=[*columns, "request_id", "bundle", "arms"])
    events["event_us"] = in_us(events["event_at"])
    items = items.sort_values("item_id", ignore_index=True)
    items["created_us"] = in_us(items["created_at"])
    items["title"] = items["title"].fillna(items["item_id"])
    item_ix = pd.Index(items["item_id"]).get_indexer(events["item_id"])
    first_us = np.full(len(items), NEVER_US, dtype=np.int64)
    np.minimum.at(first_us, item_ix, events["event_us"].to_numpy())
    wanted = events["event_type"].isin(info.positive_types).to_numpy()
    positives = events.loc[wanted, ["user_id", "item_id", "event_us"]].reset_index(drop=True)
    positives["is_neutral"] = ~events["request_id"].isin(ranked_requests(events))[wanted].to_numpy()
    positives["item_ix"] = item_ix[wanted]
    positives["user_ix"] = pd.factorize(positives["user_id"])[0]
    categories = tuple(sorted(items["category"].dropna().unique()))
    vocabulary = {"category": categories, **_context_vocabulary(events["context"])}
    return Past(info, items, positives, first_us, vocabulary)


def ranked_requests(events: pd.DataFrame) -> set[str]:
    """Requests whose slate a bundle's own ranking filled; not those of the popularity arm.

    Interview: The challenger loses offline by a mile, on last week's clicks. What happened?
        Last week's slates were written by the champion, and nobody can click what was not shown:
        the log agrees with whoever wrote it. So only clicks that neither contender's ranking
        brought about may judge them: an exploring or a popularity arm, or purchases outside.
        Trade-off: that is a small share of the traffic, so intervals are wide; keeping such an
        arm alive costs clicks every day.
        Shown by: tests/pipelines/test_past.py::test_clicks_on_a_ranked_slate_are_not_neutral
    """
    by_bundle = events["bundle"].notna() & (events["event_type"] == "impression")
    shown = events.loc[by_bundle, ["request_id", "arms"]].drop_duplicates("request_id")
    is_control = shown["arms"].map(lambda arms: CONTROL in json.loads(arms or "{}").values())
    return set(shown.loc[~is_control.astype(bool), "request_id"])


def in_us(times: pd.Series) -> np.ndarray:
    """µs since 1970 of a `datetime64[us, UTC]` column; NaT becomes the smallest integer."""
    return times.dt.tz_convert("UTC").dt.tz_localize(None).to_numpy("datetime64[us]").view(np.int64)


def _context_vocabulary(contexts: pd.Series) -> dict[str, tuple[str, ...]]:
    """The devices and locations that occurred; the commonest, where there are too many."""
    found: dict[str, Counter[str]] = {"device": Counter(), "location": Counter()}
    for text, times in contexts.value_counts().items():
        context = json.loads(str(text))
        for key, names in found.items():
            if isinstance(context, dict) and context.get(key):
                names[str(context[key])] += int(times)
    return {
        key: tuple(sorted({OTHER, *(name for name, _ in names.most_common(MAX_CATEGORIES - 1))}))
        for key, names in found.items()
    }


def busiest(past: pd.DataFrame) -> list[str]:
    """The users with most positives: somebody for the page to choose from."""
    counts = past["user_id"].value_counts().reset_index()
    return counts.sort_values(["count", "user_id"], ascending=[False, True])["user_id"][
        :SAMPLE_USERS
    ].tolist()
