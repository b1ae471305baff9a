"""What a bundle would serve on ordinary days: the side of the drift report that does not move.

The newest real requests are answered again by the bundle that is about to be published, so the
reference differs from tomorrow's log only by what changes tomorrow. Training rows would not do:
they are what another policy showed, over weeks, without the funnel's own choice.
"""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pandas as pd

from features.request import context_of, user_state
from infra.workspace import Workspace
from models.bundle import Bundle
from models.funnel import recommend
from pipelines.lake import read_events
from pipelines.past import Past
from pipelines.ranker_rows import Query, sample, user_rows_of

K = 10
REQUESTS = 500
"""Enough that a distance between distributions is read off tenths of a per cent."""

WINDOWS = (timedelta(days=2), timedelta(days=7), timedelta(days=30), timedelta(days=36_500))
"""The first that holds ENOUGH requests: as new as possible, as old as needed."""

ENOUGH = 200


def reference_rows(
    workspace: Workspace, past: Past, store: Any, bundle: Bundle, until: datetime, seed: int
) -> pd.DataFrame | None:
    """Features and `score` of the top 10 of up to REQUESTS requests before `until`.

    Returns:
        One row per listed item, columns of the bundle and score; None where the bundle has no
        ranker, because nothing reads or logs features then, or where nobody ever came.
    """
    if bundle.ranker is None:
        return None
    queries = _newest_requests(workspace, past, until, seed)
    tables = []
    for query, row in zip(queries, user_rows_of(past, store, queries), strict=True):
        catalogue = bundle.catalogue
        context = context_of(query.event_at, query.context, catalogue)
        slate = recommend(bundle, user_state(row, catalogue), context, K)
        assert slate.features is not None
        tables.append(np.column_stack([slate.features, slate.scores]))
    if not tables:
        return None
    return pd.DataFrame(np.vstack(tables), columns=[*bundle.catalogue.features.names, "score"])


def _newest_requests(workspace: Workspace, past: Past, until: datetime, seed: int) -> list[Query]:
    """When users really came: logged slates, or positives where no slates were logged."""
    came = pd.DataFrame()
    types = ("impression",) if past.info.has_impressions else past.info.positive_types
    columns = ["event_type", "user_id", "event_at", "context"]
    for window in WINDOWS:
        events = read_events(workspace.lake, until - window, until, columns=columns)
        came = events[events["event_type"].isin(types)].drop_duplicates(["user_id", "event_at"])
        if len(came) >= ENOUGH:
            break
    chosen = came.iloc[sample(np.arange(len(came)), REQUESTS, seed)]
    queries = []
    for user, at, context in zip(
        chosen["user_id"], chosen["event_at"], chosen["context"], strict=True
    ):
        moment = at.to_pydatetime().astimezone(UTC)
        queries.append(Query(user, moment, moment, frozenset(), json.loads(context or "{}")))
    return queries
