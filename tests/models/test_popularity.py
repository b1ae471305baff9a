import numpy as np

from models.popularity import own_history_order, popular_order, recent_counts


def test_a_new_hit_overtakes_an_old_one() -> None:
    # Item 0 sold 50 times long ago, item 1 three times in the newest tenth, item 2 never.
    item_ix = np.array([0] * 50 + [1] * 3)
    event_at = np.array([*range(50), 990, 995, 1000])
    assert popular_order(item_ix, event_at, 3).tolist() == [1, 0, 2]


def test_only_the_newest_tenth_of_time_is_recent() -> None:
    counted = recent_counts(np.array([0, 1, 2]), np.array([0, 809, 900]), 4)
    assert counted.tolist() == [0, 0, 1, 0]  # from 810 on


def test_no_event_at_all_gives_the_rows_in_order() -> None:
    none = np.empty(0, dtype=np.int64)
    assert popular_order(none, none, 3).tolist() == [0, 1, 2]


def test_own_history_is_padded_and_never_repeats() -> None:
    own = own_history_order(np.array([4, 2, 4, 3]), np.array([1, 9, 3, 9]), np.array([0, 2, 1]))
    assert own.tolist() == [4, 2, 3, 0, 1]  # 2 and 3 tie on count and time: the lower row first
