"""The serving side of one arm, in this process: the same bundle, fold and funnel as the API's.

What the API reads from the online store lies in two dictionaries here: the batch rows that were
known this morning, and the streams' states. Nothing is late or missing, so nothing degrades.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa

from features.request import UserRow, context_of, user_state
from features.store import is_young, user_row
from features.streaming import State, empty, row_of
from features.streaming_fast import fold_run
from models.bundle import Bundle
from models.funnel import popular, recommend
from monitoring.shown import Shown
from pipelines.known_rows import BatchRow, newest

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class BatchRows:
    """What the nightly job knows of users; the newest row of each."""

    users: dict[str, BatchRow]
    categories: dict[str, dict[str, BatchRow]]  # user -> category -> row

    @classmethod
    def known(cls, views: Mapping[str, pa.Table], moment: datetime) -> "BatchRows":
        """Of tables with the schema of features/batch.py, what a materialize at `moment` writes."""
        categories: dict[str, dict[str, BatchRow]] = {}
        for (user_id, category), row in newest(views, "user_category_daily", moment).items():
            categories.setdefault(user_id, {})[category] = row
        users = {key[0]: row for key, row in newest(views, "user_daily", moment).items()}
        return cls(users, categories)


@dataclass(slots=True)
class Shop:
    """One arm's platform between two mornings."""

    bundle: Bundle
    rows: BatchRows
    states: dict[str, State]

    def fold(self, event: Mapping[str, Any]) -> None:
        """Take in one event; `event_at` is µs since 1970, as `features.streaming.parsed` gives it."""
        state = self.states.setdefault(event["user_id"], empty())
        names = ("event_id", "event_type", "item_id", "session_id", "event_at")
        fold_run(state, [(0, *(event[name] for name in names))], self.bundle.info.positive_types)

    def show(
        self,
        request_id: str,
        user_id: str,
        at_us: int,
        context: Mapping[str, str],
        k: int,
        arm: str,
        arms: Mapping[str, str],
    ) -> Shown:
        """The slate that the API would answer with: rung 0, or the popular list of its arm."""
        now = EPOCH + timedelta(microseconds=at_us)
        user = user_state(self.user(user_id, now), self.bundle.catalogue)
        if arm == "popular":
            slate = popular(self.bundle, user, k)
        else:
            coded = context_of(now, context, self.bundle.catalogue)
            slate = recommend(self.bundle, user, coded, k)
        return Shown(request_id, now, user_id, context, self.bundle, slate, arm, arms, rung=0)

    def user(self, user_id: str, now: datetime) -> UserRow:
        """What the online store would answer; defaults where no row is young enough."""
        found: dict[str, dict[str, Any]] = {}
        if (batch := self.rows.users.get(user_id)) and is_young("user_daily", batch[0], now):
            found["user_daily"] = batch[1]
        if state := self.states.get(user_id):
            as_of = EPOCH + timedelta(microseconds=state["version"])
            if is_young("user_stream", as_of, now):
                found["user_stream"] = row_of(state)
        categories = {
            category: values
            for category, (as_of, values) in self.rows.categories.get(user_id, {}).items()
            if is_young("user_category_daily", as_of, now)
        }
        return user_row(found, categories, missing=(), age_s={})


def request_id(luck: int, arm: str) -> str:
    """Of a visit with this key of its draws: the same in every run, as long as the API's own."""
    return hashlib.blake2b(f"{luck}:{arm}".encode(), digest_size=16).hexdigest()
