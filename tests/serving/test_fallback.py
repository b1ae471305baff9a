from dataclasses import replace

import numpy as np
import pytest

from models.funnel import Slate
from serving import fallback
from serving.fallback import LastLists, PopularInContext
from tests.serving.conftest import NOW
from tests.worlds import tiny_bundle, tiny_parts


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return tiny_bundle(tmp_path_factory.mktemp("fallback"))


def slate(*item_ix: int) -> Slate:
    n = len(item_ix)
    return Slate(np.array(item_ix), np.ones(n), np.zeros(n, int), np.full(n, 3), None)


def test_only_the_most_recent_users_are_remembered(bundle):
    lists = LastLists(users=2)
    for user in ("ann", "bob", "ann", "eve"):
        lists.remember(user, bundle, slate(1, 2), [], NOW)
    assert lists.slate("bob", bundle, NOW) is None
    assert lists.slate("ann", bundle, NOW) is not None
    assert lists.slate("eve", bundle, NOW) is not None


def test_a_list_survives_a_new_bundle_without_the_items_it_lost(bundle, tmp_path):
    lists = LastLists()
    lists.remember("ann", bundle, slate(9, 2, 7), [], NOW)
    shorter = tiny_parts()
    rows = np.arange(8)[::-1]  # items 7 .. 0: other rows, and item 9 is gone
    shorter = replace(
        shorter,
        items=shorter.items.iloc[rows].reset_index(drop=True),
        matrix=shorter.matrix[rows],
        popular=rows,
        covisitation=None,
        item_vectors=None,
        tower=None,
    )
    found = lists.slate("ann", tiny_bundle(tmp_path, shorter), NOW)
    assert found is not None
    assert found.item_ix.tolist() == [5, 0]  # i2 and i7
    assert found.anchor_ix.tolist() == [4, 4]  # i3


def test_a_place_is_known_by_location_before_device():
    known = PopularInContext()
    for _ in range(fallback.CONTEXT_EVENTS_MIN):
        known.note_positive({"location": "north", "device": "app"}, "a")
        known.note_positive({"device": "app"}, "b")
        known.note_positive({"device": "app"}, "b")
    assert known.item_ids({"location": "north", "device": "app"}) == ["a"]
    assert known.item_ids({"location": "south", "device": "app"}) == ["b", "a"]
    assert known.item_ids({}) == []


def test_too_few_events_say_nothing():
    known = PopularInContext()
    for _ in range(fallback.CONTEXT_EVENTS_MIN - 1):
        known.note_positive({"location": "north"}, "a")
    assert known.item_ids({"location": "north"}) == []


def test_counts_fade_and_memory_is_bounded(monkeypatch):
    monkeypatch.setattr(fallback, "HALVE_AT", 100)
    monkeypatch.setattr(fallback, "CONTEXTS_KEPT", 2)
    monkeypatch.setattr(fallback, "ITEMS_PER_CONTEXT", 3)
    known = PopularInContext()
    for _ in range(99):
        known.note_positive({"location": "north"}, "old")
    known.note_positive({"location": "north"}, "new")
    assert known._counts["location", "north"] == {"old": 49}  # 99 // 2, and 1 // 2 is forgotten
    for n in range(10):
        known.note_positive({"location": "north"}, f"i{n}")
        known.note_positive({"location": f"l{n}"}, "a")
    assert len(known._counts["location", "north"]) == 3
    assert len(known._counts) == 2
