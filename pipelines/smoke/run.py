"""Every check in the order in which trouble would be met, and the table at the end."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import httpx
from rich.markup import escape
from rich.table import Table

from pipelines.smoke import loop, shop
from pipelines.smoke.stack import Failed, Skipped, Stack
from pipelines.steps import console


@dataclass(frozen=True, slots=True)
class Check:
    """Something to try, and what helps when it fails."""

    name: str
    what: str
    look: Callable[[Stack], str]
    remedy: str


@dataclass(frozen=True, slots=True)
class Result:
    """One verdict."""

    name: str
    ok: bool | None
    """None = skipped."""

    seconds: float
    seen: str
    remedy: str = ""

    def told(self) -> dict[str, Any]:
        """As the report carries it."""
        return {"ok": self.ok, "seconds": self.seconds, "seen": self.seen}


CHECKS = (
    Check("page", "the page loads", shop.page, "is --url right, and does the stack run?"),
    Check("ready", "the API is ready", shop.ready, "the API's log names what is missing"),
    Check(
        "trained_bundle",
        "a trained bundle is served",
        shop.trained,
        "the monitor trains it: see its log; --wait S waits longer",
    ),
    Check("known_user", "a list for a known user", shop.known_user, "see the API's log"),
    Check("new_user", "a list for a new user", shop.new_user, "see the API's log"),
    Check("bad_input", "mistakes are refused", shop.bad_input, "see the API's log"),
    Check(
        "event_to_feature",
        "a click becomes a feature",
        shop.click_becomes_feature,
        "the way is API, log, stream worker, online store: is each of them well?",
    ),
    Check(
        "list_follows",
        "the list follows the click",
        shop.list_follows,
        "rung and degraded say which part was left out of the answer",
    ),
    Check(
        "replicas_agree",
        "all replicas serve one bundle",
        shop.replicas_agree,
        "a replica that is behind says why in its log",
    ),
    Check(
        "mlflow_champion",
        "MLflow knows the champion",
        loop.champion,
        "the monitor records what was promoted: see its log; --mlflow names another address",
    ),
    Check(
        "prometheus_targets",
        "Prometheus reaches all targets",
        loop.targets,
        "the page /targets of Prometheus says why one is down",
    ),
    Check(
        "prometheus_metrics",
        "Prometheus counts the answers",
        loop.served_is_counted,
        "is the API among its targets?",
    ),
    Check(
        "visitors_arrive",
        "simulated users' clicks arrive",
        loop.visitors_arrive,
        "do users run? --no-users where none should; --stream names the worker's metrics",
    ),
)


def run(stack: Stack, checks: Sequence[Check] = CHECKS) -> list[Result]:
    """Try all; one that fails does not keep the next from being tried.

    Interview: Every health check is green. What can still be broken?
        Everything between the parts: each health check asks one process about itself. A click
        passes API, log, worker and online store before it moves a list, so the test is a click
        of a user who did not exist, and whether that user's next list differs.
        Trade-off: it writes real events of an invented user, so it is run by hand and after a
        deployment, and not every second.
        Shown by: tests/pipelines/smoke/test_smoke.py::test_without_the_worker_no_click_arrives
    """
    results = []
    for check in checks:
        result = _tried(stack, check)
        results.append(result)
        console.print(f"{_mark(result)} {check.what}  [dim]{escape(result.seen)}[/]")
    return results


def _tried(stack: Stack, check: Check) -> Result:
    since = time.monotonic()
    try:
        ok, seen = True, check.look(stack)
    except Skipped as why:
        ok, seen = None, str(why)
    except Failed as why:
        ok, seen = False, str(why)
    except httpx.HTTPError as error:
        request = f" ({error.request.url})" if error._request else ""
        ok, seen = False, f"{type(error).__name__}: {error}{request}"
    except (ValueError, KeyError, TypeError) as error:
        ok, seen = False, f"an answer of another shape than expected: {error!r}"
    seconds = round(time.monotonic() - since, 3)
    return Result(check.name, ok, seconds, seen, check.remedy if ok is False else "")


def show(results: Sequence[Result]) -> None:
    """The table of verdicts, and the sum."""
    table = Table("", "check", "seconds", "seen", box=None)
    for result in results:
        seen = escape(result.seen) + (f"\n→ {escape(result.remedy)}" if result.remedy else "")
        table.add_row(_mark(result), result.name, f"{result.seconds:.1f}", seen)
    console.print()
    console.print(table)
    counts = [sum(result.ok is verdict for result in results) for verdict in (True, False, None)]
    console.print(f"\n{counts[0]} passed, {counts[1]} failed, {counts[2]} skipped")


def _mark(result: Result) -> str:
    return {True: "[green]ok[/]  ", False: "[red]FAIL[/]", None: "[yellow]skip[/]"}[result.ok]
