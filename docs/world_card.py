"""Writes the tables of docs/world.md from the code: what a reader sees is what runs.

    python -m docs.world_card           (--check: fail when the page is stale)

A table stands between `<!-- code: NAME -->` and `<!-- end -->`; nobody edits between the marks.
Measured figures are docs/figures.py's.
"""

import re
import sys
from collections.abc import Callable
from pathlib import Path

from pydantic.fields import FieldInfo

from pipelines.world import behaviour, families, history, state
from pipelines.world.config import (
    MECHANISMS,
    PRESETS,
    SCALES,
    Shift,
    WorldConfig,
    allowed,
)
from pipelines.world.facts import FACTS

PAGE = Path(__file__).resolve().parent / "world.md"
BLOCK = re.compile(r"(<!-- code: ([a-z-]+) -->\n)(.*?)(<!-- end -->)", re.DOTALL)


def parameters() -> str:
    """Every field of the configuration."""
    return _table(("parameter", "base", "range", "reason"), _fields(WorldConfig.model_fields))


def shifts() -> str:
    """The fields of a shift."""
    return _table(("field", "default", "range", "meaning"), _fields(Shift.model_fields))


def family_constants() -> str:
    """What the families have of their own."""
    rows = [
        (f"`{type(family).__name__}.{name}`", f"{value:g}")
        for family in families.FAMILY.values()
        for name, value in vars(type(family)).items()
        if isinstance(value, int | float)
    ]
    for module, name in (
        (families, "SLOPE"),
        (families, "GOES_ON"),
        (behaviour, "SATISFIES"),
        (behaviour, "INTENT_CUT"),
        (behaviour, "BOT_CHANCE"),
        (behaviour, "DWELL_S"),
        (behaviour, "WITHOUT_CLICK"),
        (behaviour, "LEARNS"),
        (state, "MEMORY"),
        (history, "CLICKS_KEPT"),
    ):
        value = getattr(module, name)
        several = value.items() if isinstance(value, dict) else [("", value)]
        rows.append((f"`{name}`", ", ".join(f"{key} {part:g}".strip() for key, part in several)))
    return _table(("constant", "value"), rows)


def presets() -> str:
    """The named worlds."""
    rows = [
        (
            f"`{name}`",
            ", ".join(f"{key} = {_plain(value)}" for key, value in changes.items()) or "–",
        )
        for name, changes in PRESETS.items()
    ]
    return _table(("preset", "deviates from the base in"), rows)


def scales() -> str:
    """The sizes by name."""
    names = list(next(iter(SCALES.values())))
    return _table(
        ("scale", *names),
        [(name, *(f"{size[key]:,}" for key in names)) for name, size in SCALES.items()],
    )


def mechanisms() -> str:
    """What can be switched off."""
    return ", ".join(f"`{name}`" for name in MECHANISMS)


def facts() -> str:
    """Every fact with its range and source."""
    rows = []
    for name, fact in FACTS.items():
        summary = (fact.measure.__doc__ or "").splitlines()[0]
        rows.append((f"`{name}`", summary, f"{fact.low:g} … {fact.high:g}", fact.source))
    return _table(("fact", "is", "range", "source"), rows)


TABLES: dict[str, Callable[[], str]] = {
    "parameters": parameters,
    "shifts": shifts,
    "families": family_constants,
    "presets": presets,
    "scales": scales,
    "mechanisms": mechanisms,
    "facts": facts,
}


def written(page: str) -> str:
    """The page with every table as the code has it.

    Raises:
        KeyError: a block names a table that nobody makes.
    """
    return BLOCK.sub(lambda b: f"{b.group(1)}{TABLES[b.group(2)]()}\n{b.group(4)}", page)


def _fields(fields: dict[str, FieldInfo]) -> list[tuple[str, ...]]:
    return [
        (
            f"`{name}`",
            "required" if field.is_required() else _plain(field.default),
            allowed(field),
            " ".join((field.description or "").split()),
        )
        for name, field in fields.items()
    ]


def _plain(value: object) -> str:
    if isinstance(value, list):
        return "; ".join(
            " ".join(f"{key} {part}" for key, part in shift.items()) for shift in value
        )
    if isinstance(value, float):
        return f"{value:g}"
    return "–" if value in (None, ()) else str(value)


def _table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = [f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows)])


def main() -> None:
    """Write the page, or say that it is stale."""
    page = PAGE.read_text()
    fresh = written(page)
    if "--check" in sys.argv:
        if page != fresh:
            sys.exit("docs/world.md is stale; run: python -m docs.world_card")
        return
    PAGE.write_text(fresh)


if __name__ == "__main__":
    main()
