from dataclasses import replace

import numpy as np
import pytest

from features.request import UserRow
from models.funnel import Slate
from serving.people import likes
from serving.show import item, items, reason
from serving.stopwatch import Stopwatch
from tests.worlds import tiny_bundle, tiny_parts


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    parts = tiny_parts()
    table = parts.items.copy()
    table.loc[2, "price"] = np.nan
    table.loc[3, "category"] = None
    return tiny_bundle(tmp_path_factory.mktemp("show"), replace(parts, items=table))


def test_what_is_unknown_of_an_item_is_null(bundle):
    price = float(bundle.prices[0])
    assert item(bundle, 0) == {
        "item_id": "i0", "title": "Item 0", "category": "books", "price": price,
    }  # fmt: skip
    assert item(bundle, 2)["price"] is None
    assert item(bundle, 3)["category"] is None


def test_places_count_from_one_and_carry_their_source(bundle):
    slate = Slate(
        np.array([4, 9]), np.array([0.5, 1 / 3]), np.array([1, 3]), np.array([5, -1]), None
    )
    shown = items(bundle, slate)
    assert [(row["position"], row["source"], row["score"]) for row in shown] == [
        (1, "covisitation", 0.5),
        (2, "popular", 0.333333),
    ]


@pytest.mark.parametrize(
    ("source", "anchor_ix", "said"),
    [
        ("two_tower", 5, "Because you chose Item 5"),
        ("two_tower", -1, "Close to your taste"),
        ("two_tower", 4, "You chose this before"),
        ("covisitation", 5, "Often chosen together with Item 5"),
        ("covisitation", -1, "Often chosen together"),
        ("history", 4, "You chose this before"),
        ("popular", -1, "Popular now"),
    ],
)
def test_the_reason_names_what_led_to_the_item(bundle, source, anchor_ix, said):
    assert reason(source, 4, anchor_ix, bundle) == said


def test_a_user_likes_the_categories_with_most_of_the_positives():
    rows = {
        name: {"category_share_90d": share}
        for name, share in (("books", 0.2), ("games", 0.5), ("music", 0.3))
    }
    assert likes(replace(UserRow.unknown(), category_rows=rows)) == ["games", "music"]
    assert likes(UserRow.unknown()) == []


def test_the_stop_watch_adds_up_and_remembers_the_stage_that_failed():
    watch = Stopwatch()
    for _ in range(2):
        with watch.stage("retrieve"):
            pass
    assert watch.running is None
    with pytest.raises(ValueError, match="bad"), watch.stage("rank"):
        raise ValueError("bad")
    assert watch.running == "rank"
    timings = watch.stop()
    assert list(timings) == ["retrieve", "rank", "total"]
    assert timings["total"] >= timings["retrieve"] + timings["rank"] - 0.002
