"""Opens Feast: registry, offline and online store of one workspace.

Feast is configured here in code and nowhere else. What differs from its defaults, and why:

- `import feast` imports torch where torch is installed: seconds and hundreds of megabytes in every
  process that reads a feature. A stand-in takes the place of its wrapper module; nothing here
  calls it.
- The registry file is written by rename. Feast truncates and rewrites it, and re-reads it whenever
  its time changes, so a reader could see half a registry, or an empty one without any view.
- SQLite runs in WAL mode, so that readers do not wait for a materialize.
- Views keep serving while they are being materialized, and a materialize writes each entity's
  latest row only, in short transactions, so that the stream worker is never kept waiting.
"""

import logging
import os
import sqlite3
import sys
import types
import warnings
from contextlib import closing
from pathlib import Path
from typing import Any

from infra.workspace import Workspace

_stand_in = types.ModuleType("feast.torch_wrapper")
_stand_in.get_torch = None  # type: ignore[attr-defined]  # a module made here has what we give it
sys.modules.setdefault("feast.torch_wrapper", _stand_in)

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # its dependencies warn about each other on import
    from feast import FeatureStore, RepoConfig
    from feast.infra.registry.file import FileRegistryStore

PROJECT = "shortlist"
"""Feast's own namespace; each workspace has its own registry, so one name does."""

BUSY_TIMEOUT_S = 5.0
"""How long a writer waits for another process's transaction."""

ROWS_PER_TRANSACTION = 500
"""A materialize holds the write lock for this many rows, then lets the stream worker in."""


class RenamingRegistryStore(FileRegistryStore):
    """Feast's registry file, replaced whole: a reader sees the old registry or the new one."""

    _filepath: Path

    def _write_registry(self, registry_proto: Any) -> None:
        target = self._filepath
        self._filepath = target.with_name(f".{target.name}.{os.getpid()}")
        try:
            super()._write_registry(registry_proto)
            os.replace(self._filepath, target)
        finally:
            self._filepath = target


def open_feast(workspace: Workspace) -> FeatureStore:
    """Open the workspace's Feast store; makes folder, registry and online store when missing.

    The views are not applied here (infra knows no features): pipelines/materialize.py does that.
    """
    # It warns that serving while materializing does nothing for a file registry; it does.
    logging.getLogger("feast.repo_config").setLevel(logging.ERROR)
    logging.getLogger("feast").setLevel(logging.WARNING)  # else a line per refreshed registry
    workspace.feast.mkdir(parents=True, exist_ok=True)
    online = workspace.feast / "online.sqlite"
    with closing(sqlite3.connect(online, timeout=BUSY_TIMEOUT_S)) as connection:
        connection.execute("PRAGMA journal_mode=WAL")  # a property of the file: it stays
        # Who finds no registry writes an empty one: behind the lock, so that of two processes the
        # slower cannot wipe out the views that the faster has applied meanwhile.
        connection.execute("BEGIN IMMEDIATE")
        store = FeatureStore(config=_config(workspace, str(online)))
        assert store.registry is not None  # it is made when first asked for
    # In WAL mode a crash of the process loses nothing; what a power cut loses is pushed again.
    store._get_provider().online_store._get_conn(store.config).execute("PRAGMA synchronous=NORMAL")
    return store


def _config(workspace: Workspace, online: str) -> RepoConfig:
    return RepoConfig(
        project=PROJECT,
        provider="local",
        repo_path=workspace.feast,
        registry={
            "path": str(workspace.feast / "registry.db"),
            "registry_store_type": f"{__name__}.{RenamingRegistryStore.__name__}",
            "cache_ttl_seconds": 0,  # never by age; a change of the file is seen by its time
            "serve_features_while_materializing": True,
        },
        offline_store={"type": "duckdb"},
        online_store={"type": "sqlite", "path": online},
        materialization={
            "pull_latest_features": True,  # DuckDB picks them; else pandas sorts the whole range
            "online_write_batch_size": ROWS_PER_TRANSACTION,
        },
        entity_key_serialization_version=3,
    )
