"""`shortlist load`: on whom, the measurement, the report, the tables and the picture."""

from contextlib import ExitStack
from typing import Any

from infra.reports import report
from infra.settings import Settings
from infra.workspace import Workspace
from pipelines.load.embedded import known_users, own_stack
from pipelines.load.plot import draw
from pipelines.load.run import Asked, measure
from pipelines.load.target import origin
from pipelines.load.tell import progress, tell
from pipelines.steps import console


def run(
    settings: Settings, workspace: Workspace, asked: Asked, url: str | None, own_host: bool
) -> dict[str, Any]:
    """Measure, tell, and write `load.json` and `load.png`; returns the metrics.

    Args:
        settings: of the stack to start where no `url` is given.
        workspace: its data set, and where the report goes.
        asked: rate, seconds and the like.
        url: an API that runs already; None = a stack of its own.
        own_host: the caller says that a private address is theirs.

    Raises:
        ContractError: a limit passed, a host that may not be loaded, or no bundle to serve.
        RecommenderError: the API does not answer.
    """
    asked.check()
    with report(workspace.reports, "load", [asked.seed]) as metrics, ExitStack() as stack:
        known: list[str] = []
        if url is None:
            console.print("starting a stack of its own, on a copy")
            address, placement = stack.enter_context(own_stack(settings, workspace))
            known = known_users(workspace)
        else:
            address, placement = origin(url, own_host), "wherever the operator put them"
        console.print(f"load on {address}: {asked.rate:g} requests/s, {asked.seconds:g} s")
        show = stack.enter_context(progress())
        measured, latencies = measure(address, asked, show, known)
        stack.close()
        metrics.update(measured, target=url or "a stack of its own", placement=placement)
        tell(metrics)
        if metrics["latency_withheld"] is None:
            picture = workspace.reports / "load.png"
            draw(latencies, f"{metrics['rate']:.0f} requests/s, open loop", picture)
            console.print(f"report {picture.with_suffix('.json')}, picture {picture}")
    return metrics
