"""`python -m tests.chaos.queries`: ask a running Prometheus everything the dashboard and alerts ask.

A query that Prometheus refuses, or a panel that has no series after a few minutes of use, is an
error; an alert has none when all is well.
"""

import json
import sys
import urllib.error
import urllib.parse
import urllib.request

import yaml
from rich.console import Console
from rich.table import Table

from infra.settings import PROJECT

MAY_BE_EMPTY = ("degraded", "refused", "missing_views")
"""Counted with labels: no series before the first one happens."""


def expressions() -> list[tuple[str, str]]:
    """(title, query) of every panel and alert."""
    dashboard = json.loads((PROJECT / "infra/grafana/shortlist.json").read_text())
    panels = [
        (panel["title"], target["expr"].replace("$__rate_interval", "1m"))
        for panel in dashboard["panels"]
        for target in panel.get("targets", [])
    ]
    groups = yaml.safe_load((PROJECT / "infra/prometheus/alerts.yml").read_text())["groups"]
    alerts = [
        (f"alert {rule['alert']}", rule["expr"]) for group in groups for rule in group["rules"]
    ]
    return panels + alerts


def series(prometheus: str, expression: str) -> int:
    """How many series answer.

    Raises:
        ValueError: Prometheus refused the query; its reason.
    """
    query = urllib.parse.urlencode({"query": expression})
    try:
        with urllib.request.urlopen(f"{prometheus}/api/v1/query?{query}", timeout=10) as answer:
            return len(json.load(answer)["data"]["result"])
    except urllib.error.HTTPError as error:
        raise ValueError(json.load(error)["error"]) from error


def main() -> None:
    """Print a table; exit 1 on a refused query or an empty panel."""
    prometheus = sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:9090"
    table, failed = Table("asked by", "series"), False
    for title, expression in expressions():
        try:
            found = series(prometheus, expression)
        except ValueError as error:
            told, wrong = str(error), True
        else:
            quiet = title.startswith("alert") or any(name in expression for name in MAY_BE_EMPTY)
            told, wrong = str(found), not found and not quiet
        table.add_row(title, f"[red]{told}[/]" if wrong else told)
        failed |= wrong
    Console().print(table)
    sys.exit(failed)


if __name__ == "__main__":
    main()
