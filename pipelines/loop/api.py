"""A running API of one arm that nobody else uses, and what a simulated day says to it.

API and stream worker are processes of their own, as `shortlist serve` starts them. The API's clock
stands still between two requests, so how fast the machine is changes nothing that is served or
logged.
"""

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pandas as pd

from features.definitions import BATCH_LAG
from features.errors import ContractError, Unavailable
from infra.event_log import EventLog, open_log
from infra.local.process import free_port
from infra.settings import Settings
from infra.workspace import Workspace
from models.versions import current
from monitoring.shown import Records
from pipelines.loop.arrived import SERVED, Arrived
from pipelines.loop.morning import ENGINE
from pipelines.loop.pending import Event, timed
from pipelines.past import in_us
from pipelines.refresh import refresh
from pipelines.serve import local_stack
from pipelines.steps import Steps
from pipelines.stream_state import PartitionState
from pipelines.stream_users import EVENTS
from pipelines.world.crowd import posted
from pipelines.world.happenings import contexts
from pipelines.world.planning import Visits
from pipelines.world.truth import Truth

TIMEOUT_S = 30.0
DEADLINE_MS = 1000
"""The longest that the API allows: a machine that is busy elsewhere must not cost a rung."""

BEST_RUNG = {True: 0, False: 1}
"""Of an API with nothing missing, by whether its bundle was trained."""

READY_S = 60.0
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@contextmanager
def running(workspace: Workspace, now: datetime) -> Iterator["Api"]:
    """The night's job, then API and stream worker in processes of their own, ready for the day.

    Raises:
        ContractError: the log has seen this day before, or an experiment is on.
        RecommenderError: a process ended before it was ready.
    """
    settings = Settings(
        home=workspace.home, dataset=workspace.name, mode="embedded",
        host="127.0.0.1", port=free_port(),
        clock="simulated", clock_runs=False,
        clock_start=now - BATCH_LAG,  # what arrived since midnight is posted first
        deadline_ms=DEADLINE_MS, features_timeout_ms=DEADLINE_MS,
    )  # fmt: skip
    if settings.experiment is not None:
        raise ContractError(
            f"SHORTLIST_EXPERIMENT is {settings.experiment!r}, which shows half of the users "
            "another arm; unset it"
        )
    with ExitStack() as stack:
        log = stack.enter_context(closing(open_log(workspace, settings.partitions)))
        _is_new(log, now)
        refresh(workspace, log, ENGINE, now, Steps(), hourly=False)
        states = [
            stack.enter_context(closing(PartitionState(workspace.state, p, log.partitions)))
            for p in range(log.partitions)
        ]
        address = stack.enter_context(local_stack(settings, workspace, settings.clock))
        client = httpx.Client(base_url=address, timeout=TIMEOUT_S, trust_env=False)
        stack.enter_context(client)
        yield Api(client, Arrived(workspace, log, states), _best_rung(client, workspace))


@dataclass(frozen=True, slots=True)
class Api:
    """A connection to it."""

    client: httpx.Client
    arrived: Arrived
    best_rung: int

    def hear(self, events: list[Event]) -> None:
        """Post what has arrived, each event at its moment."""
        for event in events:
            at = _moment(event["event_at"])
            self.arrived.written(event["user_id"])  # the log keeps the order of arrival
            self._post("/v1/events", posted({**event, "event_at": at}), event["seen_at"])
            self.arrived.sent(EVENTS, event["user_id"], 1)

    def ask(self, truth: Truth, visit: Visits) -> dict[str, Any]:
        """The slate for one visit, once everything is known that this user did before."""
        user_id, at_us = str(truth.users.ids[visit.user_ix[0]]), int(visit.at_us[0])
        self.arrived.known(user_id)
        context = json.loads(contexts(truth, visit)[0])
        question = {"user_id": user_id, "k": truth.config.slots, "context": context}
        answer = self._post("/v1/recommendations", question, at_us)
        self.arrived.sent(EVENTS, user_id, len(answer["items"]))
        self.arrived.sent(SERVED, user_id, 1)
        if answer["rung"] != self.best_rung:
            raise Unavailable(
                f"the slate of {user_id} at {_moment(at_us)} came from rung {answer['rung']}, "
                f"expected {self.best_rung}: {'; '.join(answer['reasons'])}; nothing that follows "
                "would be comparable, so run it again on a machine with more room"
            )
        return answer

    def log(self) -> tuple[pd.DataFrame, Records]:
        """The day as the API logged it: events in order of arrival, and what was served."""
        self.arrived.everything()
        events = pd.DataFrame([record.value for record in self.arrived.records(EVENTS)])
        served = [(record.key, record.value) for record in self.arrived.records(SERVED)]
        if events.empty:
            return events, served
        for name in ("event_at", "seen_at"):
            events[name] = in_us(pd.to_datetime(events[name]))
        order = ["seen_at", "event_at", "event_id"]
        return timed(events.sort_values(order, kind="stable", ignore_index=True)), served

    def _post(self, path: str, body: Mapping[str, Any], at_us: int) -> dict[str, Any]:
        headers = {
            "X-Simulated-Now": _moment(at_us).isoformat(),
            "X-Deadline-Ms": str(DEADLINE_MS),
        }
        try:
            answer = self.client.post(path, json=body, headers=headers)
        except httpx.HTTPError as error:
            raise Unavailable(f"{path}: the API does not answer ({error})") from error
        if answer.status_code >= 300:
            raise Unavailable(
                f"{path} answered {answer.status_code} where 200 or 202 was expected: "
                f"{answer.text[:300]}"
            )
        content: dict[str, Any] = answer.json()
        return content


def _is_new(log: EventLog, now: datetime) -> None:
    """Raises ContractError: the log holds something of this day or of a later one."""
    for partition in range(log.partitions):
        end = log.end_offset(EVENTS, partition)
        for record in log.read(EVENTS, partition, max(end - 1, 0), 1):
            if (seen_at := record.value["seen_at"]) >= now.isoformat(timespec="microseconds"):
                raise ContractError(
                    f"the log of this arm was written to at {seen_at}, and its day begins at "
                    f"{now.isoformat()}: an earlier run broke off in the middle of the day, and "
                    "what was logged over HTTP stays logged; run the loop again without --resume"
                )


def _best_rung(client: httpx.Client, workspace: Workspace) -> int:
    """The rung that every slate must come from; waits until bundle and feature store are there."""
    """The rung that every slate must come from; waits until bundle and feature store are open.

    Raises:
        Unavailable: they are not in time.
    """
    wanted, until = current(workspace.bundles), time.monotonic() + READY_S
    while True:
        state: dict[str, Any] = client.get("/readyz").json()
        if state["features"] and state["bundle"] == wanted:
            return BEST_RUNG[state["trained"]]
        if time.monotonic() >= until:
            raise Unavailable(
                f"after {READY_S:g} s the API answers from bundle {state['bundle']}, expected "
                f"{wanted}; {'; '.join(state['reasons']) or 'see its log'}"
            )
        time.sleep(0.05)


def _moment(at_us: int) -> datetime:
    return EPOCH + timedelta(microseconds=at_us)
