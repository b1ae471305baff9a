"""The numbers of the report, on books whose numbers are plain."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from features.errors import ContractError
from monitoring.assignment import arm_of
from pipelines.loop.shelf import Shelf, read_shelf
from pipelines.loop.summary import MEASURES, experiment, halves, of_family, summarise
from tests.pipelines.loop.books import ALL, ONE, by_hand, made_up, write_day

SALT = "salt"
WORTH = {"popular": 0.4, "full": 0.6, "oracle": 0.8}
CLICKS = {"popular": 1, "full": 2, "oracle": 3}


def summary(folder, plan):
    return summarise(read_shelf(folder, plan), plan, SALT)


@pytest.fixture
def plain(tmp_path):
    by_hand(tmp_path, ONE, WORTH, CLICKS)
    return tmp_path


def test_lift_and_share_of_a_book_written_by_hand(plain):
    trust = summary(plain, ONE)["trust"]
    assert trust["lift_true"]["mean"] == pytest.approx(0.6 / 0.4 - 1)
    assert trust["lift_true"]["per_seed"] == {"0": pytest.approx(0.5)}
    assert trust["share_of_oracle"]["mean"] == pytest.approx(0.6 / 0.8)
    assert trust["lift_observed"]["mean"] == pytest.approx(2 / 1 - 1)
    assert trust["lift_observed"]["within"]["0"] == pytest.approx([1, 1]), "all slates are alike"
    assert trust["lift_observed"]["covered"] == 0, "clicks double, what is true grows by half"
    assert trust["lift_observed"]["gap"]["mean"] == pytest.approx(1 - 0.5)
    assert trust["lift_true"]["low"] is None, "one seed gives no interval"


def test_each_measure_is_a_ratio_of_its_own_two_numbers(tmp_path):
    plan = replace(ONE, days=1, arms=("full",))
    slates = pd.DataFrame({"user_id": list("abcd"), "clicks": [1, 0, 0, 1], "utility": 0.25})
    numbers = {"satisfaction": 1.2, "purchases": 3, "revenue": 50.0}
    write_day(
        tmp_path, ("trust", 0, "full"), 0, slates, coverage=0.3, gini=0.7, new_share=0.2, **numbers
    )
    told = summary(tmp_path, plan)["trust"]
    measured = {name: told["arms"]["full"][name][0]["mean"] for name in MEASURES}
    assert measured == {
        "clicks_per_slate": 2 / 4,
        "utility_per_slate": 0.25,
        "satisfaction_per_click": 1.2 / 2,
        "purchases_per_slate": 3 / 4,
        "revenue_per_slate": 50 / 4,
        "coverage": 0.3,
        "gini": 0.7,
        "new_share": 0.2,
        "slates": 4,
    }
    assert told["lift_true"] is told["lift_observed"] is told["share_of_oracle"] is None
    assert told["lift_by_day"] == {}


def test_all_days_weigh_by_their_slates(tmp_path):
    plan = replace(ONE, arms=("popular", "full"))
    for arm, worth in (("popular", (1.0, 1.0)), ("full", (1.0, 2.0))):
        for day, count in enumerate((30, 10)):
            slates = pd.DataFrame(
                {"user_id": [f"u{n}" for n in range(count)], "clicks": 1, "utility": worth[day]}
            )
            write_day(tmp_path, ("trust", 0, arm), day, slates)
    told = summary(tmp_path, plan)["trust"]
    assert told["lift_true"]["mean"] == pytest.approx((30 * 1 + 10 * 2) / 40 - 1)
    assert [point["mean"] for point in told["lift_by_day"]["full"]] == [0, 1]


def test_intervals_are_students_over_one_paired_number_per_seed(tmp_path):
    plan = replace(ONE, days=1, seeds=(0, 1, 2), arms=("popular", "full"))
    for seed, (base, gain) in enumerate(((1.0, 1.1), (2.0, 1.2), (5.0, 1.3))):
        for arm, worth in (("popular", base), ("full", base * gain)):
            slates = pd.DataFrame({"user_id": ["a", "b"] * 20, "clicks": 1, "utility": worth})
            write_day(tmp_path, ("trust", seed, arm), 0, slates)
    told = summary(tmp_path, plan)["trust"]
    half = 4.302652729911275 * 0.1 / np.sqrt(3)  # t(0.975, 2) x standard error of 0.1, 0.2, 0.3
    assert told["lift_true"]["mean"] == pytest.approx(0.2)
    assert told["lift_true"]["low"] == pytest.approx(0.2 - half)
    assert told["lift_true"]["high"] == pytest.approx(0.2 + half)
    alone = told["arms"]["full"]["utility_per_slate"][0]
    assert alone["low"] < 0, "one arm's own interval is of worlds, which differ far more than arms"


def test_an_unfinished_seed_is_named_and_left_out(tmp_path):
    plan = replace(ONE, seeds=(0, 1), families=("trust", "cascade"))
    by_hand(tmp_path, replace(plan, families=("trust",)), WORTH, CLICKS)
    by_hand(tmp_path, replace(plan, families=("cascade",), seeds=(1,), days=1), WORTH, CLICKS)
    (tmp_path / "trust-1" / "oracle" / "book" / "day-01" / "day.json").unlink()
    told = summary(tmp_path, plan)
    assert told["families"] == ["trust"]
    assert told["trust"]["seeds"] == [0]
    assert list(told["trust"]["lift_true"]["per_seed"]) == ["0"]
    assert {"family": "trust", "seed": 1, "arm": "oracle", "days": 1} in told["unfinished"]
    assert {"family": "cascade", "seed": 0, "arm": "full", "days": 0} in told["unfinished"]
    assert len(told["unfinished"]) == 1 + 2 * 3
    nothing = summarise(read_shelf(tmp_path / "nowhere", plan), plan, SALT)
    assert nothing["families"] == []
    assert len(nothing["unfinished"]) == 2 * 2 * 3


def test_a_longer_run_in_the_same_place_is_read_as_far_as_asked(plain):
    assert summary(plain, replace(ONE, days=1))["seconds"] == 3 * 1.5


def test_halves_split_by_user_and_never_mix_a_users_arms(tmp_path):
    made_up(tmp_path, replace(ALL, families=("trust",), seeds=(0,), days=2))
    shelf = read_shelf(tmp_path, replace(ALL, families=("trust",), seeds=(0,), days=2))
    tested = halves(shelf.slates, SALT)
    assert (tested.groupby("user_id")["arm"].nunique() == 1).all()
    for arm, rows in tested.groupby("arm"):
        assert {arm_of(user, experiment("trust", 0), SALT) for user in rows["user_id"]} == {arm}
        all_of_arm = shelf.slates[shelf.slates["arm"] == arm]
        mine = all_of_arm["user_id"].isin(rows["user_id"].unique())
        assert len(rows) == mine.sum(), "every slate of theirs in that twin counts"
    assert len(tested) < len(shelf.slates) * 0.7


def test_every_world_is_split_anew(tmp_path):
    plan = replace(ONE, families=("trust", "cascade"), seeds=(0, 1))
    by_hand(tmp_path, plan, WORTH, CLICKS)
    tested = halves(read_shelf(tmp_path, plan).slates, SALT)
    fulls = [
        frozenset(rows.loc[rows["arm"] == "full", "user_id"])
        for _, rows in tested.groupby(["family", "seed"])
    ]
    assert len(set(fulls)) == 4


def test_halves_scatter_around_what_twins_know(tmp_path):
    plan = replace(ALL, families=("trust",), seeds=tuple(range(12)), days=2)
    made_up(tmp_path, plan)
    told = summary(tmp_path, plan)["trust"]
    true, seen = told["lift_true"], told["lift_observed"]
    assert seen["covered"] >= 9 / 12, "an interval of one test mostly holds the truth of its world"
    widths = [high - low for low, high in seen["within"].values()]
    assert np.mean(widths) > true["high"] - true["low"], "a test of halves knows less than twins do"
    assert seen["gap"]["low"] < 0 < seen["gap"]["high"], "on average it is right"


def test_a_test_without_any_click_in_the_control_gives_no_number(tmp_path):
    plan = replace(ONE, seeds=(0, 1))
    by_hand(tmp_path, plan, WORTH, CLICKS)
    by_hand(tmp_path, replace(ONE, seeds=(1,), arms=("popular",)), WORTH, {"popular": 0})
    told = summary(tmp_path, plan)["trust"]
    assert list(told["lift_observed"]["per_seed"]) == list(told["lift_observed"]["within"]) == ["0"]
    assert list(told["lift_true"]["per_seed"]) == ["0", "1"]
    assert list(told["beside"]["clicks_per_slate"]["per_seed"]) == ["0"]
    assert told["arms"]["popular"]["satisfaction_per_click"][0]["mean"] == 0.5, "of the other seed"


def test_a_test_that_may_be_endless_gives_no_number(tmp_path):
    plan = replace(ONE, days=1, arms=("popular", "full"))
    users = [f"u{number}" for number in range(40)]
    for arm in plan.arms:
        slates = pd.DataFrame({"user_id": users, "clicks": 1, "utility": 1.0})
        if arm == "popular":
            mine = [user for user in users if arm_of(user, experiment("trust", 0), SALT) == arm]
            slates["clicks"] = (slates["user_id"] == mine[0]).astype(int)
        write_day(tmp_path, ("trust", 0, arm), 0, slates)
    told = summary(tmp_path, plan)["trust"]
    assert told["lift_observed"] is None, "a third of the resamples have no click to compare with"
    assert told["lift_true"]["mean"] == 0


def test_mornings_of_full_are_told_in_order(tmp_path):
    plan = replace(ONE, seeds=(0, 1), days=3)
    made_up(tmp_path, plan)
    mornings = summary(tmp_path, plan)["trust"]["mornings"]
    assert [(m["seed"], m["day"]) for m in mornings] == [(0, 1), (0, 2), (1, 1), (1, 2)]
    assert set(mornings[0]) == {"seed", "day", "because", "retrained", "promoted", "verdict"}


def test_a_book_in_the_wrong_place_or_with_holes_is_refused(plain):
    book = plain / "trust-0" / "full" / "book"
    moved = book / "day-01" / "day.json"
    moved.write_text((book / "day-00" / "day.json").read_text())
    with pytest.raises(ContractError, match=r"is the book of .*'full', 0.*expected .*'full', 1"):
        read_shelf(plain, ONE)
    moved.write_text('{"slates": 3}')
    with pytest.raises(ContractError, match="lacks users, clicks"):
        read_shelf(plain, ONE)


def test_the_same_books_give_the_same_digest_and_others_another(plain, tmp_path_factory):
    first = summary(plain, ONE)
    assert summary(plain, ONE) == first
    other = tmp_path_factory.mktemp("other")
    by_hand(other, ONE, WORTH, CLICKS)
    write_day(
        other,
        ("trust", 0, "full"),
        1,
        pd.DataFrame({"user_id": ["a"], "clicks": 1, "utility": 1.0}),
        log_sha256="x",
    )
    assert summary(other, ONE)["logs_sha256"] != first["logs_sha256"]


def test_a_family_is_measured_from_frames_alone(plain):
    shelf: Shelf = read_shelf(plain, ONE)
    before = shelf.days.copy(), shelf.slates.copy()
    of_family(shelf.days, shelf.slates, SALT)
    pd.testing.assert_frame_equal(shelf.days, before[0])
    pd.testing.assert_frame_equal(shelf.slates, before[1])
