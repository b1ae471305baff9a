"""Who chooses the slates of an arm: the trained line, a popular list, or somebody who knows it all."""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import numpy as np

from monitoring.shown import Records, impressions, served
from pipelines.loop.pending import Event
from pipelines.loop.shop import Shop, request_id
from pipelines.world.behaviour import appraise
from pipelines.world.happenings import contexts
from pipelines.world.planning import Visits
from pipelines.world.population import DAY_US
from pipelines.world.truth import State, Truth

FEATURE_SHARE = 1.0
"""Of the slates, whose features are logged."""

SLATES_AT_ONCE = 64
"""Of the oracle, who looks at the whole catalogue for each."""

AssignedTo = Callable[[str], Mapping[str, str]]
"""User -> arms by experiment."""


class Arm(Protocol):
    """One arm's policy during one day."""

    events: Records
    served: Records

    def hear(self, event: Event) -> None:
        """Something that a user did has arrived."""

    def choose(self, visits: Visits, request_ids: Sequence[str]) -> np.ndarray:
        """(S, K) rows of the world's items for S distinct users; what was shown is remembered."""


class ByShop:
    """full or popular: the platform's own parts answer."""

    def __init__(
        self, truth: Truth, shop: Shop, name: str, assigned: AssignedTo = lambda user_id: {}
    ) -> None:
        self._truth, self._shop, self._name, self._assigned = truth, shop, name, assigned
        self._place = {item_id: ix for ix, item_id in enumerate(truth.items.ids.tolist())}
        self.events: Records = []
        self.served: Records = []

    def hear(self, event: Event) -> None:
        """Fold it, as the stream worker would."""
        self._shop.fold(event)

    def choose(self, visits: Visits, request_ids: Sequence[str]) -> np.ndarray:
        """One answer of the funnel per visit."""
        told = contexts(self._truth, visits).tolist()
        slates = [
            self._one(str(self._truth.users.ids[user_ix]), at_us, request, json.loads(context))
            for user_ix, at_us, request, context in zip(
                visits.user_ix.tolist(), visits.at_us.tolist(), request_ids, told, strict=True
            )
        ]
        return np.array(slates, np.int64)

    def _one(self, user_id: str, at_us: int, request: str, context: Mapping[str, str]) -> list[int]:
        k, arms = self._truth.config.slots, self._assigned(user_id)
        shown = self._shop.show(request, user_id, at_us, context, k, self._name, arms)
        records = impressions(shown)
        self.events += records
        self.served.append(served(shown, FEATURE_SHARE))
        for _, record in records:
            self._shop.fold(record | {"event_at": at_us})
        items = shown.bundle.catalogue.item_ids[shown.slate.item_ix].tolist()
        return [self._place[item_id] for item_id in items]


class Oracle:
    """Shows each visitor what attracts them most at this moment: the most that ranking can earn.

    It looks one slate ahead: whom it bores tomorrow, it does not ask.
    """

    def __init__(self, truth: Truth, state: State) -> None:
        self._truth, self._state = truth, state
        self.events: Records = []
        self.served: Records = []

    def hear(self, event: Event) -> None:
        """It knows already."""

    def choose(self, visits: Visits, request_ids: Sequence[str]) -> np.ndarray:
        """By true attraction; ties by row."""
        parts = [
            self._best(visits.take(np.arange(first, min(first + SLATES_AT_ONCE, len(visits)))))
            for first in range(0, len(visits), SLATES_AT_ONCE)
        ]
        return np.concatenate(parts)

    def _best(self, visits: Visits) -> np.ndarray:
        items, k = self._truth.items, self._truth.config.slots
        launched = np.flatnonzero(items.launched_at < visits.at_us.min() // DAY_US * DAY_US)
        everything = np.broadcast_to(launched, (len(visits), len(launched)))
        attraction = appraise(self._truth, self._state, visits, everything).attraction
        return launched[np.argsort(-attraction, axis=1, kind="stable")[:, :k]]


def request_ids(visits: Visits, arm: str) -> list[str]:
    """(S,) one per visit."""
    return [request_id(luck, arm) for luck in visits.luck.tolist()]
