"""Charts as SVG text; matplotlib is imported when drawing."""

import io
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLOURS = ("#2a6f97", "#c8553d", "#588157", "#8d6a9f", "#b08900", "#444444")


def svg(
    draw: Callable[["Figure"], None],
    size_inches: tuple[float, float],
    description: str = "",
    **style: Any,
) -> str:
    """The chart; text stays text, and equal content gives equal bytes.

    Args:
        draw: puts it on the figure.
        size_inches: width and height, unless `draw` sets another.
        description: for the file's metadata.
        style: matplotlib's parameters, `_` for each dot: `font_size=9`.
    """
    import matplotlib
    from matplotlib.figure import Figure

    house: Any = {"svg.fonttype": "none", "svg.hashsalt": "shortlist", "font.size": 9}
    own = {name.replace("_", ".", 1): value for name, value in style.items()}
    with matplotlib.rc_context(house | own):
        figure = Figure(figsize=size_inches, layout="constrained")
        draw(figure)
        text = io.StringIO()
        marked = {"Date": None, "Creator": None, "Description": description}
        figure.savefig(text, format="svg", metadata=marked)
    # A third of it is indentation and millionths of a point.
    return re.sub(r"(\.\d{3})\d{2,}", r"\1", re.sub(r"\n\s+", "\n", text.getvalue()))
