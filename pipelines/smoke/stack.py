"""The stack under test, as far as its addresses show it, and how a check ends."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeVar
from uuid import uuid4

import httpx

from infra.settings import Settings

TIMEOUT_S = 10.0
PROMETHEUS = "http://127.0.0.1:9090"
STREAM_PORT = 9101

Found = TypeVar("Found")


class Failed(Exception):
    """What was seen was not what should be; the message says what was seen."""


class Skipped(Exception):
    """This stack has no such part; the message says why that is known."""


@dataclass(frozen=True, slots=True)
class Given:
    """What the caller named; None = the usual place, where there may be nothing."""

    url: str
    mlflow: str | None = None
    prometheus: str | None = None
    stream: str | None = None
    wait_s: float = 600.0
    """Longest wait for the first trained bundle."""

    expects_users: bool = True
    """Simulated users should be visiting."""


@dataclass(frozen=True, slots=True)
class Visit:
    """A new user who clicked: who, what was listed before, and what was clicked."""

    user_id: str
    before: list[str]
    clicked: list[str]


class Stack:
    """The addresses of one stack, and what one check leaves for the next."""

    def __init__(self, given: Given, settings: Settings) -> None:
        self.given = given
        self.mlflow = given.mlflow or settings.mlflow
        self.prometheus = given.prometheus or PROMETHEUS
        port = settings.metrics_port or STREAM_PORT
        self.stream = given.stream or f"http://127.0.0.1:{port}/metrics"
        # Loopback addresses are not for the proxy of the user's environment.
        self.client = httpx.Client(base_url=given.url, timeout=TIMEOUT_S, trust_env=False)
        self.visit: Visit | None = None

    def get(self, path: str, **query: str | int) -> httpx.Response:
        """GET of the API or, with a whole address, of another server."""
        return self.client.get(path, params=query or None)

    def json(self, path: str, **query: str | int) -> Any:
        """The JSON of a 200.

        Raises:
            Failed: another status.
        """
        answer = self.get(path, **query)
        if answer.status_code != httpx.codes.OK:
            raise Failed(f"{path} gave {answer.status_code}: {answer.text[:200]}")
        return answer.json()

    def post(self, path: str, body: object) -> httpx.Response:
        """POST of JSON."""
        return self.client.post(path, json=body)

    def ready(self) -> dict[str, Any]:
        """What /readyz says, ready or not."""
        told: dict[str, Any] = self.get("/readyz").json()
        return told

    @cached_property
    def mode(self) -> str:
        """Embedded or services."""
        return str(self.ready()["mode"])

    @cached_property
    def is_behind_a_proxy(self) -> bool:
        """Nginx of compose names the replica that answered."""
        return "X-Upstream" in self.get("/healthz").headers

    @cached_property
    def dataset(self) -> str:
        """Name of the data set that is served."""
        return str(self.json("/v1/users", limit=1)["dataset"])


def new_id(kind: str) -> str:
    """An id that nobody has used."""
    return f"smoke-{kind}-{uuid4().hex[:12]}"


def within(
    seconds: float, look: Callable[[], Found | None], missing: Callable[[], str]
) -> tuple[Found, float]:
    """What `look` finds, asked again and again, and the seconds that it took.

    Raises:
        Failed: nothing within the time; `missing` says what was seen instead.
    """
    since = time.monotonic()
    while True:
        found = look()
        waited = time.monotonic() - since
        if found is not None:
            return found, waited
        if waited > seconds:
            raise Failed(f"{missing()} after {waited:.0f} s")
        time.sleep(min(1.0, 0.1 + waited / 10))
