"""One day of one arm: people come, meet its slates, and react to what they see.

before a visit   what the user did and has arrived is heard, but for what arrives at that very moment
the visit        the arm answers, the user reacts by the truth
after it         what the user did is on its way: at once, in an hour, next week
"""

from dataclasses import dataclass
from itertools import chain

import numpy as np
import pandas as pd

from monitoring.shown import Records
from pipelines.loop.arms import Arm, request_ids
from pipelines.loop.pending import Event, Pending, timed
from pipelines.past import in_us
from pipelines.world.behaviour import Reaction
from pipelines.world.happenings import happenings, table
from pipelines.world.history import latencies
from pipelines.world.planning import plan_day
from pipelines.world.play import Played, play_day
from pipelines.world.population import DAY_US
from pipelines.world.state import begin_day
from pipelines.world.truth import State, Truth


@dataclass(frozen=True, slots=True)
class Day:
    """What is left of a day."""

    played: Played
    request_ids: list[str]  # (S,)
    events: pd.DataFrame  # columns of features/schema.py EVENTS, in order of arrival
    served: Records


def live_through(
    truth: Truth,
    state: State,
    pending: Pending,
    arm: Arm,
    name: str,
    start_us: int,
    stream: int = 0,
) -> Day:
    """Let the 24 hours from `start_us` happen; `state` and `pending` are changed in place.

    Users do not read each other's rows, so that everybody's first slate of the day is answered in
    one wave, then everybody's second; in order of time it would come out the same.

    Args:
        truth: the world.
        state: what users remember of this arm.
        pending: what they did in it and nobody has heard of yet.
        arm: its policy of this day.
        name: of the arm, part of the requests' ids.
        start_us: µs since 1970.
        stream: another number gives another day of the same world.
    """
    begin_day(truth, state, start_us // DAY_US)
    visits = plan_day(truth, state, start_us, stream=stream)
    ids = np.array(request_ids(visits, name), object)
    heard: list[Event] = []

    def hear(events: list[Event]) -> None:
        for event in events:
            arm.hear(event)
        heard.extend(events)

    def choose(rows: np.ndarray) -> np.ndarray:
        here = visits.take(rows)
        users = truth.users.ids[here.user_ix].tolist()
        for user_id, at_us in zip(users, here.at_us.tolist(), strict=True):
            hear(list(pending.due(user_id, at_us - 1)))  # as training joins: strictly before
        return arm.choose(here, ids[rows].tolist())

    def then(rows: np.ndarray, item_ix: np.ndarray, reaction: Reaction) -> None:
        here = visits.take(rows)
        happened = happenings(truth, here, item_ix, reaction)
        pending.add(table(truth, here, item_ix, happened, ids[rows].tolist()))

    played = play_day(truth, state, visits, choose, latencies(truth, visits), then)
    hear(list(pending.all_due(start_us + DAY_US - 1)))
    return Day(played, ids[played.rows].tolist(), _log(arm.events, heard), arm.served)


def _log(shown: Records, heard: list[Event]) -> pd.DataFrame:
    """Impressions and what users did, by arrival."""
    impressions = pd.DataFrame([record for _, record in shown])
    if len(impressions):
        for column in ("event_at", "seen_at"):
            impressions[column] = in_us(pd.to_datetime(impressions[column]))
    every = pd.DataFrame(list(chain(impressions.to_dict("records"), heard)))
    if every.empty:
        return every
    order = ["seen_at", "event_at", "event_id"]
    return timed(every.sort_values(order, kind="stable", ignore_index=True))
