"""Opening Feast: without torch, in WAL mode, with a registry that is never half written."""

import sqlite3
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from features.definitions import VIEWS
from infra.clients import FeatureStore, RenamingRegistryStore, open_feast
from infra.workspace import Workspace
from pipelines.materialize import apply_views

VIEWS_STORED = sum(view.source != "request" for view in VIEWS.values())


def test_opening_feast_loads_no_training_library(tmp_path):
    code = (
        "import sys; from pathlib import Path; from infra.clients import open_feast\n"
        "from infra.workspace import Workspace\n"
        f"open_feast(Workspace(Path({str(tmp_path)!r}), 'small'))\n"
        "heavy = {'torch', 'pyspark', 'mlflow', 'evidently'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert ran.returncode == 0, ran.stderr[-2000:]
    assert "serve_features_while_materializing" not in ran.stderr


def test_the_online_store_is_in_wal_mode(tmp_path):
    workspace = Workspace(tmp_path, "small")
    open_feast(workspace)
    with sqlite3.connect(workspace.feast / "online.sqlite") as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_views_serve_while_they_are_materialized(tmp_path):
    config = open_feast(Workspace(tmp_path, "small")).config
    assert config.registry.serve_features_while_materializing
    assert config.materialization_config.pull_latest_features
    assert config.offline_store.type == "duckdb"


@pytest.mark.parametrize("spoiled", [b"\xff\x00noise" * 99, None], ids=["noise", "half"])
def test_a_spoiled_registry_is_set_aside_and_made_anew(tmp_path, spoiled, caplog):
    workspace = Workspace(tmp_path, "small")
    apply_views(open_feast(workspace), workspace.offline)
    path = workspace.feast / "registry.db"
    whole = path.read_bytes()
    path.write_bytes(spoiled or whole[: len(whole) // 2])
    store = open_feast(workspace)
    assert store.list_feature_views() == []
    assert "moved to registry.db.broken, and made anew" in caplog.text
    assert (workspace.feast / "registry.db.broken").exists()
    apply_views(store, workspace.offline)
    assert len(open_feast(workspace).list_feature_views()) == VIEWS_STORED


def test_a_crash_while_writing_the_registry_leaves_the_old_one(tmp_path, monkeypatch):
    workspace = Workspace(tmp_path, "small")
    store = open_feast(workspace)
    apply_views(store, workspace.offline)
    assert isinstance(store.registry._registry_store, RenamingRegistryStore)
    path = workspace.feast / "registry.db"
    before = path.read_bytes()

    def crash(_part: Path, _target: Path) -> None:
        raise KeyboardInterrupt  # after the new content was written, before it took its place

    with monkeypatch.context() as patched:
        patched.setattr("infra.clients.os.replace", crash)
        with pytest.raises(KeyboardInterrupt):
            apply_views(store, workspace.offline / "elsewhere")
    assert path.read_bytes() == before
    assert len(open_feast(workspace).list_feature_views()) == VIEWS_STORED


def test_a_registry_is_never_emptied_by_a_slower_process(tmp_path, monkeypatch):
    workspace = Workspace(tmp_path, "small")
    entered, go_on = threading.Event(), threading.Event()
    create = RenamingRegistryStore._write_registry

    def slowly(self, proto):
        if not entered.is_set():
            entered.set()
            go_on.wait(10)
        create(self, proto)

    monkeypatch.setattr(RenamingRegistryStore, "_write_registry", slowly)
    slow = threading.Thread(target=open_feast, args=(workspace,))
    slow.start()  # found no registry, and is about to write an empty one
    entered.wait(10)
    fast = threading.Thread(target=lambda: apply_views(open_feast(workspace), workspace.offline))
    fast.start()
    fast.join(0.5)
    go_on.set()
    slow.join(10)
    fast.join(10)
    assert len(open_feast(workspace).list_feature_views()) == VIEWS_STORED


def test_two_who_apply_the_views_at_once_wait_for_each_other(tmp_path, monkeypatch):
    """The stream worker, a recount, a materialize: each starts where no view was ever made."""
    workspace = Workspace(tmp_path, "small")
    stores = [open_feast(workspace) for _ in range(3)]
    apply, inside, most = FeatureStore.apply, [], []

    def watched(self, *arguments, **options):
        inside.append(self)
        most.append(len(inside))
        time.sleep(0.1)
        apply(self, *arguments, **options)
        inside.remove(self)

    monkeypatch.setattr(FeatureStore, "apply", watched)
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(lambda store: apply_views(store, workspace.offline), stores))
    assert most == [1, 1, 1]
    assert len(open_feast(workspace).list_feature_views()) == VIEWS_STORED
