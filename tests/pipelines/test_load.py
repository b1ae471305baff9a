"""The load test measures the server, and says so when it cannot."""

import asyncio
import time

import httpx
import numpy as np
import pytest

from infra.local.process import free_port
from pipelines.load.arrivals import NEW_SHARE, Plan, plan, visitors, zipf
from pipelines.load.budget import STAGES
from pipelines.load.generator import Generator, Sent, session
from pipelines.load.latency import DIGITS, at, histogram, latencies_ms, stages, summary, withheld
from tests.pipelines.load_target import FAIL_EVERY, STALL_S, running_target

USERS = ["u0", "u1", "u2"]


def planned(rate: float, seconds: float, events_share: float = 0.0, seed: int = 1) -> Plan:
    return plan(rate, seconds, events_share, len(USERS), np.random.default_rng(seed))


def fire(url: str, wanted: Plan, timeout_s: float = 10.0) -> list[Sent]:
    async def run() -> list[Sent]:
        async with session(url, timeout_s) as client:
            return await Generator(client, "test", USERS).fire(wanted)

    return asyncio.run(run())


def one_after_the_other(url: str, wanted: Plan) -> tuple[list[float], list[float]]:
    """A closed loop: due at the same moments, but each waits for the answer before it.

    Returns the milliseconds from the actual send, as such clients report them, and from the
    intended one.
    """
    from_sent, from_due = [], []
    with httpx.Client(base_url=url) as client:
        start = time.perf_counter()
        for due_s in wanted.due_s:
            time.sleep(max(start + due_s - time.perf_counter(), 0.0))
            sent_s = time.perf_counter() - start
            client.post("/v1/recommendations", json={"user_id": "u0"}, timeout=10.0)
            done_s = time.perf_counter() - start
            from_sent.append((done_s - sent_s) * 1000)
            from_due.append((done_s - due_s) * 1000)
    return from_sent, from_due


def waited_long(values_ms: list[float]) -> int:
    return sum(value > STALL_S * 1000 / 2 for value in values_ms)


def test_a_stall_is_counted_for_everybody_who_was_due(tmp_path):
    wanted, rate = planned(rate=100, seconds=3), 100
    with running_target(tmp_path, "stall") as url:
        latencies = latencies_ms(fire(url, wanted))
    told = histogram(latencies)
    # Half of the stall's second is further than half a second from its end: 50 of about 300.
    assert abs(waited_long(latencies) - rate * STALL_S / 2) < 4 * np.sqrt(rate * STALL_S / 2)
    assert at(told, 99.0) > 0.9 * STALL_S * 1000
    assert at(told, 100.0) > 0.98 * STALL_S * 1000

    with running_target(tmp_path, "stall") as url:
        from_sent, from_due = one_after_the_other(url, wanted)
    assert waited_long(from_sent) == 1  # the same second, seen by the one who happened to ask
    assert at(histogram(from_sent), 99.0) < 0.5 * STALL_S * 1000
    assert waited_long(from_due) > 30  # the users who were due then know better


def test_a_generator_that_cannot_keep_up_reports_no_latency(tmp_path):
    async def blocked(url: str) -> list[Sent]:
        async def hog() -> None:
            while True:
                time.sleep(0.2)  # not asyncio's: the loop itself stands still
                await asyncio.sleep(0.05)

        async with session(url, 10.0) as client:
            busy = asyncio.create_task(hog())
            sent = await Generator(client, "test", USERS).fire(planned(50, 2))
            busy.cancel()
            return sent

    with running_target(tmp_path) as url:
        metrics = summary(asyncio.run(blocked(url)), 50, 2)
    assert metrics["generator_lag_ms_p99"] > 100
    assert "the generator was itself" in metrics["latency_withheld"]
    assert [metrics[name] for name in ("p50_ms", "p95_ms", "p99_ms", "p999_ms", "max_ms")] == [
        None
    ] * 5
    assert metrics["events"]["p99_ms"] is None
    assert metrics["errors"] == 0  # all were answered; only their times are not to be believed


def test_a_small_lag_or_a_tenth_of_the_latency_is_let_pass():
    slow = histogram([50.0] * 99 + [1000.0])
    assert withheld(histogram([0.9] * 100), histogram([2.0] * 100)) is None
    assert withheld(histogram([4.9] * 100), slow) is None
    assert "p50" in (withheld(histogram([5.2] * 100), slow) or "")  # the median would be wrong
    assert "p99" in (withheld(histogram([0.1] * 98 + [200.0] * 2), slow) or "")
    assert withheld(histogram([]), histogram([])) == "no request was answered"


def test_arrivals_are_poisson_at_the_rate_asked_for():
    rate, seconds = 200.0, 100.0
    due_s = planned(rate, seconds).due_s
    assert abs(len(due_s) - rate * seconds) < 4 * np.sqrt(rate * seconds)
    assert (np.diff(due_s) >= 0).all()
    # Gaps are exponential: the greatest distance to that law stays below Kolmogorov's 0.1 % limit.
    gaps = np.sort(np.diff(due_s))
    law = 1.0 - np.exp(-rate * gaps)
    assert np.abs(law - np.arange(len(gaps)) / len(gaps)).max() < 1.95 / np.sqrt(len(gaps))
    # Counts of a second scatter as widely as they are high; a metronome's would not scatter.
    counts = np.histogram(due_s, bins=int(seconds), range=(0, seconds))[0]
    assert counts.var() / counts.mean() == pytest.approx(1.0, abs=0.5)


