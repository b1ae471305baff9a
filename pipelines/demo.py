"""The main job, end to end: a simulated shop, the real API, real reactions, drift, a retraining.

world -> lake -> features -> train -> evaluate -> publish -> serve
  day 1: users react to what they are shown, half of them to popularity alone -> lift
  day 2: another kind of user arrives -> drift -> retrain on that evidence -> new bundle, served
"""

import sys
import time
from contextlib import ExitStack
from datetime import datetime, timedelta
from typing import Any

import httpx
import pandas as pd
from rich.table import Table

from features.errors import RecommenderError
from infra.event_log import EventLog, open_log
from infra.reports import report
from infra.settings import Settings
from infra.workspace import Workspace
from models.bundle import current
from monitoring.ab_test import lift
from pipelines.bootstrap import fresh_world
from pipelines.check_drift import check_drift
from pipelines.days import serve_from, split_of
from pipelines.ingest import ingest_log
from pipelines.lock import only_one
from pipelines.refresh_hours import refresh_hours
from pipelines.run import run_line
from pipelines.serve import check_port, local_stack, wait_for_interrupt
from pipelines.steps import Steps, console
from pipelines.tell import flatten, rows_told, show_models
from pipelines.world.visit import visit

EXPERIMENT = "full-vs-popular"
VISITS = {"tiny": (1000, 400), "small": (3000, 1200), "full": (10000, 4000)}
"""Slates of day 1 and of day 2, by scale."""

SWAP_SECONDS = 15.0


def run_demo(settings: Settings, workspace: Workspace, scale: str, seed: int, engine: str) -> None:
    """Run it all, print what was measured, and keep the API up when someone is there to look.

    Interview: How would you show that a recommender works before it has real users?
        Let a simulated population with known tastes use the real API, split it by user between
        the full line and a popularity list, and compare what they click. Offline nDCG on logged
        clicks cannot do this: it rewards copying whatever wrote the log.
        Trade-off: the answer holds for that world; it shows that the plumbing carries the signal,
        not how much real users will gain.
        Shown by: tests/pipelines/test_demo.py::test_the_demo_measures_a_lift_and_retrains_on_evidence
    """
    check_port(settings)  # now, not after a minute of work
    steps = Steps()
    with ExitStack() as up:  # the API outlives the report: somebody may want to look at the page
        with (
            only_one(workspace, "shortlist demo"),
            report(workspace.reports, "demo", [seed]) as metrics,
        ):
            doing = f"a simulated shop at scale {scale}, its past into the lake"
            with steps.step("world", doing) as done:
                world, ingested = fresh_world(workspace, scale, seed)
                done.append(rows_told(ingested))
            line = run_line(workspace, scale, seed, engine, steps)
            day_1 = serve_from(split_of(workspace))
            with steps.step("serve", "API and stream worker start") as done:
                address = up.enter_context(local_stack(settings, workspace, "data", EXPERIMENT))
                done.append(address)
            dials = (scale, seed, engine)
            shop = _two_days(settings, workspace, world, address, day_1, dials, steps)
            metrics.update({"rows": ingested["rows"], **flatten(line["evaluation"]), **shop})
            metrics["bundle"] = line["bundle"]
            metrics["seconds_by_step"] = steps.seconds
        _tell(metrics, steps, address, sys.stdin.isatty())
        if sys.stdin.isatty():
            wait_for_interrupt()


def _two_days(
    settings: Settings,
    workspace: Workspace,
    world: Any,
    address: str,
    day_1: datetime,
    dials: tuple[str, int, str],
    steps: Steps,
) -> dict[str, Any]:
    """A quiet day and a day of change, each followed by the drift check; then what the policy says."""
    scale, seed, _ = dials
    log = open_log(workspace, settings.partitions)
    day_2 = day_1 + timedelta(days=1)
    requests_1, requests_2 = VISITS[scale]

    def hourly(moment: datetime) -> None:
        refresh_hours(workspace, log, moment)

    with steps.step("day 1", f"{requests_1} slates over HTTP, users split by salted hash") as done:
        slates = visit(world, address, day=day_1, requests=requests_1, seed=seed, between=hourly)
        measured = lift(slates, seed)
        done.append(
            f"lift {measured['mean']:+.0%} ({measured['low']:+.0%} … {measured['high']:+.0%})"
        )
    quiet = _checked(workspace, log, day_1, day_2, steps, "drift 1")

    with steps.step("day 2", f"{requests_2} slates, half from a new kind of user"):
        changed_slates = visit(
            world, address, day=day_2, requests=requests_2, seed=seed + 1, shift="new_segment",
            between=hourly,
        )  # fmt: skip
    changed = _checked(workspace, log, day_2, day_2 + timedelta(days=1), steps, "drift 2")

    told: dict[str, Any] = {
        "lift_over_popular": measured,
        "clicks_per_slate": {"day_1": _arms(slates), "day_2": _arms(changed_slates)},
        "drift": {"day_1": quiet, "day_2": changed},
        "retrained_because": None,
    }
    if changed["decision"]["retrain"]:
        told["retrained_because"] = changed["decision"]["because"]
        told["retrained"] = _retrain(workspace, log, address, dials, steps)
    return told


