"""What the commands print: tables that say how sure a number is."""

from typing import Any

from rich.table import Table

from pipelines.steps import console


def flatten(evaluation: dict[str, Any]) -> dict[str, Any]:
    """The evaluation as reports carry it: metric -> model -> mean, low, high."""
    by_metric: dict[str, Any] = {}
    for model, metrics in evaluation["models"].items():
        for metric, value in metrics.items():
            by_metric.setdefault(metric, {})[model] = value
    return {**by_metric, "paired": evaluation["paired"], "counts": evaluation["counts"]}


def show_models(metrics: dict[str, Any], metric: str = "ndcg_at_10") -> None:
    """The table of models with intervals."""
    table = Table(
        title=f"{metrics['counts']['users']} test users, 95 % intervals", title_justify="left"
    )
    for column in ("model", "nDCG@10", "", "recall@10", "hit@10", "coverage"):
        table.add_column(column, justify="left" if column in ("model", "") else "right")
    for model, value in metrics[metric].items():
        interval = (
            "" if value["low"] is None else f"[dim]{value['low']:.4f} … {value['high']:.4f}[/]"
        )
        rest = (metrics[name][model] for name in ("recall_at_10", "hit_at_10", "coverage"))
        numbers = [item["mean"] if isinstance(item, dict) else item for item in rest]
        table.add_row(model, _number(value["mean"]), interval, *map(_number, numbers))
    console.print(table)


def _number(value: float | None) -> str:
    return "–" if value is None or value != value else f"{value:.4f}"


def rows_told(ingested: dict[str, Any]) -> str:
    """Rows read, accepted and quarantined, in one line."""
    rows = ingested["rows"]
    told = f"{rows['read']} rows: {rows['accepted']} accepted, {rows['quarantined']} quarantined"
    return told + (f" → {ingested['quarantine_file']}" if rows["quarantined"] else "")
