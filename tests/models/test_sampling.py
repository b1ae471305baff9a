import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from models.sampling import histories

EVENTS = st.lists(
    st.tuples(st.integers(0, 3), st.integers(0, 5), st.integers(0, 6)), min_size=0, max_size=40
)


@given(EVENTS)
def test_a_history_is_what_the_same_user_took_strictly_earlier(
    events: list[tuple[int, int, int]],
) -> None:
    table = np.array(sorted(events, key=lambda e: (e[0], e[2], e[1])), dtype=np.int64).reshape(
        -1, 3
    )
    user_ix, item_ix, event_at = table.T
    shuffled = np.random.default_rng(0).permutation(len(table))
    targets, before = histories(user_ix[shuffled], item_ix[shuffled], event_at[shuffled], length=4)
    assert targets.tolist() == item_ix.tolist()
    for row in range(len(table)):
        earlier = [
            other
            for other in range(len(table))
            if user_ix[other] == user_ix[row] and event_at[other] < event_at[row]
        ]
        expected = [int(item_ix[other]) for other in earlier[::-1]][:4]
        assert before[row].tolist() == expected + [-1] * (4 - len(expected))
