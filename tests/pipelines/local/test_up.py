"""Starting and stopping with a real supervisord and small programs in place of servers."""

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from features.errors import ContractError, RecommenderError
from infra.local.process import free_port
from infra.local.program import Program
from infra.local.supervised import Group
from infra.settings import Settings
from pipelines.local.before import check_nothing_runs, check_ports
from pipelines.local.health import Unwell, answers, listens
from pipelines.local.parts import Part
from pipelines.local.places import address_of, folder_of, write_env_file
from pipelines.local.status import as_running, down, status
from pipelines.local.up import bring_up
from tests.infra.test_supervised import SLEEPER, until
from tests.infra.test_supervised import listens as is_open

EMPTY = (
    "from http.server import SimpleHTTPRequestHandler as Handler, ThreadingHTTPServer as Server; "
    "Server(('127.0.0.1', {port}), Handler).serve_forever()"
)


def python(code: str) -> tuple[str, ...]:
    return sys.executable, "-c", code


def web(name: str, port: int, after: tuple[str, ...] = ()) -> Part:
    program = Program(name, python(EMPTY.format(port=port)))
    return Part(program, after, answers(f"http://127.0.0.1:{port}/"), port)


def marker(name: str, path: Path, after: tuple[str, ...] = (), end: str = "") -> Part:
    """A job that appends its name to a file."""
    code = f"open({str(path)!r}, 'a').write('{name} '); {end}"
    return Part(Program(name, python(code), once=True), after)


@pytest.fixture
def group(tmp_path: Path) -> Iterator[Group]:
    group = Group(tmp_path / "services")
    yield group
    group.stop()


def settings_of(home: Path) -> Settings:
    """Ports of the test's own."""
    kafka = free_port()
    while kafka >= 65_000:
        kafka = free_port()
    return Settings(
        home=home, port=free_port(), kafka=f"127.0.0.1:{kafka}", redis=f"127.0.0.1:{free_port()}",
        mlflow=f"http://127.0.0.1:{free_port()}", metrics_port=min(free_port(), 65_000),
    )  # fmt: skip


def test_each_part_starts_when_what_it_needs_is_well(group, tmp_path):
    order, port = tmp_path / "order", free_port()
    parts = [
        marker("third", order, after=("server", "second")),
        marker("second", order, after=("first",)),
        marker("first", order),
        web("server", port),
    ]
    seconds = bring_up(group, parts, os.environ, "", None)
    assert order.read_text().split() == ["first", "second", "third"]
    assert seconds["first"] <= seconds["second"] <= seconds["third"]
    assert seconds["server"] <= seconds["third"]
    assert is_open(port)


def test_a_failing_part_is_told_with_its_log_and_the_rest_is_stopped(group, tmp_path):
    port = free_port()
    parts = [
        web("server", port),
        marker("job", tmp_path / "x", after=("server",), end="raise SystemExit('no disk left')"),
    ]
    with pytest.raises(RecommenderError, match=r"(?s)job ended with 1.*no disk left"):
        bring_up(group, parts, os.environ, "", None)
    assert group.processes() == []
    assert not is_open(port)


def test_a_part_that_never_is_well_is_not_started_for_ever(group):
    broken = Part(Program("broken", python("raise SystemExit('bad option')")), ask=listens(1))
    with pytest.raises(RecommenderError, match=r"(?s)broken was started 4 times.*bad option"):
        bring_up(group, [broken], os.environ, "", None)
    assert group.processes() == []


def test_a_part_that_takes_too_long_is_told(group):
    slow = Part(Program("slow", SLEEPER), ask=listens(free_port()), limit_s=1.0)
    with pytest.raises(RecommenderError, match="slow is not well after 1 s"):
        bring_up(group, [slow], os.environ, "", None)
    assert group.processes() == []


def test_ctrl_c_stops_what_was_started(group):
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's `&` has it ignored
    port = free_port()
    never = Part(Program("never", SLEEPER), after=("server",), ask=listens(free_port()))
    timer = threading.Thread(
        target=lambda: (until(lambda: is_open(port)), os.kill(os.getpid(), signal.SIGINT))
    )
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        bring_up(group, [web("server", port), never], os.environ, "", None)
    timer.join()
    assert group.processes() == []
    assert not is_open(port)


