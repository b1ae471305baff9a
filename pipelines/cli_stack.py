"""`shortlist`'s commands about the running stack; the line's own are in cli.py."""

from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    """Add this file's commands to the command line, in the order in which --help lists them."""
    app.command(epilog="Example: [bold]shortlist load --rate 100 --seconds 30[/]")(load)
    app.command(epilog="Examples: [bold]shortlist token[/], [bold]shortlist token --rotate[/]")(
        token
    )


def load(
    url: Annotated[
        str | None, typer.Option(help="API to load; a stack of its own, on a copy, when not given.")
    ] = None,
    rate: Annotated[float, typer.Option(help="Requests per second, reads and clicks.")] = 100.0,
    seconds: Annotated[float, typer.Option(help="How long, after the warm-up.")] = 30.0,
    events_share: Annotated[float, typer.Option(help="Part of the requests: clicks.")] = 0.2,
    users: Annotated[
        int | None, typer.Option(help="Different users; those known and a few new by default.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of the arrivals and of who arrives.")] = 0,
    timeout: Annotated[float, typer.Option(help="Seconds until a request is given up.")] = 5.0,
    own_host: Annotated[
        bool, typer.Option("--i-own-this-host", help="Allow private addresses, not only loopback.")
    ] = False,
    dataset: Annotated[str, typer.Option(help="Data set of the stack of its own.")] = "world",
) -> None:
    """Open-loop load on the API: latency from the intended send time, time by stage, CPU by request.

    The clicks are real events for an API named with --url: do not load what you learn from.
    """
    from pipelines.cli import _workspace
    from pipelines.load.command import run
    from pipelines.load.run import Asked

    settings, workspace = _workspace(dataset)
    asked = Asked(rate, seconds, events_share, users, seed, timeout)
    if run(settings, workspace, asked, url, own_host)["errors"]:
        raise typer.Exit(1)


def token(
    rotate: Annotated[bool, typer.Option(help="Replace it; the old one is dead at once.")] = False,
) -> None:
    """Print the token of the admin port; made where there is none yet."""
    from infra.admin_token import ensure, token_file
    from infra.admin_token import rotate as replace
    from pipelines.cli import _workspace

    path = token_file(_workspace("world")[0])
    print(replace(path) if rotate else ensure(path))
