"""The processes of the stack, what each needs before it starts, and how it is asked.

    kafka, redis, bootstrap, api
                      └──► relay, stream, monitor, mlflow      api ──► users

Few of them need another to start: every one waits for servers that are away. What comes later comes
later because two cores cannot start everything at once, and the first answer waits for bootstrap
alone. Stopped in the opposite order.
"""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from infra.local.program import Program
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
    from infra.local import mlflow, redis

    port = {name: listener.port for name, listener in listeners(settings).items()}
    asks = asks_of(settings)

    def part(program: Program, after: tuple[str, ...] = (), limit_s: float = START_S) -> Part:
        return Part(program, after, asks.get(program.name), port.get(program.name), limit_s)

    folder = folder_of(settings)
    dials = ("--scale", scale, "--seed", str(seed))
    bootstrap = Program("bootstrap", _shortlist("bootstrap", *dials), once=True)
    tracker = Program("mlflow", mlflow.command(folder / "mlflow", "127.0.0.1", port["mlflow"]))
    visits = ("--url", address_of(settings), "--rate", str(rate))
    users = Program("users", _shortlist("users", *visits))
    return [
        part(Program("kafka", _kafka(folder, port, settings.partitions), stop_s=30)),
        part(Program("redis", redis.command(folder / "redis", port["redis"]))),
        part(bootstrap, limit_s=BOOTSTRAP_S),
        part(Program("api", _api(settings)), limit_s=BOOTSTRAP_S),
        part(_worker("monitor", port["monitor"]), after=("bootstrap",)),
        part(_worker("stream", port["stream"]), after=("bootstrap", "kafka", "redis")),
        part(_worker("relay", port["relay"]), after=("bootstrap", "kafka")),
        part(tracker, after=("bootstrap",)),
        *([part(users, after=("api",))] if rate else []),
    ]


def _kafka(folder: Path, port: Mapping[str, int], partitions: int) -> Sequence[str]:
    from infra.local import kafka

    return kafka.prepare(folder / "kafka", port["kafka"], port["controller"], partitions)


def _worker(name: str, port: int) -> Program:
    return Program(
        name,
        _python(f"pipelines.{name}"),
        environment={"SHORTLIST_METRICS_PORT": str(port), "SHORTLIST_WORKER": name},
    )


def _api(settings: Settings) -> Sequence[str]:
    where = ("--host", settings.host, "--port", str(settings.port))
    return _python("uvicorn", "serving.app:create_app", "--factory", *where, "--no-access-log")


def _shortlist(*arguments: str) -> Sequence[str]:
    return _python("pipelines.cli", *arguments)


def _python(module: str, *arguments: str) -> Sequence[str]:
    return (sys.executable, "-m", module, *arguments)
