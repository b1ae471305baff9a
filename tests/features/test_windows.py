"""Counts by step equal a plain reading of the definition, in any order of arrival."""

from hypothesis import given, settings
from hypothesis import strategies as st

from features.request import MINUTE_US
from features.windows import DAY, HOUR, add, total

ARRIVALS = st.lists(st.tuples(st.integers(0, 3000), st.sampled_from([(1, 0), (0, 1)])), max_size=60)


@given(ARRIVALS, st.sampled_from([HOUR, DAY]))
@settings(max_examples=200, deadline=None)
def test_steps_count_what_the_plain_definition_counts(arrivals, window):
    counts: list = []
    for minute, (impressions, clicks) in arrivals:
        add(counts, window, minute * MINUTE_US, impressions, clicks)
    at = max((minute for minute, _ in arrivals), default=0) * MINUTE_US
    first = (at // window.step_us - window.steps + 1) * window.step_us
    inside = [kind for minute, kind in arrivals if minute * MINUTE_US >= first]
    assert total(counts, window, at) == (inside.count((1, 0)), inside.count((0, 1)))
    assert len(counts) <= window.steps


def test_a_window_empties_as_time_goes_on():
    counts: list = []
    add(counts, HOUR, 3 * MINUTE_US, 1, 0)
    assert total(counts, HOUR, 59 * MINUTE_US) == (1, 0)
    assert total(counts, HOUR, 60 * MINUTE_US) == (0, 0)