def test_what_runs_is_not_started_twice(group):
    bring_up(group, [Part(Program("one", SLEEPER))], os.environ, "", None)
    with pytest.raises(ContractError, match=r"run already.*shortlist status.*shortlist down"):
        check_nothing_runs(group)


def test_what_a_killed_supervisor_left_is_named_before_a_start_and_ended_by_down(tmp_path):
    settings = settings_of(tmp_path)
    group = Group(folder_of(settings))
    bring_up(group, [Part(Program("one", SLEEPER))], os.environ, "", None)
    pid = group.seen()["one"].pid
    os.kill(int((group.folder / "supervisord.pid").read_text()), signal.SIGKILL)
    until(lambda: not group.running())
    with pytest.raises(ContractError, match=rf"1 processes of an earlier start.*{pid}.*down"):
        check_nothing_runs(group)
    assert down(settings) == (True, ["one"])
    assert not psutil.pid_exists(pid)
    assert down(settings) == (False, [])
    check_nothing_runs(group)


def test_taken_ports_are_all_named_with_the_setting_that_moves_each(tmp_path):
    settings = settings_of(tmp_path)
    kafka = int(settings.kafka.split(":")[1])
    with (
        socket.create_server(("127.0.0.1", kafka)),
        socket.create_server(("127.0.0.1", settings.port)),
        pytest.raises(ContractError) as told,
    ):
        check_ports(settings)
    assert f"port {kafka} for Kafka is taken; move it with SHORTLIST_KAFKA" in str(told.value)
    assert (
        f"port {settings.port} for the API is taken; move it with --port or SHORTLIST_PORT"
        in str(told.value)
    )
    assert "Redis" not in str(told.value)
    check_ports(settings)


def test_the_command_names_a_taken_port_before_it_writes_anything(tmp_path):
    settings = settings_of(tmp_path)
    redis = int(settings.redis.split(":")[1])
    with socket.create_server(("127.0.0.1", redis)):
        ended = subprocess.run(
            [sys.executable, "-m", "pipelines.cli", "up", "--port", str(settings.port)],
            env={**os.environ, "SHORTLIST_HOME": str(tmp_path), "SHORTLIST_REDIS": settings.redis},
            capture_output=True, text=True, timeout=60,
        )  # fmt: skip
    assert ended.returncode == 2
    assert f"port {redis} for Redis is taken; move it with SHORTLIST_REDIS" in " ".join(
        ended.stderr.split()
    )
    assert not list(tmp_path.iterdir())


def test_status_asks_each_part_and_not_only_its_process(tmp_path):
    settings = settings_of(tmp_path)
    write_env_file(settings)
    kafka = int(settings.kafka.split(":")[1])
    parts = [
        web("kafka", kafka),
        Part(Program("redis", SLEEPER)),
        Part(Program("users", SLEEPER)),
        marker("bootstrap", tmp_path / "x"),
    ]
    group = Group(folder_of(settings))
    try:
        bring_up(group, parts, os.environ, "", None)
        found = {part.name: part for part in status(Settings(home=tmp_path))}
    finally:
        group.stop()
    assert {name: part.is_well for name, part in found.items()} == {
        "kafka": True, "redis": False, "users": True, "bootstrap": True,
    }  # fmt: skip
    assert (found["kafka"].health, found["bootstrap"].health) == ("listens", "done")
    assert "refused" in found["redis"].health.lower()  # a process that does not answer is not well
    assert found["kafka"].port == kafka
    assert found["users"].memory_mib is not None
    assert found["users"].memory_mib > 1
    assert status(settings) == []


def test_smoke_takes_the_addresses_of_the_stack_that_it_is_sent_to(tmp_path):
    settings, usual = settings_of(tmp_path), Settings(home=tmp_path)
    write_env_file(settings)
    assert as_running(usual, None) == usual  # written, but nothing runs
    group = Group(folder_of(settings))
    try:
        bring_up(group, [Part(Program("one", SLEEPER))], os.environ, "", None)
        assert as_running(usual, None).mlflow == settings.mlflow
        assert as_running(usual, f"{address_of(settings)}/").mlflow == settings.mlflow
        assert as_running(usual, "http://127.0.0.1:1").mlflow == usual.mlflow
    finally:
        group.stop()


def test_an_answer_other_than_200_is_not_well():
    with pytest.raises(Unwell, match="refused"):
        answers(f"http://127.0.0.1:{free_port()}/")()
