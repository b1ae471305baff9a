import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from models.rerank import MAX_SHARE, rerank

CANDIDATES = st.lists(
    st.tuples(st.floats(-5, 5, allow_nan=False), st.integers(-1, 3)), min_size=1, max_size=30
)


@given(CANDIDATES, st.integers(1, 12))
def test_a_list_is_full_distinct_and_within_its_shares(
    candidates: list[tuple[float, int]], k: int
) -> None:
    scores = np.array([c[0] for c in candidates])
    codes = np.array([c[1] for c in candidates])
    places = rerank(scores, codes, k)
    assert len(set(places.tolist())) == len(places) == min(k, len(scores))
    limit = int(np.ceil(k * MAX_SHARE))
    room = sum(min(limit, int((codes == code).sum())) for code in set(codes.tolist()))
    if room >= k:
        assert max(np.bincount(codes[places] + 1)) <= limit


def test_one_subcategory_alone_still_fills_the_list() -> None:
    assert rerank(np.array([1.0, 3.0, 2.0]), np.array([4, 4, 4]), 3).tolist() == [1, 2, 0]


def test_ties_keep_the_order_of_the_candidates() -> None:
    assert rerank(np.zeros(4), np.array([0, 1, 2, 3]), 4).tolist() == [0, 1, 2, 3]
