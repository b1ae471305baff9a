"""The ladder, with a store and a ranker that fail on demand."""

import asyncio
import threading
import time
from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest

from features.errors import FeaturesUnavailable
from features.request import UserRow
from infra.settings import Settings
from models.bundle import load, write
from models.ranker import Ranker
from monitoring.metrics import Metrics
from serving.deadline import BoundedPool, Deadline
from serving.fallback import Fallback, LastLists, PopularInContext
from serving.recommend import Asked, Recommender
from tests.serving.conftest import NOW, shop_parts


class FakeReader:
    """An online store that answers, fails, or hangs."""

    def __init__(self) -> None:
        self.row = replace(
            UserRow.unknown(), history_items=["i5", "i3"], history_at=[2_000_000, 1_000_000]
        )
        self.error: Exception | None = None
        self.hangs = threading.Event()
        self.hangs.set()
        self._pool = BoundedPool("features", threads=2, waiting=2, error=FeaturesUnavailable)

    async def read(self, user_id, bundle, now, timeout_ms):
        def answer():
            self.hangs.wait()
            if self.error:
                raise self.error
            return self.row

        return await self._pool.call(timeout_ms, answer)


class BrokenRanker(Ranker):
    def score(self, features):
        raise ValueError("secret path /models/ranker")


class NanRanker(Ranker):
    def score(self, features):
        return np.full(len(features), np.nan)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ladder")
    write(folder, replace(shop_parts(), info=replace(shop_parts().info, seen_filter=True)))
    return load(folder)


@pytest.fixture
def reader():
    fake = FakeReader()
    yield fake
    fake.hangs.set()


@pytest.fixture
def ladder(reader):
    budgets = Settings(deadline_ms=1000, features_timeout_ms=500)
    fallback = Fallback(LastLists(), PopularInContext())
    return Recommender(budgets, reader, fallback, Metrics())


def ask(ladder, bundle, user_id="ann", *, k=5, at=NOW, budget_ms=1000.0, **context):
    asked = Asked(user_id, k, context, at, Deadline(budget_ms))
    return asyncio.run(ladder.answer(bundle, asked))


def items(answer) -> list[str]:
    return answer.bundle.catalogue.item_ids[answer.slate.item_ix].tolist()


def fail(reader) -> None:
    reader.error = OSError("no route to 10.0.0.7")


def test_each_rung_answers_when_those_above_cannot(ladder, reader, bundle):
    full = ask(ladder, bundle)
    assert (full.rung, full.degraded) == (0, [])

    no_ranker = ask(ladder, replace(bundle, ranker=None))
    assert (no_ranker.rung, no_ranker.degraded) == (1, ["ranker"])

    fail(reader)
    last_list = ask(ladder, bundle)
    assert (last_list.rung, last_list.degraded) == (2, ["features"])
    assert items(last_list) == items(full)

    for n in range(30):
        ladder.fallback.note_positive(f"u{n}", {"location": "north"}, "i50" if n % 3 else "i51")
    in_context = ask(ladder, bundle, "bob", location="north")
    assert (in_context.rung, in_context.degraded) == (3, ["features"])
    popular = [f"i{ix}" for ix in bundle.popular if ix not in (50, 51)]
    assert items(in_context) == ["i50", "i51", *popular[:3]]

    everywhere = ask(ladder, bundle, "bob", location="south")
    assert (everywhere.rung, everywhere.degraded) == (4, ["features"])
    assert items(everywhere) == [f"i{ix}" for ix in bundle.popular[:5]]


def test_a_late_store_answers_in_time_from_a_lower_rung(ladder, reader, bundle):
    reader.hangs.clear()
    started = time.monotonic()
    answer = ask(ladder, bundle, budget_ms=600)
    assert time.monotonic() - started < 0.6
    assert (answer.rung, answer.degraded) == (4, ["features"])
    assert "no answer within" in answer.reasons[0]
    # Never more than half of what is left of the deadline, whatever the store's own limit is.
    assert 200 < answer.timings_ms["features"] < 500


