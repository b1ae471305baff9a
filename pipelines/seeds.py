"""Seeds on a command line: how many, or which."""

from typing import Annotated

import typer

from features.errors import ContractError

Seeds = Annotated[str, typer.Option(help="How many (5 = 0 … 4), or which: 0-4, or 1,3,5.")]


def parse_seeds(text: str) -> list[int]:
    """5 → 0, 1, 2, 3, 4; 0-2,7 → those; 7, → that one.

    Raises:
        ContractError: anything else.

    Examples:
        >>> parse_seeds("3")
        [0, 1, 2]
        >>> parse_seeds("0-2,7")
        [0, 1, 2, 7]
        >>> parse_seeds("7,")
        [7]
    """
    if text.strip().isdigit() and int(text):
        return list(range(int(text)))
    seeds: list[int] = []
    for part in text.rstrip(", ").split(","):
        first, dash, last = part.strip().partition("-")
        if not first.isdigit() or (dash and not last.isdigit()):
            raise ContractError(
                f"--seeds {text!r}: expected how many, a range such as 0-4, or a list as 1,3,5"
            )
        seeds += range(int(first), int(last or first) + 1)
    if not seeds or text.strip() == "0":
        raise ContractError(f"--seeds {text!r}: names no seed; the smaller number comes first")
    return seeds
