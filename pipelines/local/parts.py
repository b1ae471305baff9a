"""The processes of the stack, what each needs before it starts, and how it is asked.

    kafka, redis ──► bootstrap ──► stream
    mlflow ────────────┴─────────► monitor
    api, relay (need nobody)       users (need the api)

Started in the order of the list, each as soon as what it needs is well; stopped in the opposite one.
"""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from infra.local.supervised import Program
from infra.settings import Settings
from pipelines.local.health import Ask, asks_of
from pipelines.local.places import address_of, folder_of, listeners

START_S, BOOTSTRAP_S = 180.0, 900.0
"""How long a part may take until it is well. The API waits for what bootstrap makes."""


@dataclass(frozen=True, slots=True)
class Part:
    """One process of the stack."""

    program: Program
    after: tuple[str, ...] = ()
    """Parts that must be well first."""

    ask: Ask | None = None
    """None = it has no port: a living process, or a job that ended well, is all there is to see."""

    port: int | None = None
    limit_s: float = START_S
    """How long it may take from its start until it is well."""

    @property
    def name(self) -> str:
        """As the user knows it."""
        return self.program.name


def parts_of(settings: Settings, scale: str, seed: int, rate: float) -> list[Part]:
    """All parts, in start order.

    Args:
        settings: addresses.
        scale: of the simulated shop and of the training.
        seed: of the simulated shop.
        rate: visits a second of the simulated users; 0 = nobody visits.

    Raises:
        Absent: Kafka or Redis cannot run on this machine.
    """
    port = {name: listener.port for name, listener in listeners(settings).items()}
    asks = asks_of(settings)

    def part(program: Program, after: tuple[str, ...] = (), limit_s: float = START_S) -> Part:
        return Part(program, after, asks.get(program.name), port.get(program.name), limit_s)

    dials = ("--scale", scale, "--seed", str(seed))
    visits = ("--url", address_of(settings), "--rate", str(rate))
    users = Program("users", _shortlist("users", *visits))
    return [
        *(part(server) for server in _servers(folder_of(settings), port, settings.partitions)),
        part(
            Program("bootstrap", _shortlist("bootstrap", *dials), once=True),
            after=("kafka", "redis"),
            limit_s=BOOTSTRAP_S,
        ),
        part(Program("api", _api(settings)), limit_s=BOOTSTRAP_S),
        part(_worker("relay", port["relay"])),
        part(_worker("stream", port["stream"]), after=("bootstrap",)),
        part(_worker("monitor", port["monitor"]), after=("bootstrap", "mlflow")),
        *([part(users, after=("api",))] if rate else []),
    ]


def _servers(folder: Path, port: Mapping[str, int], partitions: int) -> list[Program]:
    from infra.local import kafka, mlflow, redis

    broker = kafka.prepare(folder / "kafka", port["kafka"], port["controller"], partitions)
    return [
        Program("kafka", broker, stop_s=30),
        Program("redis", redis.command(folder / "redis", port["redis"])),
        Program("mlflow", mlflow.command(folder / "mlflow", "127.0.0.1", port["mlflow"])),
    ]


def _worker(name: str, port: int) -> Program:
    return Program(
        name, _python(f"pipelines.{name}"), environment={"SHORTLIST_METRICS_PORT": str(port)}
    )


def _api(settings: Settings) -> Sequence[str]:
    where = ("--host", settings.host, "--port", str(settings.port))
    return _python("uvicorn", "serving.app:create_app", "--factory", *where, "--no-access-log")


def _shortlist(*arguments: str) -> Sequence[str]:
    return _python("pipelines.cli", *arguments)


def _python(module: str, *arguments: str) -> Sequence[str]:
    return (sys.executable, "-m", module, *arguments)