def test_the_same_seed_plans_the_same_load():
    one, same, other = planned(50, 5, 0.3), planned(50, 5, 0.3), planned(50, 5, 0.3, seed=2)
    for name in Plan.__slots__:
        assert np.array_equal(getattr(one, name), getattr(same, name))
    assert not np.array_equal(one.due_s, other.due_s)
    assert one.is_event.mean() == pytest.approx(0.3, abs=0.1)


def test_users_visit_by_zipfs_law():
    wanted = plan(1000.0, 20.0, 0.0, 50, np.random.default_rng(3))
    visits = np.bincount(wanted.user_ix, minlength=50)
    expected = zipf(50) * len(wanted)
    assert (np.abs(visits - expected) < 5 * np.sqrt(expected)).all()
    assert visits[0] / visits[1] == pytest.approx(2.0, rel=0.1)


def test_known_users_come_with_some_new_ones():
    known = [f"u{n}" for n in range(90)]
    users = visitors(known, None, np.random.default_rng(4))
    assert len(users) == len(set(users)) == 100  # room for a tenth of new ones
    new = [user for user in users if user not in known]
    assert len(new) / len(users) == pytest.approx(NEW_SHARE, abs=0.1)
    assert len(visitors(known, 7, np.random.default_rng(4))) == 7
    assert len(visitors([], 5, np.random.default_rng(4))) == 5  # all new


def test_clicks_are_on_what_was_shown_each_with_its_own_id(tmp_path):
    with running_target(tmp_path) as url:
        sent = fire(url, planned(100, 2, events_share=0.3))
        seen = httpx.get(f"{url}/seen").json()
    clicks = [one for one in sent if one.is_event and one.problem is None]
    assert len(seen) == len(clicks) > 20
    assert len({event["event_id"] for event in seen}) == len(seen)
    for event in seen:
        assert event["item_id"] == f"i{event['position'] - 1}"  # where the slate had it
        assert event["user_id"] in USERS
    assert len({event["position"] for event in seen}) > 5


def test_failures_are_counted_by_kind(tmp_path):
    wanted = planned(100, 1)
    with running_target(tmp_path, "fails") as url:
        metrics = summary(fire(url, wanted), 100, 1)
    assert metrics["errors_by_kind"] == {"status 500": len(wanted) // FAIL_EVERY}
    assert metrics["errors"] == len(wanted) // FAIL_EVERY
    assert metrics["rungs"] == {"0": len(wanted) - metrics["errors"]}


@pytest.mark.parametrize(
    ("fault", "kind"), [("redirects", "status 302"), ("nonsense", "an answer that is no slate")]
)
def test_a_redirect_is_not_followed_and_any_200_is_not_a_slate(tmp_path, fault, kind):
    wanted = planned(50, 0.5)
    with running_target(tmp_path, fault) as url:
        metrics = summary(fire(url, wanted), 50, 0.5)
    assert metrics["errors_by_kind"] == {kind: len(wanted)}


def test_a_server_that_is_away_is_all_errors_and_no_latency():
    wanted = planned(50, 0.5, events_share=0.5)
    metrics = summary(fire(f"http://127.0.0.1:{free_port()}", wanted), 50, 0.5)
    assert metrics["errors"] == len(wanted)
    assert set(metrics["errors_by_kind"]) == {"no connection", "no slate was shown to click on"}
    assert (metrics["p50_ms"], metrics["latency_withheld"]) == (None, "no request was answered")
    assert metrics["rate"] == 0


def test_who_gave_up_has_waited(tmp_path):
    with running_target(tmp_path, "stall") as url:
        sent = fire(url, planned(rate=100, seconds=2), timeout_s=0.3)
    given_up = [one for one in sent if one.timed_out]
    assert given_up
    # Left out, those who fared worst would make the server look better.
    assert at(histogram(latencies_ms(sent)), 100.0) >= 300
    assert summary(sent, 100, 2)["errors_by_kind"] == {"no answer in time": len(given_up)}


def test_stages_stand_beside_the_budget_of_the_source_documents():
    sent = Sent(False, due_s=0.0, sent_s=0.001, done_s=0.007, rung=0)
    sent.stages_ms = {"features": 1.5, "rank": 2.25, "total": 4.0}
    told = stages([sent, Sent(True, 0.0, 0.0, 0.001, stages_ms={"total": 1.0})])
    assert {name: told[name]["budget_ms"] for name in told if told[name]["budget_ms"]} == {
        "features": 5.0, "retrieve": 10.0, "pre_rank": 5.0, "rank": 20.0, "rerank": 5.0, "total": 31.0,
    }  # fmt: skip
    assert told["features"]["p50_ms"] == pytest.approx(1.5, rel=10**-DIGITS)
    assert told["rank"]["p99_ms"] == pytest.approx(2.25, rel=10**-DIGITS)
    assert told["outside"]["p99_ms"] == pytest.approx(6.0 - 4.0, rel=10**-DIGITS)
    assert told["pre_rank"]["p50_ms"] is None
    assert "not built yet" in told["pre_rank"]["absent"]
    assert list(told) == list(STAGES)
