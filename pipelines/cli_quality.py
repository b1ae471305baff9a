"""`shortlist quality`."""

import typer


def register(app: typer.Typer) -> None:
    """Add this file's command to the command line."""
