"""One simulated day against the real HTTP API: people come, see a list, and react to that list.

They come and react by the truth; the platform sees requests and events, nothing else.
"""

from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import Literal

import numpy as np
import pandas as pd
from rich.console import Console
from rich.progress import track

from features.errors import ContractError
from pipelines.world.crowd import Crowd, Frontier, Visit
from pipelines.world.generate import World
from pipelines.world.planning import Plan, plan_day
from pipelines.world.population import to_us

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
) -> pd.DataFrame:
    """Let the population use the API for one day.

    Args:
        world: whose users visit; what they click is remembered in its truth.
        url: where the API listens, without a path.
        day: the moment (UTC) at which the simulated 24 hours begin.
        requests: slates in all, spread over the day; users are drawn by activity.
        seed: of who comes, and of every reaction given the list shown.
        shift: "new_segment" = half of the visits are newcomers' with another device, place and
            taste: a change of the inputs that monitoring can see.
        workers: concurrent visitors; no user ever looks at two slates at once.

    Returns:
        One row per slate in order of the visits: user_id, request_id, arm ("full" where the
        response names no experiment), rung, clicks, purchases, and true_utility, the number of
        clicks that the truth expects of this very slate.

    Raises:
        Unavailable: the API cannot be reached or answers with an error.
        ContractError: it shows an item that this world has not, or the shift is unknown.
    """
    if shift not in (None, "new_segment"):
        raise ContractError(f"no shift {shift!r}; expected new_segment, or none")
    crowd = Crowd(world, url.rstrip("/"), seed, Frontier(to_us(day)), workers)
    visits = _visits(_plan(world, day, requests, seed, shift), f"v{seed}-{day:%Y%m%d}")
    console = Console(stderr=True)  # what a command prints stays clean
    with ThreadPoolExecutor(workers) as pool:
        answers = pool.map(crowd.meet, visits)
        try:
            rows = list(track(answers, "visits", requests, console=console, transient=True))
        finally:
            pool.shutdown(cancel_futures=True)
            crowd.remember()
            crowd.leave()
    return pd.DataFrame(rows)


def _plan(world: World, day: datetime, requests: int, seed: int, shift: str | None) -> Plan:
    users = world.truth.users
    weights = users.activity * (users.segment == 0)
    if shift == "new_segment":
        new = users.segment == 1
        weights = weights / weights.sum() * (1 - NEWCOMER_SHARE) + new / new.sum() * NEWCOMER_SHARE
    rng = np.random.default_rng([world.truth.seed, 3, seed])
    return plan_day(users, weights, requests, to_us(day), rng)


def _visits(plan: Plan, prefix: str) -> list[Visit]:
    latest: dict[int, Visit] = {}
    visits = []
    for number, user_ix in enumerate(plan.user_ix.tolist()):
        before = latest.get(user_ix)
        latest[user_ix] = Visit(
            number,
            user_ix,
            int(plan.at_us[number]),
            f"{prefix}-s{plan.session[number]}",
            str(plan.device[number]),
            int(plan.mood[number]),
            before.done if before else None,
        )
        visits.append(latest[user_ix])
    return visits
