"""The item matrix of the serving process: equal to Feast, renewed in the background, never in a request."""

from datetime import timedelta

import numpy as np
import pyarrow as pa
import pytest

from features.definitions import HOURLY_TTL, ITEM_VIEWS
from features.errors import FeaturesUnavailable
from features.feature_set import CURRENT
from features.schema import EVENTS
from features.store import OnlineStore
from infra.clients import clear_online, open_feast
from monitoring.metrics import Metrics
from pipelines.build_features import build_features
from pipelines.lake import append_events
from pipelines.materialize import materialize
from serving.current import CurrentBundle, StoreReader
from serving.fresh_items import CHUNK, FreshItems
from tests.features.small_lake import DAY, event, random_lake
from tests.serving.conftest import NOW, running, runtime, until

AT = DAY + timedelta(hours=6)
"""NOW, the shop's clock, is six hours later on the same day."""


class Parts:
    """What the background task works on, without an API around it."""

    def __init__(self, shop, now=AT, deadline_s=60.0):
        self.workspace, self.now, self.metrics = shop.workspace, now, Metrics()
        self.current = CurrentBundle(self.workspace.bundles, self.metrics)
        self.current.refresh()
        self.reader = StoreReader(self.workspace, 1000)
        self.reader.open()
        self.items = FreshItems(
            self.current, self.reader, self.workspace.items_mark, self.metrics, lambda: self.now,
            deadline_s,
        )  # fmt: skip

    @property
    def matrix(self):
        return self.current.bundle.catalogue.matrix

    def count(self, outcome):
        return self.metrics.registry.get_sample_value(
            "shortlist_item_refreshes_total", {"outcome": outcome}
        )


@pytest.fixture
def filled(shop):
    """The shop of 60 items, eleven of which have rows in the stores."""
    random_lake(shop.workspace.lake)
    days = [DAY.date(), DAY.date() - timedelta(days=1)]
    build_features(shop.workspace, days, "duckdb", until=AT)
    materialize(shop.workspace, AT)
    return shop


def test_the_matrix_equals_feast_on_ten_thousand_random_pairs(filled):
    parts = Parts(filled)
    published = parts.matrix
    assert parts.items.refresh()
    ids, columns = parts.current.bundle.catalogue.item_ids, CURRENT.item
    asked = open_feast(filled.workspace).get_online_features(
        features=[f"{f.view}:{f.column}" for f in columns],
        entity_rows=[{"item_id": str(item_id)} for item_id in ids],
    )
    answers = asked.to_dict()
    rng = np.random.default_rng(0)
    for item, place in zip(
        rng.integers(len(ids), size=10_000), rng.integers(len(columns), size=10_000), strict=True
    ):
        told = answers[columns[place].column][item]
        assert parts.matrix[item, place] == (columns[place].default if told is None else told)
    assert not np.array_equal(parts.matrix, published)
    assert len(ids) < CHUNK or parts.count("done") == 1


def test_nothing_is_read_while_nothing_was_written(filled):
    parts = Parts(filled)
    assert parts.items.refresh()
    before = parts.current.bundle
    assert not parts.items.refresh()
    assert parts.current.bundle is before


def test_new_item_rows_are_served_without_a_restart(filled):
    place = CURRENT.item.index(next(f for f in CURRENT.item if f.name == "item_positives_1h"))
    with running(filled) as client:
        held = runtime(client).current
        until(lambda: runtime(client).items._seen is not None)
        bought = event("now", 0, "purchase", item_id="i59", event_at=NOW - timedelta(minutes=90))
        append_events(filled.workspace.lake, pa.Table.from_pylist([bought], EVENTS))
        build_features(filled.workspace, [DAY.date()], "duckdb", until=NOW)
        materialize(filled.workspace, NOW, ["item_hourly"])
        row = held.bundle.catalogue.index["i59"]
        until(lambda: held.bundle.catalogue.matrix[row, place] == 1.0)


def test_no_request_reads_an_item_online(filled, monkeypatch):
    read = []
    real = OnlineStore._read_many

    def noted(self, asked, *more):
        read.extend(view for view, _ in asked)
        return real(self, asked, *more)

    monkeypatch.setattr(OnlineStore, "_read_many", noted)
    with running(filled) as client:
        items = runtime(client).items
        until(lambda: items._seen is not None)
        read.clear()
        for _ in range(5):
            patient = {"X-Deadline-Ms": "1000"}  # a busy machine must not cost a rung
            asked = {"user_id": "ann", "k": 20}
            answer = client.post("/v1/recommendations", json=asked, headers=patient).json()
            assert answer["rung"] == 0
    assert read
    assert not set(read) & set(ITEM_VIEWS)


def test_what_outlived_its_ttl_becomes_the_default(filled):
    parts = Parts(filled)
    assert parts.items.refresh()
    hourly = [place for place, f in enumerate(CURRENT.item) if f.view == "item_hourly"]
    defaults = [CURRENT.item[place].default for place in hourly]
    assert (parts.matrix[:, hourly] != defaults).any()
    parts.now = AT + HOURLY_TTL + timedelta(hours=1)
    assert parts.items.refresh()
    assert (parts.matrix[:, hourly] == defaults).all()
    assert (parts.matrix != [f.default for f in CURRENT.item]).any()  # the day's rows stand
    assert not parts.items.refresh()


def test_rows_that_expired_by_a_clock_set_ahead_are_back_when_it_is_set_right(filled):
    parts = Parts(filled)
    assert parts.items.refresh()
    before = parts.matrix
    parts.now = AT + timedelta(days=1)
    assert parts.items.refresh()
    assert not np.array_equal(parts.matrix, before)
    parts.now = AT + timedelta(seconds=1)
    assert parts.items.refresh()
    np.testing.assert_array_equal(parts.matrix, before)
    assert not parts.items.refresh()


def test_a_store_that_lost_its_rows_is_not_believed(filled):
    parts = Parts(filled)
    assert parts.items.refresh()
    before = parts.matrix
    clear_online(filled.workspace)
    filled.workspace.items_mark.write_text("another")
    assert not parts.items.refresh()
    assert parts.matrix is before
    assert parts.count("empty") == 1


@pytest.mark.parametrize("why", ["away", "slow"])
def test_a_refresh_that_fails_leaves_the_old_matrix_and_is_tried_again(filled, monkeypatch, why):
    parts = Parts(filled, deadline_s=60.0 if why == "away" else -1.0)
    before = parts.matrix

    def away(*_args):
        raise FeaturesUnavailable("features: the store failed (ConnectionError)")

    if why == "away":
        monkeypatch.setattr(parts.reader.store, "read_items", away)
    for attempt in (1, 2):
        assert not parts.items.refresh()
        assert parts.count("failed") == attempt
    assert parts.matrix is before
    monkeypatch.undo()
    parts.items._deadline_s = 60.0
    assert parts.items.refresh()


def test_a_shop_whose_stores_were_never_filled_keeps_what_its_bundle_says(shop):
    parts = Parts(shop)
    assert not parts.items.refresh()