def _checked(
    workspace: Workspace,
    log: EventLog,
    since: datetime,
    until: datetime,
    steps: Steps,
    name: str,
) -> dict[str, Any]:
    with steps.step(name, "Evidently report, then the policy") as done:
        checked = check_drift(workspace, log, since, until)
        verdict = "retrain" if checked["decision"]["retrain"] else "no retrain"
        done.append(f"{verdict}: {checked['decision']['because']}")
    return checked


def _retrain(
    workspace: Workspace,
    log: EventLog,
    address: str,
    dials: tuple[str, int, str],
    steps: Steps,
) -> dict[str, Any]:
    """What happened goes into the lake, the line runs again, and the running API takes the new bundle."""
    scale, seed, engine = dials
    with steps.step("log to lake", "what was served and what users did") as done:
        done.append(rows_told(ingest_log(workspace, log)))
    line = run_line(workspace, scale, seed, engine, steps)
    with steps.step("swap", "the API follows the pointer, without a restart") as done:
        serving = _wait_for_bundle(address, current(workspace.bundles))
        done.append(f"answers come from {serving}")
    return {
        "bundle": line["bundle"],
        "promotion": line["promotion"],
        "serving": serving,
        "ndcg_at_10": flatten(line["evaluation"])["ndcg_at_10"],
    }


def _wait_for_bundle(address: str, bundle_id: str | None) -> str:
    """The bundle that answers, once it is the one that the pointer names."""
    until = time.monotonic() + SWAP_SECONDS
    seen = "none"
    while time.monotonic() < until:
        answer = httpx.post(
            f"{address}/v1/recommendations", json={"user_id": "someone-new", "k": 1}, timeout=5.0
        )
        seen = answer.json().get("bundle", "none")
        if seen == bundle_id:
            return seen
        time.sleep(0.2)
    raise RecommenderError(
        f"after {SWAP_SECONDS:.0f} s the API still answers from {seen}, not from {bundle_id}"
    )


def _arms(slates: pd.DataFrame) -> dict[str, float]:
    return {str(arm): float(rows["clicks"].mean()) for arm, rows in slates.groupby("arm")}


def _tell(metrics: dict[str, Any], steps: Steps, address: str, stays: bool) -> None:
    """The table of models, the lift, the seconds, and where to look next."""
    console.rule("[bold]What was measured")
    show_models(metrics)
    measured = metrics["lift_over_popular"]
    console.print(
        f"\n[bold]Lift over popular[/], as users really reacted on day 1: "
        f"[bold green]{measured['mean']:+.1%}[/] clicks per slate "
        f"(95 % interval {measured['low']:+.1%} … {measured['high']:+.1%}, clustered by user; "
        f"{measured['full_slates']} and {measured['popular_slates']} slates)"
    )
    console.print(f"[bold]Retrained because[/] {metrics['retrained_because'] or '– (it was not)'}")
    seconds = Table("step", "seconds", title="Seconds by step", title_justify="left", box=None)
    for name, value in steps.seconds.items():
        seconds.add_row(name, f"{value:.1f}")
    seconds.add_row("[bold]all[/]", f"[bold]{sum(steps.seconds.values()):.1f}[/]")
    console.print(seconds)
    if stays:
        console.print(f"\n[bold green]The page is up:[/] [bold]{address}/[/]   (Ctrl-C ends)")
    else:
        console.print(f"\nThe page: [bold]make serve[/], then {address}/")
    console.print(
        "Look next: docs/tour.md, docs/interview.md, var/reports/demo.json, shortlist --help"
    )
