"""`shortlist up`, `status`, `smoke` and `down` for real: Kafka, Redis, MLflow, a first training."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from infra.local import kafka, redis
from infra.local.kafka import Absent
from infra.local.supervised import Group
from infra.settings import Settings
from pipelines.local.health import served
from pipelines.local.places import address_of, listeners
from tests.infra.test_supervised import listens, until
from tests.pipelines.local.test_up import settings_of

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]


@dataclass(frozen=True)
class Stack:
    settings: Settings

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        settings = self.settings
        places = {
            "HOME": str(settings.home), "PORT": str(settings.port), "KAFKA": settings.kafka,
            "REDIS": settings.redis, "MLFLOW": settings.mlflow,
            "METRICS_PORT": str(settings.metrics_port),
        }  # fmt: skip
        return subprocess.run(
            [sys.executable, "-m", "pipelines.cli", *arguments],
            env={**os.environ, **{f"SHORTLIST_{name}": value for name, value in places.items()}},
            capture_output=True, text=True, timeout=1500,
        )  # fmt: skip

    @property
    def group(self) -> Group:
        return Group(self.settings.home / "services")

    def open_ports(self) -> list[int]:
        ports = [listener.port for listener in listeners(self.settings).values()]
        return [port for port in ports if listens(port)]


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    home = tmp_path_factory.mktemp("home")
    try:
        kafka.fetch()
        redis.command(home / "probe", 1)
    except Absent as why:
        pytest.skip(f"absent backend: {why}")
    stack = Stack(settings_of(home))
    yield stack
    stack.group.stop()


def test_the_stack_comes_up_passes_smoke_and_heals(stack):
    up = stack.run("up", "--scale", "tiny")
    assert up.returncode == 0, up.stderr
    assert "a trained bundle is served after" in up.stderr

    status = stack.run("status")
    assert status.returncode == 0, status.stderr
    for part in ("kafka", "redis", "mlflow", "api", "relay", "stream", "monitor", "users"):
        assert part in status.stderr

    smoke = stack.run("smoke")  # finds the addresses of what runs
    assert smoke.returncode == 0, smoke.stderr
    checks = json.loads((stack.settings.home / "reports" / "smoke.json").read_text())["metrics"]
    assert {name for name, check in checks.items() if check["ok"] is None} == {
        "replicas_agree", "prometheus_targets", "prometheus_metrics",
    }  # fmt: skip

    broker = stack.group.seen()["kafka"].pid
    os.kill(broker, signal.SIGKILL)
    until(lambda: stack.run("status").returncode == 1)
    until(lambda: stack.run("status").returncode == 0, timeout_s=180)
    assert stack.group.seen()["kafka"].pid != broker


def test_down_leaves_nothing_and_the_next_up_goes_on(stack):
    before = served(address_of(stack.settings))
    down = stack.run("down")
    assert down.returncode == 0, down.stderr
    assert (stack.group.processes(), stack.open_ports()) == ([], [])
    assert stack.run("status").returncode == 1

    again = stack.run("up", "--scale", "tiny", "--no-users")
    assert again.returncode == 0, again.stderr
    assert "users" not in stack.group.seen()
    assert served(address_of(stack.settings)) == before


def test_down_also_finds_everything_when_the_supervisor_was_killed(stack):
    os.kill(int((stack.group.folder / "supervisord.pid").read_text()), signal.SIGKILL)
    until(lambda: not stack.group.running())
    assert "processes of an earlier start" in stack.run("up").stderr
    down = stack.run("down", "--wipe")
    assert down.returncode == 0, down.stderr
    assert (stack.group.processes(), stack.open_ports()) == ([], [])
    assert not stack.group.folder.exists()
