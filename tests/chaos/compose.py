"""`make compose-chaos`: kill the parts of the running stack one by one while it is used.

    client, 30 requests/s   ----------------------------------------------------------->
    kafka redis mlflow stream api     kill -9, down, start again, well again, next one
    afterwards    every event answered 202 is in the log; online features equal a recount
    then          Redis emptied, rebuilt from what is left, recounted

Writes var/reports/compose-chaos.json; exits 1 if a client saw a 5xx, an event is missing, or a
feature is wrong. The stack is the one of docker-compose.yml, started before.
"""

import argparse
import asyncio
import contextlib
import json
import random
import subprocess
import sys
import time
import urllib.request
from collections.abc import AsyncIterator, Callable

from rich.console import Console
from rich.table import Table

from infra.kafka_log import KafkaEventLog
from infra.reports import report
from infra.settings import PROJECT
from tests.chaos.client import Client, summary

DATASET = "world"
PARTITIONS = 4
TARGETS = ("kafka", "redis", "mlflow", "stream", "api")
OPERATOR_PASSWORD = "/var/lib/shortlist-operator/redis-password"
WELL_AGAIN_S = 180.0
SETTLE_S = 180.0
"""How long relay and stream worker may take to catch up once the client has stopped."""

console = Console(stderr=True, highlight=False, width=110)


def main() -> None:
    """Run it all, print a table, write the report."""
    asked = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    asked.add_argument("--url", default="http://127.0.0.1:8000")
    asked.add_argument("--kafka", default="127.0.0.1:9094")
    asked.add_argument("--rate", type=float, default=30.0, help="requests per second")
    asked.add_argument("--down", type=float, default=12.0, help="seconds that a part stays dead")
    asked.add_argument("--seed", type=int, default=0)
    options = asked.parse_args()

    with report(PROJECT / "var" / "reports", "compose-chaos", [options.seed]) as metrics:
        metrics.update(asyncio.run(chaos(options)))
        metrics["violations"] = violations(metrics)
    tell(metrics)
    if metrics["violations"]:
        sys.exit(1)


async def chaos(options: argparse.Namespace) -> dict:
    """All faults under load, then the checks; the metrics of the report."""
    known = json.load(urllib.request.urlopen(f"{options.url}/v1/users?limit=100", timeout=10))
    client = Client(
        options.url, [user["user_id"] for user in known["users"]], options.rate, options.seed
    )
    log = KafkaEventLog(options.kafka, DATASET, PARTITIONS)
    starts = [log.end_offset("events", partition) for partition in range(PARTITIONS)]
    log.close()

    stop = asyncio.Event()
    load = asyncio.create_task(client.run(stop))
    phases: dict[str, tuple[float, float]] = {}
    async with _phase(client, phases, "nothing"):
        await asyncio.sleep(options.down)
    for target in TARGETS:
        async with _phase(client, phases, target):
            await _kill_and_start(target, options)
    stop.set()
    await load

    metrics = {"rate": options.rate, "phases": _by_phase(client, phases)}
    metrics["all"] = summary(client.answers)
    await _compose("stop", "users")  # they would go on writing while we count
    try:
        metrics["log"] = await _until(
            lambda: _missing(options.kafka, starts, client.accepted), "missing"
        )
        metrics["recount"] = await _until(_recount, "wrong", "missing")
        metrics["after_flush"] = await _after_flush(options, client)
    finally:
        await _compose("start", "users")
    return metrics


async def _kill_and_start(target: str, options: argparse.Namespace) -> None:
    """SIGKILL; for the API one replica of them all."""
    container = random.Random(options.seed).choice(await _containers(target))
    console.print(f"{target}: kill -9, down for {options.down:.0f} s")
    await _docker("kill", container)
    await asyncio.sleep(options.down)
    await _docker("start", container)
    since = time.monotonic()
    while (health := await _health(container)) != "healthy":
        if time.monotonic() - since > WELL_AGAIN_S:
            raise SystemExit(f"{target} is {health} {WELL_AGAIN_S:.0f} s after its start")
        await asyncio.sleep(1)
    console.print(f"{target}: well again after {time.monotonic() - since:.0f} s")
    await asyncio.sleep(5)


async def _after_flush(options: argparse.Namespace, before: Client) -> dict:
    """Empty Redis while clients read, rebuild it, recount."""
    console.print("redis: emptied, then rebuilt")
    client = Client(options.url, before._users, options.rate, options.seed + 1)
    stop = asyncio.Event()
    load = asyncio.create_task(client.run(stop))
    before_keys = await _redis("dbsize")
    await _redis("flushall")
    since = time.monotonic()
    await _compose("run", "--rm", "-T", "tools", "rebuild")
    seconds = round(time.monotonic() - since, 1)
    stop.set()
    await load
    recount = await _until(_recount, "wrong", "missing")
    return {
        "keys_before": int(before_keys),
        "keys_rebuilt": int(await _redis("dbsize")),
        "rebuild_seconds": seconds,
        "client": summary(client.answers),
        "recount": recount,
    }


