"""The short form of the crash bench, and the books that it is judged by."""

import pytest

from features.streaming import empty, fold, judged, parsed
from infra.local import kafka, redis
from pipelines.bench_crash import stream_crash
from pipelines.bench_traffic import Traffic


def test_the_generators_books_agree_with_the_plain_fold():
    traffic = Traffic(6_000, seed=3, users=40)
    states: dict = {}
    verdicts = {"new": 0, "repeated": 0, "late": 0}
    for user_id, value in traffic.records():
        event = parsed(value, user_id)
        state = states.get(user_id) or empty()
        verdicts[judged(state, event["event_id"], event["event_at"])] += 1
        states[user_id], _ = fold(state, event, ("click",))
    assert verdicts == {"new": traffic.new, "repeated": traffic.repeated, "late": traffic.late}
    assert 0.03 < traffic.repeated / traffic.count < 0.07
    assert 0.005 < traffic.late / traffic.count < 0.015


@pytest.mark.parametrize("backend", ["embedded", "kafka"])
def test_five_kills_lose_nothing_and_count_nothing_twice(backend, tmp_path):
    if backend == "kafka":
        try:
            kafka.fetch()
            redis.command(tmp_path, 1)
        except kafka.Absent as why:
            pytest.skip(f"absent backend: {why}")
    found = stream_crash(5, 60_000, seed=1, backends=[backend])[backend]
    assert (found["wrong_keys"], found["lost"], found["lag"]) == (0, 0, 0)
    assert found["late_counted"] == found["late_expected"] > 0
    assert found["recounted"] == found["new_expected"]
    assert found["killed_working"] >= 3
    assert found["resume_s_p50"] < 30  # of a machine that is busy with other things