def test_a_store_that_hangs_costs_later_requests_nothing(ladder, reader, bundle):
    reader.hangs.clear()

    async def burst():
        asked = Asked("ann", 5, {}, NOW, Deadline(200))
        return await asyncio.gather(*(ladder.answer(bundle, asked) for _ in range(40)))

    answers = asyncio.run(burst())
    assert {answer.rung for answer in answers} == {4}
    refused = [answer for answer in answers if "all 4 places" in answer.reasons[0]]
    assert len(refused) == 36
    assert max(answer.timings_ms["features"] for answer in refused) < 50


def test_the_next_request_after_a_failure_is_whole_again(ladder, reader, bundle):
    fail(reader)
    assert ask(ladder, bundle).rung == 4
    reader.error = None
    assert ask(ladder, bundle).rung == 0


@pytest.mark.parametrize(
    ("ranker", "reason"),
    [
        (BrokenRanker, "rank: failed (ValueError)"),
        (NanRanker, "rank: scores that are not numbers"),
    ],
)
def test_a_failing_ranker_is_skipped(ladder, bundle, ranker, reason):
    broken = replace(bundle, ranker=ranker(bundle.ranker.booster, bundle.ranker.text))
    answer = ask(ladder, broken)
    assert (answer.rung, answer.degraded, answer.reasons) == (1, ["ranker"], [reason])
    assert items(answer) == items(ask(ladder, replace(bundle, ranker=None)))


def test_an_absent_ranker_says_why_it_is_absent(ladder, bundle):
    manifest = bundle.manifest | {"absent": {"ranker": "only 3 slates with a click"}}
    answer = ask(ladder, replace(bundle, ranker=None, manifest=manifest))
    assert answer.reasons == ["ranker: only 3 slates with a click"]


def test_too_little_time_skips_the_ranker(ladder, bundle):
    asked = Asked("ann", 5, {}, NOW, Deadline(1000, started=time.monotonic() - 0.75))
    answer = asyncio.run(ladder.answer(bundle, asked))
    assert (answer.rung, answer.degraded) == (1, ["ranker"])
    assert answer.reasons == ["ranker: too little of the deadline was left"]


def test_failing_retrieval_falls_to_the_lists_in_memory(ladder, bundle):
    broken = replace(bundle, popular=None)  # any mistake inside will do
    with pytest.raises(TypeError):  # ... but without a popular list nothing is left to show
        ask(ladder, broken)
    no_index = replace(bundle, tower=BrokenTower())
    answer = ask(ladder, no_index)
    assert (answer.rung, answer.degraded) == (4, ["retrieval"])
    assert answer.reasons == ["retrieve: failed (RuntimeError)"]


class BrokenTower:
    def encode(self, history_ix):
        raise RuntimeError("bad array")


def test_reasons_carry_no_text_of_the_error(ladder, reader, bundle):
    fail(reader)
    assert ask(ladder, bundle).reasons == ["features: the store failed (OSError)"]


def test_what_a_user_has_had_stays_hidden_on_every_rung(ladder, reader, bundle):
    first = items(ask(ladder, bundle))
    assert not {"i5", "i3"} & set(first)
    ladder.fallback.note_positive("ann", {}, first[0])
    fail(reader)
    last_list = ask(ladder, bundle, k=60)
    assert last_list.rung == 2
    assert items(last_list)[:4] == first[1:]
    assert len(items(last_list)) == 60 - 3
    assert not {"i5", "i3", first[0]} & set(items(last_list))
    next_day = ask(ladder, bundle, k=60, at=NOW + timedelta(hours=25))
    assert next_day.rung == 4
    assert not {"i5", "i3", first[0]} & set(items(next_day))


def test_degradation_moves_a_counter(ladder, reader, bundle):
    fail(reader)
    ask(ladder, bundle)
    text = ladder.metrics.text().decode()
    assert 'shortlist_degraded_total{part="features"} 1.0' in text
    assert 'shortlist_recommendations_total{arm="full",rung="4"} 1.0' in text
