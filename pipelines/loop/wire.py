"""One day of the arm `full` over HTTP, against the real API and the real stream worker.

The same day as in one process (day.py), slate by slate in order of time:

    an event arrives   POST /v1/events, at the moment `seen_at` of the simulated clock
    somebody comes     wait until the online store knows what this user did before,
                       POST /v1/recommendations, and react to what it answers

Request ids are the API's own; everything else is what one process gives.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import numpy as np

from features.errors import ContractError
from infra.workspace import Workspace
from pipelines.loop.api import running
from pipelines.loop.day import Day
from pipelines.loop.pending import Event, Pending
from pipelines.world.behaviour import Reaction, comes
from pipelines.world.happenings import happenings, table
from pipelines.world.history import latencies
from pipelines.world.planning import plan_day
from pipelines.world.play import gathered, step
from pipelines.world.population import DAY_US, to_us
from pipelines.world.state import begin_day
from pipelines.world.truth import State, Truth

ARM = "full"
"""The only one over HTTP: the API shows popular lists to one half of the users of an experiment, and
an oracle not at all."""


def live_over_http(
    truth: Truth, state: State, pending: Pending, workspace: Workspace, now: datetime, arm: str
) -> Day:
    """Let the 24 hours from `now` happen; `state` and `pending` are changed in place.

    Args:
        truth: the world.
        state: what users remember of this arm.
        pending: what they did in it and nobody has heard of yet.
        workspace: of the arm, embedded, with the bundle of the day; nobody else may use it.
        now: UTC; the night's rows are known by then.
        arm: full.

    Raises:
        ContractError: another arm, an experiment, a log that has seen this day before, a slate of
            another world, or somebody else's requests among ours.
        Unavailable: API or worker stopped, or a slate came from a lower rung than it should.

    Interview: A simulation in one process, a service with queues: how do you know they agree?
        Let the service live the same two days with the same users and the same luck, on a clock
        that only moves when told, and compare every list of every visit. Then a million slates
        may come from the fast one. Averages would not do: a feature that is read a little late
        moves some lists, and no mean.
        Trade-off: exactness makes it wait for the stream worker before each question, so it says
        nothing about what a user sees while the worker is behind.
        Shown by: tests/pipelines/loop/test_wire.py::test_over_http_two_days_are_those_of_one_process
    """
    check_arm(arm)
    start_us = to_us(now)
    begin_day(truth, state, start_us // DAY_US)
    visits = plan_day(truth, state, start_us)
    waited = latencies(truth, visits)
    place = {item_id: ix for ix, item_id in enumerate(truth.items.ids.tolist())}
    rows: list[np.ndarray] = []
    slates: list[np.ndarray] = []
    reactions: list[Reaction] = []
    ids: list[str] = []
    with running(workspace, now) as api:
        for number in range(len(visits)):
            row = np.array([number])
            one = visits.take(row)
            api.hear(due(pending, int(one.at_us[0])))
            if not comes(state, one)[0]:
                continue
            answer = api.ask(truth, one)
            item_ix = _known(place, answer)
            reaction = step(truth, state, one, item_ix, waited[row])
            happened = happenings(truth, one, item_ix, reaction)
            pending.add(table(truth, one, item_ix, happened, [answer["request_id"]]))
            rows.append(row)
            slates.append(item_ix)
            reactions.append(reaction)
            ids.append(answer["request_id"])
        api.hear(due(pending, start_us + DAY_US - 1))
        events, served = api.log()
    return Day(gathered(truth, state, visits, rows, slates, reactions), ids, events, served)


def check_arm(arm: str) -> None:
    """Raises ContractError: this arm cannot run over HTTP."""
    if arm != ARM:
        raise ContractError(
            f"arm {arm!r} cannot run over HTTP, only {ARM!r} can: leave --over http out, "
            f"or name --arms {ARM}"
        )


def due(pending: Pending, at_us: int) -> list[Event]:
    """What has arrived from anybody by `at_us`, in order of arrival."""
    return sorted(
        pending.all_due(at_us),
        key=lambda event: (event["seen_at"], event["event_at"], event["event_id"]),
    )


def _known(place: Mapping[str, int], answer: Mapping[str, Any]) -> np.ndarray:
    """(1, K) rows of the items shown."""
    shown = [item["item_id"] for item in answer["items"]]
    if foreign := [item_id for item_id in shown if item_id not in place]:
        raise ContractError(
            f"the API shows {foreign[0]!r}, which this world has not; its bundle is another world's"
        )
    return np.array([[place[item_id] for item_id in shown]], np.int64)
