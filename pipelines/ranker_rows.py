"""What the ranker learns from: features as known at a moment, labels from what came after it.

Where slates were logged, a query is a slate as it was shown, with its places; a shown item is
wanted if the user chose it from that very slate. Elsewhere, a query is a user at a moment: the
candidates are what the funnel would have retrieved then, and wanted is what the user took later.

Throughout: R is the rows of all queries, C the items of one query, F features.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pandas as pd

from features.definitions import BATCH_LAG
from features.feature_set import CURRENT, FeatureSet
from features.point_in_time import Leak, item_rows, user_rows
from features.request import UserRow, assemble, context_of, user_state
from models.bundle import Bundle, of_parts
from models.funnel import look_up, retrieve
from models.split import Split
from pipelines.lake import read_events
from pipelines.past import Past
from pipelines.retrieval import Retrieval

MOMENTS = 8
"""Moments between `ranker_from` and `test_from` at which every user is asked about. Weekly ones
(eight on a year of purchases) beat a single one clearly, and twice as many added nothing."""

NEGATIVES = 40
"""Kept of each query's two hundred candidates. On real purchases the order came out no worse than
with all of them, in a tenth of the time."""

TICK = timedelta(microseconds=1)
"""What became known at a moment is known just after it."""


@dataclass(frozen=True, slots=True)
class Query:
    """One ranking problem."""

    user_id: str
    event_at: datetime  # UTC; features are from before it, labels from it on
    known_at: datetime  # the moment of the bundle that would have answered; never later
    wanted: frozenset[str]
    context: dict[str, str] = field(default_factory=dict)
    shown: tuple[str, ...] | None = (
        None  # the logged slate, best place first; None = ask the funnel
    )
    places: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows of all queries, those of one query together."""

    features: np.ndarray  # (R, F) float32
    labels: np.ndarray  # (R,) int8
    group_sizes: np.ndarray  # one per query


def slate_queries(lake: Any, past: Past, split: Split, limit: int, seed: int) -> list[Query]:
    """Logged slates of [ranker_from, test_from), at most `limit` of them."""
    columns = ["event_type", "request_id", "user_id", "item_id", "position", "event_at", "context"]
    events = read_events(lake, split.ranker_from, split.test_from, columns=columns)
    events = events[events["request_id"].notna()]
    shown = events[events["event_type"] == "impression"].sort_values(["request_id", "position"])
    chosen = events[events["event_type"].isin(past.info.positive_types)]
    wanted = chosen.groupby("request_id")["item_id"].agg(frozenset)
    requests = sample(shown["request_id"].unique(), limit, seed)
    queries = []
    for request_id, slate in shown[shown["request_id"].isin(requests)].groupby("request_id"):
        first = slate.iloc[0]
        moment = slate["event_at"].min().to_pydatetime().astimezone(UTC)
        queries.append(
            Query(
                user_id=first["user_id"],
                event_at=moment,
                known_at=nightly(moment),
                wanted=wanted.get(request_id, frozenset()),
                context=json.loads(first["context"] or "{}"),
                shown=tuple(slate["item_id"]),
                places=tuple(slate["position"].fillna(0).astype(int)),
            )
        )
    return queries


def moment_queries(past: Past, split: Split, limit: int, seed: int) -> list[Query]:
    """Users at MOMENTS evenly spaced moments; wanted is all they took from then to `test_from`.

    Interview: You only have purchases. What are the negatives of your ranker?
        The candidates that the funnel itself would have retrieved at that moment and that the
        user then did not take: the very choice the ranker faces when serving. Random items of the
        catalogue would be told apart by popularity alone.
        Trade-off: a positive that retrieval misses teaches nothing; adding it by hand would teach
        that items without any retrieval rank are good.
        Shown by: tests/pipelines/test_ranker_rows.py::test_candidates_are_what_the_funnel_retrieves
    """
    step = (split.test_from - split.ranker_from) / (MOMENTS + 1)
    queries = []
    for place in range(MOMENTS):
        moment = split.ranker_from + place * step
        before = past.before(moment)["user_id"].unique()
        after = past.between(moment, split.test_from)
        wanted = after[after["user_id"].isin(before)].groupby("user_id")["item_id"].agg(frozenset)
        queries += [Query(str(u), moment, moment, items) for u, items in wanted.items()]
    kept = sample(np.arange(len(queries)), limit, seed)
    return [queries[place] for place in kept]


