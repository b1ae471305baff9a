"""supervisord for real, with small programs in place of servers."""

import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from infra.local.process import free_port
from infra.local.supervised import Group, Program, tail

SLEEPER = (sys.executable, "-c", "import time; print('awake', flush=True); time.sleep(600)")


def listener(port: int) -> tuple[str, ...]:
    code = f"import socket, time; s = socket.create_server(('127.0.0.1', {port})); time.sleep(600)"
    return sys.executable, "-c", code


def until(holds: Callable[[], object], timeout_s: float = 60.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not holds():
        assert time.monotonic() < deadline, f"not within {timeout_s} s"
        time.sleep(0.02)


@pytest.fixture
def group(tmp_path: Path) -> Iterator[Group]:
    group = Group(tmp_path)
    yield group
    group.stop()


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_nothing_runs_before_it_is_started_by_name(group):
    group.launch([Program("one", SLEEPER), Program("two", SLEEPER)], os.environ)
    group.start("two")
    until(lambda: group.seen()["two"].state == "RUNNING")
    assert group.seen()["one"].state == "STOPPED"
    until(lambda: "awake" in tail(group.log("two"), 5))


def test_a_crashed_process_is_started_again(group):
    group.launch([Program("one", SLEEPER)], os.environ)
    group.start("one")
    until(lambda: group.seen()["one"].state == "RUNNING")
    first = group.seen()["one"].pid
    os.kill(first, signal.SIGKILL)
    until(lambda: group.seen()["one"].runs and group.seen()["one"].pid != first)


def test_a_job_ends_and_is_not_repeated(group, tmp_path):
    code = f"open({str(tmp_path / 'runs')!r}, 'a').write('ran\\n')"
    jobs = {"good": code, "bad": f"{code}; raise SystemExit(3)"}
    group.launch([Program(n, (sys.executable, "-c", c), once=True) for n, c in jobs.items()], {})
    for name in jobs:
        group.start(name)
        until(lambda name=name: group.seen()[name].state == "EXITED")
    assert group.seen()["good"].done
    assert not group.seen()["good"].failed
    assert group.seen()["bad"].failed
    assert (tmp_path / "runs").read_text().count("ran") == 2


def test_stop_leaves_no_process_and_no_port(group):
    port = free_port()
    parent = f"import subprocess, sys; subprocess.run({listener(port)!r})"
    group.launch([Program("family", (sys.executable, "-c", parent))], os.environ)
    group.start("family")
    until(lambda: listens(port))
    assert len(group.processes()) == 3  # supervisord, the program and its child
    assert group.stop() == []
    assert group.processes() == []
    assert not listens(port)
    assert not group.running()


def test_stop_finds_what_a_killed_supervisor_left_behind(group):
    port = free_port()
    group.launch([Program("server", listener(port))], os.environ)
    group.start("server")
    until(lambda: listens(port))
    supervisord = int((group.folder / "supervisord.pid").read_text())
    os.kill(supervisord, signal.SIGKILL)
    until(lambda: not group.running())
    assert listens(port)
    assert group.stop() == ["server"]
    assert not listens(port)
    assert group.processes() == []


def test_stop_also_finds_what_lost_one_of_its_marks(group):
    own_session = "import os, time; os.setsid(); print('up', flush=True); time.sleep(600)"
    no_environment = (
        "import os, sys; os.execve(sys.executable, "
        "[sys.executable, '-c', 'import time; print(1, flush=True); time.sleep(600)'], {})"
    )
    codes = {"session": f"import subprocess, sys; subprocess.run([sys.executable, '-c', {own_session!r}])",
             "environment": no_environment}  # fmt: skip
    group.launch([Program(n, (sys.executable, "-c", c)) for n, c in codes.items()], os.environ)
    for name in codes:
        group.start(name)
        until(lambda name=name: tail(group.log(name), 1))
    assert len(group.processes()) == 4
    os.kill(int((group.folder / "supervisord.pid").read_text()), signal.SIGKILL)
    until(lambda: not group.running())
    assert len(group.stop()) == 2
    assert group.processes() == []


def test_a_stale_pid_file_leads_to_nobody_elses_processes(group):
    group.launch([Program("one", SLEEPER)], os.environ)
    group.stop()
    (group.folder / "supervisord.pid").write_text(f"{os.getsid(0)}\n")
    assert group.processes() == []


def test_a_process_that_ignores_the_request_to_end_is_killed(group):
    deaf = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); "
    deaf += "print('deaf', flush=True); time.sleep(600)"
    group.launch([Program("deaf", (sys.executable, "-c", deaf), stop_s=1)], os.environ)
    group.start("deaf")
    until(lambda: "deaf" in tail(group.log("deaf"), 5))
    pid = group.seen()["deaf"].pid
    assert group.stop() == []
    assert not psutil.pid_exists(pid)


def test_programs_get_the_environment_that_they_are_given_and_no_other(group, monkeypatch):
    monkeypatch.setenv("LEAKED", "yes")
    code = "import os, time; "
    code += "print({k: os.environ.get(k) for k in ('LEAKED', 'ALL', 'OWN')}, flush=True); "
    code += "time.sleep(600)"
    program = Program("one", (sys.executable, "-c", code), environment={"OWN": "50%, mine"})
    group.launch([program], {"ALL": "a b"})
    group.start("one")
    until(lambda: "OWN" in tail(group.log("one"), 5))
    assert "{'LEAKED': None, 'ALL': 'a b', 'OWN': '50%, mine'}" in tail(group.log("one"), 5)


def test_a_path_too_long_for_a_socket_works_as_well(tmp_path):
    group = Group(tmp_path / ("a" * 120) / "50% off")
    group.launch([Program("one", SLEEPER)], os.environ)
    try:
        assert list(group.seen()) == ["one"]
    finally:
        group.stop()
    assert not group.running()


def test_a_supervisor_that_cannot_start_says_why(group):
    with pytest.raises(RuntimeError, match=r"(?s)does not answer.*No closing quotation"):
        group.launch([Program("one", SLEEPER, environment={"BROKEN": '"'})], os.environ)
    assert group.processes() == []
