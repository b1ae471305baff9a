"""Where the local services listen and what they keep, and the settings that lead other commands there.

All of it lives in <home>/services, which is also the home of the data set that they work on, so that
the stack and `shortlist demo` never write into each other's files.
"""

import os
import shlex
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from features.errors import ContractError
from infra.local.marked import MARK
from infra.settings import Settings

DATASET = "world"
"""The stack serves the simulated shop: only its users come by themselves."""

METRICS_PORT = 9101
"""Of the stream worker; relay and monitor take the next two."""

NOT_INHERITED = (MARK, "SHORTLIST_REDIS_PASSWORD_FILE", "SHORTLIST_CLOCK_START")
"""Said to somebody else's servers; the local Redis has no password, the local clock is real."""


@dataclass(frozen=True, slots=True)
class Listener:
    """A port that the stack needs."""

    what: str
    port: int
    setting: str
    """What moves it."""


def folder_of(settings: Settings) -> Path:
    """Where the local services keep everything."""
    return settings.home.resolve() / "services"


def address_of(settings: Settings) -> str:
    """Where the API answers."""
    return f"http://{settings.host}:{settings.port}"


def listeners(settings: Settings) -> dict[str, Listener]:
    """Every port by the name of its part, with the setting that moves it.

    Raises:
        ContractError: an address is not on this machine, or two parts want one port.
    """
    kafka = _port("kafka", settings.kafka)
    stream = settings.metrics_port or METRICS_PORT
    metrics = "SHORTLIST_METRICS_PORT (stream worker, relay and monitor take three in a row)"
    found = {
        "kafka": Listener("Kafka", kafka, "SHORTLIST_KAFKA"),
        "controller": Listener(
            "Kafka's controller", kafka + 1, "SHORTLIST_KAFKA (it takes the port above Kafka's)"
        ),
        "redis": Listener("Redis", _port("redis", settings.redis), "SHORTLIST_REDIS"),
        "mlflow": Listener("MLflow", _port("mlflow", settings.mlflow), "SHORTLIST_MLFLOW"),
        "api": Listener("the API", settings.port, "--port or SHORTLIST_PORT"),
        "stream": Listener("the stream worker's metrics", stream, metrics),
        "relay": Listener("the relay's metrics", stream + 1, metrics),
        "monitor": Listener("the monitor's metrics", stream + 2, metrics),
    }
    by_port: dict[int, Listener] = {}
    for listener in found.values():
        if (other := by_port.setdefault(listener.port, listener)) is not listener:
            raise ContractError(
                f"{other.what} and {listener.what} both want port {listener.port}; "
                f"move one with {other.setting}, or with {listener.setting}"
            )
    return found


def shared_environment(settings: Settings) -> dict[str, str]:
    """The settings that all parts share, and with which other commands work on this stack."""
    return {
        "SHORTLIST_MODE": "services",
        "SHORTLIST_HOME": str(folder_of(settings)),
        "SHORTLIST_SPOOL": str(folder_of(settings) / "spool"),
        "SHORTLIST_DATASET": DATASET,
        "SHORTLIST_HOST": settings.host,
        "SHORTLIST_PORT": str(settings.port),
        "SHORTLIST_KAFKA": settings.kafka,
        "SHORTLIST_REDIS": settings.redis,
        "SHORTLIST_MLFLOW": settings.mlflow,
        "SHORTLIST_CLOCK": "real",
        "SHORTLIST_PARTITIONS": str(settings.partitions),
    }


def environment_of_parts(settings: Settings, scale: str) -> dict[str, str]:
    """What the user set stays (a deadline, an experiment), what belongs to the stack is ours."""
    inherited = {name: value for name, value in os.environ.items() if name not in NOT_INHERITED}
    inherited.setdefault("OMP_NUM_THREADS", "1")  # one request, one thread
    return {**inherited, **shared_environment(settings), "SHORTLIST_SCALE": scale}


def write_env_file(settings: Settings) -> Path:
    """Leave the settings where `status` finds them and a shell can read them."""
    path = env_file(settings)
    path.parent.mkdir(parents=True, exist_ok=True)
    shared = {
        **shared_environment(settings),
        "SHORTLIST_METRICS_PORT": str(settings.metrics_port or METRICS_PORT),
    }
    path.write_text("".join(f"{name}={shlex.quote(value)}\n" for name, value in shared.items()))
    return path


def env_file(settings: Settings) -> Path:
    """`set -a; . <this>; set +a` makes a shell's commands work on this stack."""
    return folder_of(settings) / "env"


def as_started(settings: Settings) -> Settings:
    """The settings with which the stack was last started; the given ones where it never was."""
    if not env_file(settings).exists():
        return settings
    pairs = [shlex.split(line)[0].split("=", 1) for line in env_file(settings).open()]
    known = {name.removeprefix("SHORTLIST_").lower(): value for name, value in pairs}
    return Settings.model_validate({**known, "home": settings.home})


def _port(name: str, address: str) -> int:
    parts = urlsplit(address if "://" in address else f"//{address}")
    if parts.hostname not in ("127.0.0.1", "localhost") or parts.port is None:
        raise ContractError(
            f"SHORTLIST_{name.upper()} is '{address}'; local services run on this machine: "
            "make it 127.0.0.1 with a port, or unset it"
        )
    return parts.port
