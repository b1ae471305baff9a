"""`shortlist`'s commands about the running stack; the line's own are in cli.py."""

import typer


def register(app: typer.Typer) -> None:
    """Add this file's commands to the command line, in the order in which --help lists them."""
