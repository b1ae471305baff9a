import os
import subprocess
import sys

import pytest

from features.errors import ContractError
from infra.settings import Settings
from pipelines.local.places import (
    as_started,
    environment_of_parts,
    folder_of,
    listeners,
    write_env_file,
)


def test_every_port_is_a_different_one_and_a_setting_moves_it(tmp_path):
    usual = listeners(Settings(home=tmp_path))
    moved = listeners(
        Settings(
            home=tmp_path, port=18000, kafka="127.0.0.1:19092", redis="127.0.0.1:16379",
            mlflow="http://127.0.0.1:15000", metrics_port=19101,
        )
    )  # fmt: skip
    assert {name: found.port for name, found in moved.items()} == {
        "kafka": 19092, "controller": 19093, "redis": 16379, "mlflow": 15000,
        "api": 18000, "stream": 19101, "relay": 19102, "monitor": 19103,
    }  # fmt: skip
    assert not {found.port for found in usual.values()} & {found.port for found in moved.values()}


def test_two_parts_on_one_port_are_named_with_their_settings(tmp_path):
    with pytest.raises(ContractError) as told:
        listeners(Settings(home=tmp_path, kafka="127.0.0.1:8000"))
    assert "Kafka and the API both want port 8000" in str(told.value)
    assert "SHORTLIST_KAFKA" in str(told.value)
    assert "SHORTLIST_PORT" in str(told.value)


@pytest.mark.parametrize("address", ["10.0.0.7:6379", "redis", "127.0.0.1"])
def test_somebody_elses_server_is_not_started_here(address, tmp_path):
    with pytest.raises(ContractError, match=f"SHORTLIST_REDIS is '{address}'.*127.0.0.1"):
        listeners(Settings(home=tmp_path, redis=address))


def test_the_stack_keeps_out_of_the_demos_files(tmp_path):
    parts = environment_of_parts(Settings(home=tmp_path), "tiny")
    assert parts["SHORTLIST_HOME"] == str(tmp_path / "services")
    assert parts["SHORTLIST_SPOOL"].startswith(str(tmp_path / "services"))
    assert parts["SHORTLIST_MODE"] == "services"


def test_what_was_said_to_other_servers_does_not_reach_the_parts(tmp_path, monkeypatch):
    monkeypatch.setenv("SHORTLIST_REDIS_PASSWORD_FILE", "/elsewhere")
    monkeypatch.setenv("SHORTLIST_CLOCK_START", "2026-01-01T00:00:00Z")
    monkeypatch.setenv("SHORTLIST_DEADLINE_MS", "200")
    parts = environment_of_parts(Settings(home=tmp_path), "tiny")
    assert "SHORTLIST_REDIS_PASSWORD_FILE" not in parts
    assert "SHORTLIST_CLOCK_START" not in parts
    assert parts["SHORTLIST_DEADLINE_MS"] == "200"


def test_status_finds_the_ports_that_up_was_given(tmp_path, monkeypatch):
    write_env_file(Settings(home=tmp_path, port=18000, metrics_port=19101))
    monkeypatch.setenv("SHORTLIST_PORT", "17000")
    found = as_started(Settings(home=tmp_path))
    assert (found.port, found.metrics_port, found.mode) == (18000, 19101, "services")
    assert folder_of(found) == folder_of(Settings(home=tmp_path))


def test_the_written_file_leads_a_shells_commands_to_the_stack(tmp_path):
    home = tmp_path / "a b $HOME"
    path = write_env_file(Settings(home=home))
    told = subprocess.run(
        ["sh", "-c", 'set -a; . "$1"; "$2" -c "$3"', "sh", path, sys.executable,
         "from infra.settings import Settings; s = Settings(); print(s.mode, s.home, sep='|')"],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert told.stdout.strip() == f"services|{home / 'services'}"
