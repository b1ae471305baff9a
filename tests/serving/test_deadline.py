import asyncio
import threading
import time

import pytest

from features.errors import FeaturesUnavailable, Unavailable
from serving.deadline import BoundedPool, Deadline


@pytest.fixture
def pool():
    made = BoundedPool("features", threads=2, waiting=1, error=FeaturesUnavailable)
    yield made
    made.close()


def test_an_answer_in_time_is_returned(pool):
    assert asyncio.run(pool.call(1000, lambda a, b: a + b, 2, b=3)) == 5


def test_the_functions_own_error_is_passed_on(pool):
    with pytest.raises(ZeroDivisionError):
        asyncio.run(pool.call(1000, lambda: 1 / 0))


def test_a_late_answer_is_not_waited_for(pool):
    release = threading.Event()

    async def ask() -> float:
        started = time.monotonic()
        with pytest.raises(FeaturesUnavailable, match="features: no answer within 20 ms"):
            await pool.call(20, release.wait)
        return time.monotonic() - started

    assert asyncio.run(ask()) < 1.0
    release.set()


def test_a_stuck_pool_refuses_at_once(pool):
    release = threading.Event()
    begun = []

    def hang() -> None:
        begun.append(1)
        release.wait()

    async def ask() -> None:
        late = [pool.call(30, hang) for _ in range(3)]  # two threads and one waiting place
        answers = await asyncio.gather(*late, return_exceptions=True)
        assert all(isinstance(answer, FeaturesUnavailable) for answer in answers)
        await pool.call(30, lambda: None)  # the waiting one was cancelled, its place is free ...

    with pytest.raises(Unavailable, match="no answer"):  # ... but no thread is
        asyncio.run(ask())

    async def burst() -> list[object]:
        return await asyncio.gather(
            *(pool.call(30, hang) for _ in range(50)), return_exceptions=True
        )

    started = time.monotonic()
    messages = [str(answer) for answer in asyncio.run(burst())]
    assert sum("all 3 places" in message for message in messages) == 49
    assert time.monotonic() - started < 1.0
    assert len(begun) == 2
    release.set()


def test_a_pool_recovers_when_the_calls_return(pool):
    release = threading.Event()

    async def ask() -> str:
        with pytest.raises(FeaturesUnavailable):
            await pool.call(10, release.wait)
        release.set()
        return await pool.call(1000, lambda: "well again")

    assert asyncio.run(ask()) == "well again"


def test_a_deadline_counts_down_to_zero_and_no_further():
    deadline = Deadline(budget_ms=50, started=time.monotonic() - 0.020)
    assert 0 < deadline.left_ms() <= 30
    assert Deadline(budget_ms=50, started=time.monotonic() - 9).left_ms() == 0.0
