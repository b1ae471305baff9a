"""One recommendation: read the user, run the funnel, and step down the ladder where a part fails.

features (online store, in a bounded pool, slice of the deadline)
    └─ late or failing ──────────────► rungs 2, 3, 4 (fallback.py)
funnel: retrieve -> rank -> re-rank (models/funnel.py, in this thread)
    ├─ ranker absent, failing or no time left ──► rung 1
    └─ retrieval failing ────────────► rungs 2, 3, 4
"""

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

import numpy as np
import structlog

from features.errors import FeaturesUnavailable, RankerUnavailable, Unavailable
from features.request import Context, UserRow, UserState, context_of, user_state
from infra.logging import hashed
from infra.settings import Settings
from models.bundle import Bundle
from models.funnel import Slate, popular, recommend
from monitoring.assignment import Arm, arm_of
from monitoring.metrics import Metrics
from serving.deadline import Deadline
from serving.fallback import FULL, NO_RANKER, Fallback
from serving.show import items
from serving.stopwatch import Stopwatch

FEATURES_SHARE = 0.5
"""Of the time left, the most that the online store may use, whatever its own limit says."""

RANK_SHARE = 0.3
"""Of the whole budget that must be left for the ranker to be asked; it cannot be interrupted."""


class UserReader(Protocol):
    """Reads one user's features, or raises FeaturesUnavailable within the time given."""

    async def read(self, user_id: str, bundle: Bundle, now: datetime, timeout_ms: float) -> UserRow:
        """The user's row; defaults and `missing` for an unknown user."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A valid request."""

    user_id: str
    k: int
    context: Mapping[str, str]
    now: datetime
    deadline: Deadline
    look: Arm | None = None
    """An arm to look at: not assigned, not logged."""


@dataclass(slots=True)
class Answer:
    """A slate with everything that is to be said about it."""

    asked: Asked
    bundle: Bundle
    arm: Arm
    arms: dict[str, str]
    request_id: str = field(default_factory=lambda: uuid.uuid4().hex)
    rung: int = FULL
    degraded: list[str] = field(default_factory=list)
    reasons: list[str] = field(default_factory=list)
    timings_ms: dict[str, float] = field(default_factory=dict)
    slate: Slate | None = None

    def step_down(self, part: str, reason: str) -> None:
        """Name a part that is missing from this answer; nothing degrades in silence."""
        self.degraded.append(part)
        self.reasons.append(reason)


