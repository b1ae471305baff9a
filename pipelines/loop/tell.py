"""What the terminal says when a loop has ended."""

from rich.markup import escape
from rich.table import Table

from pipelines.loop.answer import HEADINGS, Metrics, answers, headline, held, nights, unfinished
from pipelines.steps import console


def tell(metrics: Metrics) -> None:
    """The answer, as the page has it on top."""
    seeds = f"{metrics['days']} days, scale {metrics['scale']}, retraining: {metrics['retrain']}"
    table = Table(
        title=f"{seeds}; 95 % intervals over seeds", title_justify="left", box=None, leading=1
    )
    for heading in HEADINGS:
        table.add_column(heading, justify="left" if heading == "world" else "right")
    for row in answers(metrics):
        table.add_row(*(escape(cell.replace(" (", "\n(")) for cell in row))
    if metrics["families"]:
        console.print(table)
    for family in metrics["families"]:
        found = metrics[family]
        tests = f"A/B tests whose interval holds the truth: {held(found['lift_observed'])}"
        console.print(f"[dim]{escape(family)}:[/] {tests}; {nights(found['mornings'])}")
    console.print(f"[bold]{escape(headline(metrics))}[/]")
    if missing := unfinished(metrics):
        console.print(f"[yellow]{escape(missing)}[/]")
