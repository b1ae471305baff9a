"""The few elements that the page is made of; whatever comes in as text is escaped here."""

from collections.abc import Callable, Sequence
from html import escape

from pipelines.loop import charts


def figure(title: str, means: str, drawn: str, true: bool | None = None) -> str:
    """A chart with its title; `true` says who knows what it shows, None = nothing is said."""
    mark = "" if true is None else tag(source(true))
    return (
        f'<figure class="card"><figcaption><h3>{escape(title)}</h3>{mark}<p>{escape(means)}</p>'
        f"</figcaption>{drawn}</figure>"
    )


def both(draw: Callable[[tuple[float, float]], str]) -> str:
    """The same chart for a wide and for a narrow screen."""
    return f'<div class="wide">{draw(charts.WIDE)}</div><div class="narrow">{draw(charts.NARROW)}</div>'


def legend(*entries: tuple[str, str]) -> str:
    """Entries are (classes of the mark, text); the first class is its colour."""
    items = "".join(f'<li><i class="{mark}"></i>{escape(text)}</li>' for mark, text in entries)
    return f'<ul class="legend">{items}</ul>'


def table(
    head: Sequence[str], rows: Sequence[Sequence[str]], mark: str = "", numbers: bool = True
) -> str:
    """Rows of text under a head; `numbers` go to the right, an interval in small print."""
    kind = ' class="number"' if numbers else ""
    top = f"<th>{escape(head[0])}</th>" + "".join(f"<th{kind}>{escape(h)}</th>" for h in head[1:])
    body = "\n".join(
        f'<tr><th scope="row">{escape(row[0])}</th>'
        + "".join(f"<td{kind}>{_cell(cell) if numbers else escape(cell)}</td>" for cell in row[1:])
        + "</tr>"
        for row in rows
    )
    return (
        f'<div class="scroll" tabindex="0"><table class="{mark}"><thead><tr>{top}</tr></thead>'
        f"<tbody>\n{body}\n</tbody></table></div>"
    )


def _cell(text: str) -> str:
    """A number, its interval in small print."""
    mean, open_, interval = text.partition(" (")
    small = f" <small>({escape(interval)}</small>" if open_ else ""
    return tag(text) or escape(mean) + small


def source(true: bool) -> str:
    """Who knows a number."""
    return "truth only" if true else "dashboard"


def tag(text: str) -> str:
    """The mark of a `source`; nothing for any other text."""
    marks = {"truth only": "tag true", "dashboard": "tag"}
    return f'<span class="{marks[text]}">{text}</span>' if text in marks else ""