class Recommender:
    """Answers requests from whatever bundle it is handed.

    Interview: How do you keep one slow dependency from taking the whole page down?
        Give each part a slice of one deadline and a cheaper answer for when it is late, and say in
        the response which rung answered and why. A reader sees a list in any case; the team sees
        `degraded` in the metrics instead of an error rate.
        Trade-off: every rung is a product decision and a code path to test; and the slices waste
        time that a later stage could have used.
        Shown by: tests/serving/test_ladder.py::test_a_late_store_answers_in_time_from_a_lower_rung
    """

    def __init__(
        self, settings: Settings, reader: UserReader, fallback: Fallback, metrics: Metrics
    ) -> None:
        self.settings, self.reader = settings, reader
        self.fallback, self.metrics = fallback, metrics

    async def answer(self, bundle: Bundle, asked: Asked) -> Answer:
        """A slate from the highest rung that can give one; never an exception of a dependency."""
        arm, arms = self._arm(asked)
        answer = Answer(asked, bundle, arm, arms)
        watch = Stopwatch()
        try:
            with watch.stage("features"):
                row = await self._read(bundle, asked)
            with watch.stage("state"):
                user = user_state(row, bundle.catalogue)
                context = context_of(asked.now, asked.context, bundle.catalogue)
            self._from_funnel(answer, user, context, watch)
            if answer.arm == "full" and answer.rung == FULL:
                assert answer.slate is not None
                self.fallback.last_lists.remember(
                    asked.user_id, bundle, answer.slate, row.history_items, asked.now
                )
        except Unavailable as error:
            part = "features" if isinstance(error, FeaturesUnavailable) else "retrieval"
            answer.step_down(part, str(error))
            with watch.stage("fallback"):
                answer.rung, answer.slate = self.fallback.answer(
                    bundle, asked.user_id, asked.context, asked.k, asked.now
                )
        answer.timings_ms = watch.stop()
        self._count(answer)
        return answer

    async def _read(self, bundle: Bundle, asked: Asked) -> UserRow:
        left = asked.deadline.left_ms() * FEATURES_SHARE
        timeout_ms = min(self.settings.features_timeout_ms, left)
        try:
            row = await self.reader.read(asked.user_id, bundle, asked.now, timeout_ms)
        except Unavailable:
            raise
        except Exception as error:  # whatever a store's client raises, the user gets a list
            structlog.get_logger().warning(
                "features failed", user=hashed(asked.user_id), exc_info=error
            )
            raise FeaturesUnavailable(f"features: the store failed ({_kind(error)})") from error
        for view in row.missing:
            self.metrics.missing_views.labels(view).inc()
        return row

    def _from_funnel(
        self, answer: Answer, user: UserState, context: Context, watch: Stopwatch
    ) -> None:
        """Rung 0, or 1 where the ranker cannot be asked.

        It runs here, in the event loop's thread: it is two milliseconds of arithmetic, and another
        thread would only compete for the same interpreter lock.

        Raises:
            Unavailable: no candidates could be found.
        """
        asked, bundle = answer.asked, answer.bundle
        if answer.arm == "popular":
            with watch.stage("retrieve"):
                answer.slate = popular(bundle, user, asked.k)
            return
        try:
            if bundle.ranker is None:
                why = bundle.absent.get("ranker", "the bundle has none")
                raise RankerUnavailable(f"ranker: {why}")
            if asked.deadline.left_ms() < RANK_SHARE * asked.deadline.budget_ms:
                raise RankerUnavailable("ranker: too little of the deadline was left")
            answer.slate = self._run(bundle, user, context, asked.k, watch, use_ranker=True)
        except RankerUnavailable as error:
            answer.rung = NO_RANKER
            answer.step_down("ranker", str(error))
            answer.slate = self._run(bundle, user, context, asked.k, watch, use_ranker=False)

    @staticmethod
    def _run(
        bundle: Bundle,
        user: UserState,
        context: Context,
        k: int,
        watch: Stopwatch,
        *,
        use_ranker: bool,
    ) -> Slate:
        """The funnel, with a failure of its parts told apart by the stage that it happened in."""
        try:
            slate = recommend(bundle, user, context, k, use_ranker=use_ranker, stage=watch.stage)
        except Exception as error:
            structlog.get_logger().error("funnel failed", stage=watch.running, exc_info=error)
            kind = RankerUnavailable if watch.running == "rank" else Unavailable
            raise kind(f"{watch.running}: failed ({_kind(error)})") from error
        if not np.isfinite(slate.scores).all():
            kind = RankerUnavailable if use_ranker else Unavailable
            raise kind("rank: scores that are not numbers")
        return slate

    def _arm(self, asked: Asked) -> tuple[Arm, dict[str, str]]:
        if asked.look is not None or self.settings.experiment is None:
            return asked.look or "full", {}
        experiment = self.settings.experiment
        arm = arm_of(asked.user_id, experiment, self.settings.experiment_salt)
        return arm, {experiment: arm}

    def _count(self, answer: Answer) -> None:
        self.metrics.recommendations.labels(answer.rung, answer.arm).inc()
        for part in answer.degraded:
            self.metrics.degraded.labels(part).inc()
        for stage, ms in answer.timings_ms.items():
            self.metrics.stage_seconds.labels(stage).observe(ms / 1000)


def _kind(error: Exception) -> str:
    """The error's class is safe to show; its text may carry paths and addresses."""
    return type(error).__name__


def body(answer: Answer) -> dict[str, Any]:
    """The response of POST /v1/recommendations, as in `schemas.SlateOut`."""
    assert answer.slate is not None
    return {
        "request_id": answer.request_id,
        "user_id": answer.asked.user_id,
        "bundle": answer.bundle.id,
        "rung": answer.rung,
        "degraded": answer.degraded,
        "reasons": answer.reasons,
        "arms": answer.arms,
        "timings_ms": answer.timings_ms,
        "items": items(answer.bundle, answer.slate),
    }
