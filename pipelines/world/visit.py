"""One simulated day against the real HTTP API: people come, see a list, and react to that list.

They come and react by the truth; the platform sees requests and events, nothing else. The same
plan and the same reactions as in one process (pipelines/world/play.py): only the lists differ.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import groupby
from typing import Literal

import pandas as pd
from rich.console import Console
from rich.progress import track

from features.errors import ContractError
from pipelines.world import truth as store
from pipelines.world.crowd import Crowd, Frontier, Visit
from pipelines.world.generate import World
from pipelines.world.planning import Visits, exactly
from pipelines.world.population import DAY_US, to_us
from pipelines.world.timeline import merged, timeline

BLOCK = timedelta(hours=3)
"""Of a simulated day; as long as hourly features stay good without a new row."""

BLOCK_US = BLOCK // timedelta(microseconds=1)

NEWCOMER_SHARE = 0.5
"""Of the visits on a day with the shift `new_segment`."""


def visit(
    world: World,
    url: str,
    *,
    day: datetime,
    requests: int,
    seed: int,
    shift: Literal["new_segment"] | None = None,
    workers: int = 4,
    between: Callable[[datetime], object] | None = None,
) -> pd.DataFrame:
    """Let the population use the API for one day.

    Args:
        world: whose users visit; what they remember is kept in its truth.
        url: where the API listens, without a path.
        day: the moment (UTC) at which the simulated 24 hours begin.
        requests: slates in all, spread over the day; users come by their own activity.
        seed: of who comes, and of every reaction given the list shown.
        shift: "new_segment" = half of the visits are newcomers' with another device, place and
            taste: a change of the inputs that monitoring can see.
        workers: concurrent visitors; no user ever looks at two slates at once.
        between: called with the moment, UTC, after each BLOCK of the day, while nobody visits: for
            jobs that a shop runs by its clock.

    Returns:
        One row per slate in order of the visits: user_id, request_id, arm ("full" where the
        response names no experiment), rung, clicks, purchases, and true_utility, the number of
        clicks that the truth expects of this very slate. Fewer rows than `requests` where somebody
        gave up waiting and left a session early.

    Raises:
        Unavailable: the API cannot be reached or answers with an error.
        ContractError: it shows an item that this world has not, or the shift is unknown.
    """
    if shift not in (None, "new_segment"):
        raise ContractError(f"no shift {shift!r}; expected new_segment, or none")
    if shift:
        world = _with_newcomers(world, day)
    crowd = Crowd(world, url.rstrip("/"), seed, Frontier(to_us(day)), workers)
    crowd.dawn(to_us(day) // DAY_US)
    planned = exactly(world.truth, crowd.state, to_us(day), requests, seed)
    visits = _chained(planned, f"v{seed}-{day:%Y%m%d}")
    console = Console(stderr=True)  # what a command prints stays clean
    with ThreadPoolExecutor(workers) as pool:

        def answered() -> Iterator[dict | None]:
            for block, some in groupby(visits, lambda v: (v.at_us - to_us(day)) // BLOCK_US):
                yield from pool.map(crowd.meet, some)
                if between is not None:
                    between(day + (block + 1) * BLOCK)

        answers = answered()
        try:
            rows = list(track(answers, "visits", len(visits), console=console, transient=True))
        finally:
            pool.shutdown(cancel_futures=True)
            crowd.remember()
            crowd.leave()
    return pd.DataFrame([row for row in rows if row is not None])


def _with_newcomers(world: World, day: datetime) -> World:
    """The same world on a day on which the other segment comes; the timeline says so."""
    arrival = {
        "kind": "covariate",
        "start_day": (day - world.truth.end).days,
        "size": NEWCOMER_SHARE,
        "days": 1,
    }
    config = world.truth.config
    changed = config.but(shifts=[*(shift.model_dump() for shift in config.shifts), arrival])
    truth = replace(world.truth, config=changed)
    store.save_timeline(merged(store.load_timeline(world.home), timeline(truth)), world.home)
    return World(truth, world.home)


def _chained(planned: Visits, prefix: str) -> list[Visit]:
    """Each user's visits in a row, each waiting for the one before."""
    latest: dict[int, Visit] = {}
    visits = []
    for number, user_ix in enumerate(planned.user_ix.tolist()):
        before = latest.get(user_ix)
        session = int(planned.session[number])
        latest[user_ix] = Visit(
            number=number,
            user_ix=user_ix,
            at_us=int(planned.at_us[number]),
            session_id=f"{prefix}-{user_ix}-{session}",
            device=str(planned.device[number]),
            intent=int(planned.intent[number]),
            after=before.done if before else None,
            session=session,
            luck=int(planned.luck[number]),
        )
        visits.append(latest[user_ix])
    return visits