def _missing(kafka: str, starts: list[int], accepted: set[str]) -> dict:
    """What of the accepted events is not in the log; read from where it ended at the start."""
    log = KafkaEventLog(kafka, DATASET, PARTITIONS)
    found: list[str] = []
    with contextlib.closing(log):
        for partition, offset in enumerate(starts):
            while records := log.read("events", partition, offset, 1000):
                found += [r.value.get("event_id", "") for r in records]
                offset = records[-1].offset + 1
    ours = [event_id for event_id in found if event_id in accepted]
    return {
        "accepted": len(accepted),
        "missing": len(accepted - set(ours)),
        "repeated": len(ours) - len(set(ours)),
    }


def _recount() -> dict:
    """`shortlist recount` in a container, and what it wrote."""
    _run("docker", "compose", "run", "--rm", "-T", "tools", "recount", check=False)
    told = _run(
        "docker",
        "compose",
        "exec",
        "-T",
        "stream",
        "cat",
        "/var/lib/shortlist/reports/recount.json",
    )
    return {key: json.loads(told)["metrics"][key] for key in ("users", "wrong", "missing")}


async def _until(check: Callable[[], dict], *zero: str) -> dict:
    """Ask again until these figures are zero or the time is over; the last answer."""
    since = time.monotonic()
    while True:
        found = await asyncio.to_thread(check)
        found["settled_seconds"] = round(time.monotonic() - since, 1)
        if not any(found[name] for name in zero) or found["settled_seconds"] > SETTLE_S:
            return found
        console.print(f"  not yet: {found}")
        await asyncio.sleep(3)


def violations(metrics: dict) -> list[str]:
    """What was promised and did not hold."""
    found = [
        f"{name}: {figures[kind]} {kind}"
        for name, figures in [
            *metrics["phases"].items(),
            ("flush", metrics["after_flush"]["client"]),
        ]
        for kind in ("errors_5xx", "unanswered")
        if figures[kind]
    ]
    if metrics["log"]["missing"]:
        found.append(f"{metrics['log']['missing']} accepted events are not in the log")
    for when in ("recount", "after_flush"):
        counted = metrics[when].get("recount", metrics[when])
        if counted["wrong"] or counted["missing"] or not counted["users"]:
            found.append(f"{when}: {counted}")
    return found


def tell(metrics: dict) -> None:
    """The table."""
    table = Table(title=f"{metrics['rate']:.0f} requests/s, one part killed and started at a time")
    for name in (
        "killed",
        "requests",
        "5xx",
        "no answer",
        "429",
        "p50 ms",
        "p99 ms",
        "max ms",
        "rungs",
    ):
        table.add_column(name, justify="left" if name in ("killed", "rungs") else "right")
    rows = [*metrics["phases"].items(), ("redis emptied", metrics["after_flush"]["client"])]
    for name, figures in rows:
        *numbers, rungs = figures.values()
        table.add_row(name, *map(str, numbers), " ".join(f"{r}:{n}" for r, n in rungs.items()))
    console.print(table)
    console.print(f"log: {metrics['log']}")
    console.print(
        f"features: {metrics['recount']}, after the rebuild: {metrics['after_flush']['recount']}"
    )
    for line in metrics["violations"] or ["every promise held"]:
        console.print(f"[{'red' if metrics['violations'] else 'green'}]{line}[/]")


@contextlib.asynccontextmanager
async def _phase(
    client: Client, phases: dict[str, tuple[float, float]], name: str
) -> AsyncIterator[None]:
    """Notes from when to when a part was under attack, and says what the client saw of it."""
    start = client.now_s()
    yield
    phases[name] = (start, client.now_s())
    figures = _by_phase(client, phases)[name]
    console.print(f"  {name}: {figures}")


def _by_phase(client: Client, phases: dict[str, tuple[float, float]]) -> dict[str, dict]:
    return {
        name: summary([a for a in client.answers if start <= a.at_s < end])
        for name, (start, end) in phases.items()
    }


async def _containers(service: str) -> list[str]:
    return (await _compose("ps", "-q", service)).split()


async def _redis(command: str) -> str:
    """What Redis says to the operator; the stack's own user may not empty it."""
    password = await _compose("exec", "-T", "admin", "cat", OPERATOR_PASSWORD)
    container = (await _containers("redis"))[0]
    asked = ["redis-cli", "--user", "operator", "--no-auth-warning", command]
    return await _docker("exec", "-e", f"REDISCLI_AUTH={password.strip()}", container, *asked)


async def _health(container: str) -> str:
    return (await _docker("inspect", "-f", "{{.State.Health.Status}}", container)).strip()


async def _compose(*arguments: str) -> str:
    return await _docker("compose", *arguments)


async def _docker(*arguments: str) -> str:
    return await asyncio.to_thread(_run, "docker", *arguments)


def _run(*command: str, check: bool = True) -> str:
    """Standard output; what the command complained of is told when it failed."""
    told = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, timeout=600)
    if check and told.returncode:
        raise SystemExit(f"{' '.join(command)}: {told.stderr.strip() or told.stdout.strip()}")
    return told.stdout


if __name__ == "__main__":
    main()
