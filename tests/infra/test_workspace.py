from pathlib import Path

import pytest
from pydantic import ValidationError

from infra.settings import Settings
from infra.workspace import Workspace


def test_all_state_of_a_data_set_lies_below_home(monkeypatch, tmp_path):
    monkeypatch.setenv("SHORTLIST_HOME", str(tmp_path))
    workspace = Workspace.of(Settings(dataset="shop"))
    places = [
        getattr(workspace, name)
        for name in dir(Workspace)
        if not name.startswith("_") and name != "of"
    ]
    paths = [place for place in places if isinstance(place, Path)]
    assert len(paths) > 10
    assert all(path.is_relative_to(tmp_path) for path in paths)
    assert workspace.tracking_uri == f"sqlite:///{tmp_path}/mlflow.db"


@pytest.mark.parametrize("name", ["", "../up", "a/b", "Shop", "x" * 65, ".hidden"])
def test_a_name_that_could_leave_home_is_refused(name):
    with pytest.raises(ValidationError, match="dataset"):
        Settings(dataset=name)


def test_servers_listen_on_loopback_unless_told_otherwise(monkeypatch):
    assert Settings().host == "127.0.0.1"
    monkeypatch.setenv("SHORTLIST_HOST", "0.0.0.0")
    assert Settings().host == "0.0.0.0"


def test_a_wrong_setting_is_named(monkeypatch):
    monkeypatch.setenv("SHORTLIST_PORT", "99999")
    with pytest.raises(ValidationError, match="port"):
        Settings()


def test_a_child_process_reads_the_same_settings(monkeypatch, tmp_path):
    mine = Settings(home=tmp_path, dataset="shop", mode="services", metrics_port=9103, spool_mb=7)
    for name, value in mine.environment().items():
        monkeypatch.setenv(name, value)
    assert Settings() == mine
