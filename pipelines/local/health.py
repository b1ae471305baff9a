"""How each part is asked how it is: by its port, the way its users reach it."""

import contextlib
import functools
import socket
from collections.abc import Callable, Iterator
from typing import Any

import httpx

from infra.settings import Settings
from pipelines.local.places import address_of, listeners

ASK_SECONDS = 2.0

Ask = Callable[[], str]
"""What was seen, in a word or two; raises Unwell."""


class Unwell(Exception):
    """No answer, or not the right one; the message says what was seen."""


def asks_of(settings: Settings) -> dict[str, Ask]:
    """How to ask each part that has a port, by its name."""
    port = {name: listener.port for name, listener in listeners(settings).items()}
    workers = ("relay", "monitor")
    return {
        "kafka": listens(port["kafka"]),
        "redis": pings(port["redis"]),
        "mlflow": answers(f"http://127.0.0.1:{port['mlflow']}/health"),
        "api": serves(address_of(settings)),
        "stream": folds(f"http://127.0.0.1:{port['stream']}/metrics"),
        **{name: answers(f"http://127.0.0.1:{port[name]}/metrics") for name in workers},
    }


def folds(url: str) -> Ask:
    """The stream worker answers, and lost nothing: how far behind it is."""

    def ask() -> str:
        with _unwell(httpx.HTTPError):
            answer = _client().get(url)
        if answer.status_code != 200:
            raise Unwell(f"gave {answer.status_code}")
        totals: dict[str, float] = {}
        for line in answer.text.splitlines():
            name, _, value = line.rpartition(" ")
            if not line.startswith("#"):
                totals[name.partition("{")[0]] = totals.get(name.partition("{")[0], 0) + float(
                    value
                )
        if gone := totals.get("shortlist_stream_records_gone", 0):
            raise Unwell(f"{gone:.0f} records were deleted before they were read")
        refused = totals.get("shortlist_stream_records_refused_total", 0)
        letters = f", {refused:.0f} dead letters" if refused else ""
        return f"lag {totals.get('shortlist_stream_lag', 0):.0f}{letters}"

    return ask


def listens(port: int) -> Ask:
    """Somebody takes connections."""

    def ask() -> str:
        with _unwell(OSError), socket.create_connection(("127.0.0.1", port), ASK_SECONDS):
            return "listens"

    return ask


def pings(port: int) -> Ask:
    """Redis answers; while it still loads its file it says so."""

    def ask() -> str:
        from redis import Redis, RedisError

        with _unwell(RedisError), Redis("127.0.0.1", port, socket_timeout=ASK_SECONDS) as client:
            client.ping()
            return "pong"

    return ask


def answers(url: str) -> Ask:
    """The address gives 200."""

    def ask() -> str:
        with _unwell(httpx.HTTPError):
            _client().get(url).raise_for_status()
            return "answers"

    return ask


def serves(address: str) -> Ask:
    """The API is ready, with a bundle."""

    def ask() -> str:
        bundle, is_trained = served(address)
        return f"serves {bundle}" + ("" if is_trained else " (popular items only, nothing trained)")

    return ask


def served(address: str) -> tuple[str, bool]:
    """The bundle that answers, and whether anything in it was trained.

    Raises:
        Unwell: no answer, or no bundle yet.
    """
    with _unwell(httpx.HTTPError, ValueError):
        answer = _client().get(f"{address}/readyz")
        told: dict[str, Any] = answer.json()
    if answer.status_code != httpx.codes.OK:
        raise Unwell("; ".join(told.get("reasons", ())) or f"not ready ({answer.status_code})")
    return str(told["bundle"]), bool(told["trained"])


@functools.cache
def _client() -> httpx.Client:
    """One for all: opening one reads every certificate of the system, several times a second."""
    return httpx.Client(timeout=ASK_SECONDS, trust_env=False)


@contextlib.contextmanager
def _unwell(*errors: type[Exception]) -> Iterator[None]:
    """A client's own errors as ours."""
    try:
        yield
    except errors as error:
        raise Unwell(str(error).splitlines()[0] if str(error) else type(error).__name__) from error