def build_rows(
    past: Past,
    store: Any,
    retrieval: Retrieval | None,
    queries: Sequence[Query],
    seed: int,
    columns: FeatureSet = CURRENT,
    leak: Leak = "none",
) -> Rows:
    """Features and labels of all queries.

    Args:
        past: the whole lake.
        store: an opened Feast store.
        retrieval: towers trained before the first query; None = none.
        queries: any number.
        seed: draws the negatives.
        columns: the features to make, in order.
        leak: how far the join looks ahead, see features/point_in_time.py.
    """
    rng = np.random.default_rng(seed)
    bundles = bundles_at(past, retrieval, [query.known_at for query in queries], columns)
    users = user_rows_of(past, store, queries, leak)
    chosen = [
        choose(bundles[query.known_at], query, row, rng)
        for query, row in zip(queries, users, strict=True)
    ]
    sizes = [len(choice.item_ix) for choice in chosen]
    if not sum(sizes):
        return Rows(np.empty((0, 0), np.float32), np.empty(0, np.int8), np.empty(0, np.int64))
    pairs = list(zip(queries, chosen, strict=True))
    ids = [bundles[q.known_at].catalogue.item_ids[choice.item_ix] for q, choice in pairs]
    moments = [query.event_at for query, choice in pairs for _ in choice.item_ix]
    stored = item_rows(store, np.concatenate(ids).tolist(), moments, columns.item, leak)
    of_query = np.split(stored, np.cumsum(sizes)[:-1])
    features = [
        features_of(bundles[query.known_at], query, row, choice, rows)
        for query, row, choice, rows in zip(queries, users, chosen, of_query, strict=True)
        if len(choice.item_ix)
    ]
    labels = np.concatenate([choice.wanted for choice in chosen]).astype(np.int8)
    return Rows(np.vstack(features), labels, np.array([size for size in sizes if size]))


@dataclass(frozen=True, slots=True)
class Choice:
    """The items of one query, and what retrieval says of each."""

    item_ix: np.ndarray  # (C,)
    wanted: np.ndarray  # (C,) bool: the labels
    score: np.ndarray  # (C,)
    rr: np.ndarray  # (C, S)
    position: np.ndarray | None  # (C,) where slates were logged


def choose(bundle: Bundle, query: Query, row: UserRow, rng: np.random.Generator) -> Choice:
    """The logged slate, or what the funnel of that time retrieves, thinned to NEGATIVES."""
    catalogue, user = bundle.catalogue, user_state(row, bundle.catalogue)
    all_wanted = [catalogue.index.get(item, -1) for item in query.wanted]
    if query.shown is None:
        found = retrieve(bundle, user)
        wanted = np.isin(found.item_ix, all_wanted)
        kept = np.flatnonzero(wanted | _drawn(~wanted, rng))
        score, rr = found.retrieval_score[kept], found.rr[kept]
        return Choice(found.item_ix[kept], wanted[kept], score, rr, None)
    all_ix = np.array([catalogue.index.get(item, -1) for item in query.shown], dtype=np.int64)
    item_ix = all_ix[all_ix >= 0]  # an item launched since last night has no row yet
    score, rr = look_up(bundle, user, item_ix)
    places = np.array(query.places)[all_ix >= 0]
    return Choice(item_ix, np.isin(item_ix, all_wanted), score, rr, places)


def features_of(
    bundle: Bundle, query: Query, row: UserRow, choice: Choice, item_values: np.ndarray
) -> np.ndarray:
    """Features (C, F) of one query; `item_values` (C, Fi) are the items' as known at its moment."""
    catalogue = bundle.catalogue
    return assemble(
        user_state(row, catalogue),
        catalogue,
        choice.item_ix,
        context_of(query.event_at, query.context, catalogue),
        choice.score,
        choice.rr,
        choice.position,
        item_values,
    )


def _drawn(negative: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """(C,) True at NEGATIVES of the negatives, or at all where there are no more."""
    places = np.flatnonzero(negative)
    chosen = np.zeros(len(negative), dtype=bool)
    chosen[rng.permutation(places)[:NEGATIVES]] = True
    return chosen


def bundles_at(
    past: Past,
    retrieval: Retrieval | None,
    moments: Sequence[datetime],
    columns: FeatureSet = CURRENT,
) -> dict[datetime, Bundle]:
    """The bundle, without ranker and item features, that would have been published at each moment.

    Item features are fresher than their bundle: the serving process reads them anew as they change.
    """
    bundles = {}
    for moment in sorted(set(moments)):
        nothing = np.empty((len(past.known(moment)), 0))
        parts = replace(past.parts(moment, nothing, retrieval), features=columns)
        bundles[moment] = of_parts(parts, path=None, manifest={"id": "training", "absent": {}})
    return bundles


def user_rows_of(
    past: Past, store: Any, queries: Sequence[Query], leak: Leak = "none"
) -> list[UserRow]:
    """What was known of each query's user just before it."""
    asked = pd.DataFrame(
        {
            "user_id": [query.user_id for query in queries],
            "event_at": pd.DatetimeIndex([query.event_at for query in queries], tz=UTC).as_unit(
                "us"
            ),
        }
    )
    return user_rows(store, asked, past.vocabulary["category"], leak)


def nightly(moment: datetime) -> datetime:
    """When the newest batch rows known at `moment` became known: last night."""
    midnight = (moment - BATCH_LAG - TICK).replace(hour=0, minute=0, second=0, microsecond=0)
    return midnight + BATCH_LAG + TICK


def sample(values: np.ndarray, limit: int, seed: int) -> np.ndarray:
    """At most `limit` of the values, in their order."""
    if len(values) <= limit:
        return values
    chosen = np.random.default_rng(seed).choice(len(values), limit, replace=False)
    return values[np.sort(chosen)]
