from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
import pytest

from features.definitions import BATCH_LAG, FEATURE_NAMES
from features.feature_set import CURRENT
from features.point_in_time import item_rows
from features.request import microseconds, user_state
from infra.clients import open_feast
from models.funnel import retrieve
from pipelines.lake import read_events
from pipelines.past import NEVER_US, NEW_ITEM, read_past
from pipelines.ranker_rows import (
    NEGATIVES,
    TICK,
    build_rows,
    bundles_at,
    choose,
    moment_queries,
    nightly,
    sample,
    slate_queries,
    user_rows_of,
)
from pipelines.retrieval import read
from pipelines.train_retrieval import FOR_RANKER


def column(rows: np.ndarray, name: str) -> np.ndarray:
    return rows[:, FEATURE_NAMES.index(name)]


def test_labels_of_a_moment_come_after_it_and_before_the_test(shop) -> None:
    past = read_past(shop.workspace)
    queries = moment_queries(past, shop.split, 10_000, seed=1)
    assert len({query.event_at for query in queries}) > 4
    for query in queries[::7]:
        assert shop.split.ranker_from <= query.event_at < shop.split.test_from
        later = past.between(query.event_at, shop.split.test_from)
        assert query.wanted == frozenset(later[later["user_id"] == query.user_id]["item_id"])


def test_candidates_are_what_the_funnel_retrieves(shop) -> None:
    past, store = read_past(shop.workspace), open_feast(shop.workspace)
    queries = moment_queries(past, shop.split, 6, seed=1)
    retrieval = read(shop.workspace.training / FOR_RANKER)
    bundles = bundles_at(past, retrieval, [query.known_at for query in queries])
    choices = []
    for query, row in zip(queries, user_rows_of(past, store, queries), strict=True):
        bundle = bundles[query.known_at]
        assert all(at < query.event_at.timestamp() * 1e6 for at in row.history_at)
        choice = choose(bundle, query, row, np.random.default_rng(0))
        choices.append(choice)
        found = retrieve(bundle, user_state(row, bundle.catalogue))
        ids = bundle.catalogue.item_ids[found.item_ix]
        assert choice.item_ix.tolist() == found.item_ix.tolist()
        assert len(choice.item_ix) <= NEGATIVES
        assert choice.wanted.tolist() == [item in query.wanted for item in ids]
        np.testing.assert_array_equal(choice.score, found.retrieval_score)
    rows = build_rows(past, store, retrieval, queries, seed=0)
    assert rows.group_sizes.tolist() == [len(choice.item_ix) for choice in choices]
    assert rows.labels.tolist() == np.concatenate([c.wanted for c in choices]).tolist()
    assert (column(rows.features, "position") == 0).all()


def test_a_slate_keeps_its_places_and_is_labelled_by_its_own_clicks(site) -> None:
    past = read_past(site.workspace)
    queries = slate_queries(site.workspace.lake, past, site.split, 10_000, seed=1)
    events = read_events(site.workspace.lake)
    clicks = events[events["event_type"] == "click"].groupby("request_id")["item_id"].agg(set)
    shown = events[events["event_type"] == "impression"]
    for query in queries[::9]:
        slate = shown[(shown["user_id"] == query.user_id) & (shown["event_at"] == query.event_at)]
        assert query.places == tuple(range(1, 7))
        assert query.shown == tuple(slate.sort_values("position")["item_id"])
        assert query.wanted == clicks.get(slate["request_id"].iloc[0], set())
        assert query.context["device"] in ("app", "web")
        assert query.known_at <= query.event_at
    inside = shown[shown["event_at"].between(site.split.ranker_from, site.split.test_from)]
    assert len(queries) == inside["request_id"].nunique()


def test_rows_of_slates_carry_places_and_devices(site) -> None:
    past, store = read_past(site.workspace), open_feast(site.workspace)
    queries = slate_queries(site.workspace.lake, past, site.split, 40, seed=1)
    rows = build_rows(past, store, read(site.workspace.training / FOR_RANKER), queries, seed=1)
    assert rows.group_sizes.tolist() == [6] * 40
    assert column(rows.features, "position").tolist() == [1, 2, 3, 4, 5, 6] * 40
    assert set(column(rows.features, "device")) == {0.0, 2.0}  # app and web among app, other, web
    assert rows.labels.sum() == sum(len(query.wanted) for query in queries)


def test_the_sample_is_seeded_and_keeps_the_order() -> None:
    values = np.arange(100)
    assert sample(values, 7, 1).tolist() == sorted(sample(values, 7, 1).tolist())
    assert sample(values, 7, 1).tolist() == sample(values, 7, 1).tolist()
    assert sample(values, 7, 1).tolist() != sample(values, 7, 2).tolist()
    assert sample(values, 100, 1).tolist() == values.tolist()


@pytest.mark.parametrize(
    ("moment", "day"),
    [
        (datetime(2026, 3, 5, 1, 59, tzinfo=UTC), 4),  # last night's rows are not there yet
        (datetime(2026, 3, 5, 12, 0, tzinfo=UTC), 5),
        (datetime(2026, 3, 6, 0, 0, tzinfo=UTC), 5),
    ],
)
def test_a_bundle_is_as_old_as_last_night(moment: datetime, day: int) -> None:
    expected = datetime(2026, 3, day, tzinfo=UTC) + BATCH_LAG + TICK
    assert nightly(moment) == expected <= moment
    assert moment - expected < timedelta(days=1)


def test_an_item_that_nobody_touches_is_forgotten_after_its_launch(shop) -> None:
    past = read_past(shop.workspace)
    launched = shop.split.ranker_from - timedelta(days=1)
    never_touched = past.items.iloc[:1].assign(item_id="zzz", created_us=microseconds(launched))
    past = replace(
        past,
        items=pd.concat([past.items, never_touched], ignore_index=True),
        first_us=np.append(past.first_us, NEVER_US),
    )
    soon, late = shop.split.ranker_from, launched + NEW_ITEM + timedelta(days=1)
    bundles = bundles_at(past, None, [soon, late])
    assert "zzz" in bundles[soon].catalogue.index
    assert "zzz" not in bundles[late].catalogue.index


def test_an_items_features_are_those_of_the_querys_hour_not_of_its_bundle(site) -> None:
    past, store = read_past(site.workspace), open_feast(site.workspace)
    queries = slate_queries(site.workspace.lake, past, site.split, 40, seed=2)
    rows = build_rows(past, store, None, queries, seed=1)
    columns = [f for f in CURRENT.item if f.view == "item_hourly"]
    ids = [item for query in queries for item in query.shown]
    at = [query.event_at for query in queries for _ in query.shown]
    expected = item_rows(store, ids, at, columns)
    assert expected.any()
    for place, feature in enumerate(columns):
        got = column(rows.features, feature.column)
        np.testing.assert_allclose(got, expected[:, place], rtol=1e-6)
