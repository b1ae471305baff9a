"""Items and users: who wins, who is bare, and how many categories there may be."""

import pandas as pd

from features.schema import ITEMS, MAX_CATEGORIES, OTHER
from pipelines import catalogue, lake

NONE = pd.DataFrame()
SEEN = pd.DataFrame({"item_id": ["a", "b", "a"], "user_id": ["u", "u", "v"]})


def test_what_is_only_seen_gets_a_bare_row(tmp_path):
    catalogue.update(tmp_path, SEEN, pd.DataFrame({"item_id": ["a"], "title": ["Apple"]}), NONE)
    items = lake.read_items(tmp_path).set_index("item_id")
    assert items["title"].to_dict() == {"a": "Apple", "b": "b"}
    assert items["category"].tolist() == [OTHER, OTHER]
    assert lake.read_users(tmp_path)["user_id"].tolist() == ["u", "v"]


def test_a_new_row_replaces_the_known_one_and_a_bare_one_never_does(tmp_path):
    catalogue.update(tmp_path, SEEN, pd.DataFrame({"item_id": ["a"], "title": ["Apple"]}), NONE)
    catalogue.update(tmp_path, SEEN, NONE, NONE)
    assert lake.read_items(tmp_path)["title"].tolist() == ["Apple", "b"]
    catalogue.update(tmp_path, SEEN, pd.DataFrame({"item_id": ["b"], "title": ["Bean"]}), NONE)
    assert lake.read_items(tmp_path)["title"].tolist() == ["Apple", "Bean"]


def many(count):
    """One item in each of `count` categories, and two in the first."""
    names = ["c000"] + [f"c{number:03d}" for number in range(count)]
    frame = pd.DataFrame({"item_id": [f"i{n}" for n in range(count + 1)], "category": names})
    return catalogue.table_of(frame, ITEMS).to_pandas()


def test_rare_categories_become_other_and_stay_as_subcategory():
    capped = catalogue.cap_categories(many(100))
    assert capped["category"].nunique() == MAX_CATEGORIES
    assert (capped.loc[capped["subcategory"] == "c000", "category"] == "c000").all()
    cut = capped[capped["category"] == OTHER]
    assert len(cut) == 100 - (MAX_CATEGORIES - 1)
    assert cut["subcategory"].str.startswith("c").all()


def test_as_many_categories_as_allowed_are_left_alone():
    assert (catalogue.cap_categories(many(MAX_CATEGORIES))["category"] != OTHER).all()


def test_capping_twice_changes_nothing():
    once = catalogue.cap_categories(many(100))
    pd.testing.assert_frame_equal(catalogue.cap_categories(once), once)
