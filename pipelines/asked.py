"""Who is tested, and on what: one query per user, under the protocol that every data set shares.

A test user is known before `test_from` and takes something afterwards that was known before it.
Relevant are the distinct items of the test window, but for those taken from slates that a bundle
ranked: they would judge every list by its likeness to that bundle's. Where the data set filters
what was seen, an item taken before is neither listed nor relevant.
"""

import json
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from features.request import Context, UserRow, UserState, context_of, user_state
from infra.workspace import Workspace
from models.bundle import Bundle
from models.split import Split
from pipelines.lake import read_events
from pipelines.past import Past
from pipelines.ranker_rows import Query, sample, user_rows_of

MAX_USERS = 5_000
"""Of the test: an interval shrinks with the root of it, the time does not."""


@dataclass(frozen=True, slots=True)
class Asked:
    """One test user, as known just before `test_from`."""

    query: Query
    row: UserRow
    own_ix: np.ndarray  # everything taken before, oldest first, repeats included
    own_us: np.ndarray  # its times
    relevant: np.ndarray  # distinct item_ix, at least one

    def at(self, bundle: Bundle) -> tuple[UserState, Context]:
        """State and context in the codes of one bundle."""
        query, catalogue = self.query, bundle.catalogue
        context = context_of(query.event_at, query.context, catalogue)
        return user_state(self.row, catalogue), context


def users_asked(
    workspace: Workspace, past: Past, store: Any, bundle: Bundle, split: Split, seed: int
) -> list[Asked]:
    """All test users, or MAX_USERS of them.

    Args:
        workspace: its lake tells each user's last device and location.
        past: the whole lake.
        store: an opened Feast store.
        bundle: as of `test_from`; its catalogue are the candidates.
        split: where the test begins and ends.
        seed: of the sample.
    """
    index = bundle.catalogue.index
    own = _by_user(past.before(split.test_from), index)
    test = past.between(split.test_from, split.end)
    after = _by_user(test[test["is_neutral"]], index)
    relevant = {}
    for user in sorted(own.keys() & after.keys()):
        items = np.unique(after[user][0])
        if past.info.seen_filter:
            items = items[~np.isin(items, own[user][0])]
        if len(items):
            relevant[user] = items
    users = sample(np.array(list(relevant), dtype=object), MAX_USERS, seed)
    contexts = _last_contexts(workspace, split)
    moment = split.test_from
    queries = [Query(u, moment, moment, frozenset(), contexts.get(u, {})) for u in users]
    rows = user_rows_of(past, store, queries)
    return [
        Asked(query, row, *own[query.user_id], relevant[query.user_id])
        for query, row in zip(queries, rows, strict=True)
    ]


def _by_user(
    positives: pd.DataFrame, index: dict[str, int]
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """User -> (item_ix, µs) of the items that the catalogue knows, oldest first."""
    item_ix = positives["item_id"].map(index)
    known = positives[item_ix.notna()].assign(ix=item_ix.dropna().astype(np.int64))
    return {
        str(user): (rows["ix"].to_numpy(), rows["event_us"].to_numpy())
        for user, rows in known.groupby("user_id")
    }


def _last_contexts(workspace: Workspace, split: Split) -> dict[str, dict[str, str]]:
    """Device and location of each user's last event before the test: what a request would say."""
    columns = ["user_id", "context"]
    events = read_events(workspace.lake, None, split.test_from, columns=columns)
    last = events.dropna(subset=["context"]).drop_duplicates("user_id", keep="last")
    return {
        user: json.loads(context)
        for user, context in zip(last["user_id"], last["context"], strict=True)
    }
