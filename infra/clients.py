"""Opens Feast: registry, offline and online store of one workspace.

Feast is configured here in code and nowhere else. What differs from its defaults, and why:

- `import feast` imports torch where torch is installed: seconds and hundreds of megabytes in every
  process that reads a feature. A stand-in takes the place of its wrapper module; nothing here
  calls it.
- The registry file is written by rename. Feast truncates and rewrites it, and re-reads it whenever
  its time changes, so a reader could see half a registry, or an empty one without any view.
- The online store is a file of the workspace, or Redis (infra/redis_store.py), where each data set
  is a project of its own. SQLite runs in WAL mode, so that readers do not wait for a materialize.
- The Redis store writes what it is told. Feast would compare times first, in two steps that race,
  and drop a row whose time is equal: a day computed again would never arrive. What must not be
  overwritten carries a version, which is compared in the same step as it is written.
- Views keep serving while they are being materialized, and a materialize writes each entity's
  latest row only, in short transactions, so that the stream worker is never kept waiting.
"""

import fcntl
import logging
import os
import re
import sqlite3
import sys
import types
import uuid
import warnings
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import datetime
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from typing import Any

from infra.workspace import Workspace

_stand_in = types.ModuleType("feast.torch_wrapper")
_stand_in.get_torch = None  # type: ignore[attr-defined]  # a module made here has what we give it
sys.modules.setdefault("feast.torch_wrapper", _stand_in)

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # its dependencies warn about each other on import
    from feast import FeatureStore, RepoConfig
    from feast.infra.key_encoding_utils import deserialize_entity_key
    from feast.infra.online_stores.helpers import _mmh3, _redis_key
    from feast.infra.registry.file import FileRegistryStore
    from feast.protos.feast.core.Registry_pb2 import Registry
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]  # ships no types
    from google.protobuf.timestamp_pb2 import Timestamp  # type: ignore[import-untyped]  # nor this

log = logging.getLogger(__name__)

PROJECT = "shortlist"
"""Feast's own namespace; where each workspace has its own files, one name does."""

REGISTRY = "registry.db"

OFFLINE = "duckdb" if find_spec("duckdb") else "dask"
"""DuckDB joins training sets. Who only reads and pushes online rows needs it as little as torch; Feast
wants the name of an offline store all the same, and its own default is always there."""

WRITE_TIMEOUT_S = 5.0
"""Limit of one call to Redis for who may wait: materialize, pushes. Readers name their own."""

BUSY_TIMEOUT_S = 5.0
"""How long a writer waits for another process's transaction."""

ROWS_PER_TRANSACTION = 500
"""A materialize holds the write lock for this many rows, then lets the stream worker in."""


KEY_FORMAT = 3
"""How Feast writes an entity's key as bytes."""


VersionedRow = tuple[Any, int, datetime, dict[str, Any]]
"""Entity key, version, the moment the values hold, value by feature name; keys and values protobufs."""

Asked = tuple[Any, Sequence[Any], list[str] | None]
"""Feast's view, entity keys (protobufs), names of features; None = all."""

StoredRow = tuple[datetime | None, dict[str, Any] | None]
"""The moment the values hold, value by feature name, as Feast tells them."""


class RenamingRegistryStore(FileRegistryStore):
    """Feast's registry file, replaced whole: a reader sees the old registry or the new one."""

    _filepath: Path

    def _write_registry(self, registry_proto: Any) -> None:
        target = self._filepath
        self._filepath = target.with_name(f".{target.name}.{uuid.uuid4().hex}")
        try:
            super()._write_registry(registry_proto)
            os.replace(self._filepath, target)
        finally:
            self._filepath = target


class OpenedStore(FeatureStore):
    """Feast's store, and what its online backend needs beside it."""

    @property
    def away(self) -> tuple[type[Exception], ...]:
        """What reads and writes raise when the online store does not answer."""
        raise NotImplementedError

    def read_many(self, asked: Sequence[Asked]) -> list[list[StoredRow]]:
        """Rows of several views, in the order of the keys of each; one round trip where that is one.

        Args:
            asked: view, entity keys, names of features; None = all of the view.
        """
        provider = self._get_provider()
        return [provider.online_read(self.config, *one) for one in asked]

    def write_newer(self, view: Any, rows: Sequence[VersionedRow], version: str) -> int:
        """Write those rows that are newer than what is stored; how many those were.

        Args:
            view: Feast's feature view.
            rows: of different entities; `version` is among their values.
            version: name of the feature that holds it.
        """
        raise NotImplementedError

    def apply(self, *arguments: Any, **options: Any) -> None:
        """As Feast's, one process at a time.

        It reads the registry and writes all of it anew: of two at once the slower would leave out
        what the faster has put in.
        """
        with _folder_lock(self.config.repo_path):
            super().apply(*arguments, **options)


class SqliteBacked(OpenedStore):
    """Online rows in a file of the workspace."""

    @property
    def away(self) -> tuple[type[Exception], ...]:
        """The file is locked for too long, gone, or the disk is full."""
        return (sqlite3.OperationalError,)

    def write_newer(self, view: Any, rows: Sequence[VersionedRow], version: str) -> int:
        """As above; the file's write lock is held from the first read to the last write."""
        written = 0
        for start in range(0, len(rows), ROWS_PER_TRANSACTION):
            some = rows[start : start + ROWS_PER_TRANSACTION]
            with self.alone():
                keys = [entity for entity, *_ in some]
                found = self._get_provider().online_read(self.config, view, keys, [version])
                data = [
                    (entity, values, as_of, None)
                    for (entity, mine, as_of, values), (_, stored) in zip(some, found, strict=True)
                    if not stored or stored[version].int64_val < mine
                ]
                if data:
                    self._get_provider().online_write_batch(self.config, view, data, None)
                written += len(data)
        return written

    @contextmanager
    def alone(self) -> Iterator[None]:
        """SQLite's own write lock; Feast's write commits inside and releases it."""
        connection = self._get_provider().online_store._get_conn(self.config)
        connection.execute("BEGIN IMMEDIATE")
        try:
            yield
        finally:
            if connection.in_transaction:
                connection.rollback()


class RedisBacked(OpenedStore):
    """Online rows in Redis. The client is imported late: the embedded mode needs none."""

    @property
    def away(self) -> tuple[type[Exception], ...]:
        """Redis' errors."""
        from infra.redis_store import AWAY

        return AWAY

    def read_many(self, asked: Sequence[Asked]) -> list[list[StoredRow]]:
        """As above, all in one pipeline; Feast would wait for one view before it asks for the next."""
        rows = self._get_provider().online_store
        commands, parts = [], []
        for view, entities, some in asked:
            names, fields = rows._generate_hset_keys_for_features(view, some)
            keys = rows._generate_redis_keys_for_entities(self.config, entities)
            commands += [(key, fields) for key in keys]
            parts.append((view.name, names, len(keys)))
        replies = iter(rows._read_hash_fields(self.config, commands))
        return [
            rows._convert_redis_values_to_protobuf(list(islice(replies, count)), name, names)
            for name, names, count in parts
        ]

    def write_newer(self, view: Any, rows: Sequence[VersionedRow], version: str) -> int:
        """As above, in Feast's own layout; each row is compared and written in one step."""
        from infra.redis_store import write_newer

        names = rows[0][-1] if rows else ()
        fields = {name: _mmh3(f"{view.name}:{name}") for name in names}
        stamped = f"_ts:{view.name}".encode()
        hashes = [
            (
                _redis_key(self.config.project, entity, KEY_FORMAT),
                mine,
                {fields[name]: value.SerializeToString() for name, value in values.items()}
                | {stamped: _timestamp(as_of)},
            )
            for entity, mine, as_of, values in rows
        ]
        client = self._get_provider().online_store._client
        return write_newer(client, _mmh3(f"{view.name}:{version}"), hashes)


def _timestamp(moment: datetime) -> bytes:
    found = Timestamp()
    found.FromDatetime(moment)
    return found.SerializeToString()


def open_feast(workspace: Workspace, timeout_s: float = WRITE_TIMEOUT_S) -> OpenedStore:
    """Open the workspace's Feast store; makes folder, registry and online store when missing.

    The views are not applied here (infra knows no features): pipelines/materialize.py does that.
    Redis is not asked for anything: opening it while it is away works, and so do reads, once it is
    back.

    Args:
        workspace: where its files are, and where Redis listens.
        timeout_s: mode services: limit of one call to Redis.
    """
    # It warns that serving while materializing does nothing for a file registry; it does.
    logging.getLogger("feast.repo_config").setLevel(logging.ERROR)
    logging.getLogger("feast").setLevel(logging.WARNING)  # else a line per refreshed registry
    workspace.feast.mkdir(parents=True, exist_ok=True)
    if workspace.services is None:
        return _on_sqlite(workspace)
    from infra.redis_store import connect

    store = _opened(RedisBacked, workspace, project_of(workspace), _redis_rows(workspace))
    store._get_provider().online_store._client = connect(workspace.services, timeout_s)
    return store


def decoded_key(key: bytes) -> dict[str, str]:
    """Entity -> id, of a key as both online stores keep it."""
    found = deserialize_entity_key(key, KEY_FORMAT)
    return {
        name: value.string_val
        for name, value in zip(found.join_keys, found.entity_values, strict=True)
    }


def clear_online(workspace: Workspace) -> None:
    """Forget every online row of this data set; a reader meets unknown users, and no error."""
    workspace.online_mark.unlink(missing_ok=True)
    if workspace.services is None:
        workspace.feast.mkdir(parents=True, exist_ok=True)
        with closing(sqlite3.connect(workspace.feast / "online.sqlite")) as connection, connection:
            named = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
            for (table,) in named.fetchall():
                connection.execute(f'DELETE FROM "{table}"')
        return
    from infra.redis_store import clear, connect

    clear(connect(workspace.services, WRITE_TIMEOUT_S), project_of(workspace))


def project_of(workspace: Workspace) -> str:
    """The namespace of one data set in a Redis that others share; no two names make the same.

    Examples:
        >>> project_of(Workspace(Path("var"), "ml-100k"))
        'shortlist_ml_2d100k'
    """
    return f"{PROJECT}_" + re.sub("[^a-z0-9]", lambda c: f"_{ord(c[0]):02x}", workspace.name)


def _on_sqlite(workspace: Workspace) -> OpenedStore:
    online = workspace.feast / "online.sqlite"
    # A property of the file, so it stays; SQLite's own waiting does not cover its change.
    with (
        _folder_lock(workspace.feast),
        closing(sqlite3.connect(online, timeout=BUSY_TIMEOUT_S)) as connection,
    ):
        connection.execute("PRAGMA journal_mode=WAL")
    rows = {"type": "sqlite", "path": str(online)}
    store = _opened(SqliteBacked, workspace, PROJECT, rows)
    # In WAL mode a crash of the process loses nothing; what a power cut loses is pushed again.
    store._get_provider().online_store._get_conn(store.config).execute("PRAGMA synchronous=NORMAL")
    return store


def _redis_rows(workspace: Workspace) -> dict[str, Any]:
    assert workspace.services is not None
    return {"type": "redis", "connection_string": workspace.services.redis, "skip_dedup": True}


def _opened(
    kind: type[OpenedStore], workspace: Workspace, project: str, online: dict[str, Any]
) -> OpenedStore:
    # Opening a registry that is there writes nothing: a reader may be one that cannot write here.
    if _is_whole(workspace.feast / REGISTRY):
        return kind(config=_config(workspace, project, online))
    # Who finds none writes an empty one: behind a lock, so that of two processes the slower cannot
    # wipe out the views that the faster has applied meanwhile.
    with _folder_lock(workspace.feast):
        _set_aside(workspace.feast / REGISTRY)
        store = kind(config=_config(workspace, project, online))
        assert store.registry is not None  # it is made when first asked for
    return store


def _is_whole(registry: Path) -> bool:
    """Whether there is a registry that can be read."""
    try:
        Registry.FromString(registry.read_bytes())
    except (FileNotFoundError, DecodeError):
        return False
    return True


def _set_aside(registry: Path) -> None:
    """Move a registry that cannot be read out of the way: the views in it are made from the code."""
    if registry.exists() and not _is_whole(registry):
        aside = registry.with_name(f"{registry.name}.broken")
        log.error("%s cannot be read: moved to %s, and made anew", registry.name, aside.name)
        os.replace(registry, aside)


@contextmanager
def _folder_lock(folder: Path) -> Iterator[None]:
    """Hold the lock of those who make or change what Feast keeps in its folder."""
    with (folder / "registry.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _config(workspace: Workspace, project: str, online: dict[str, Any]) -> RepoConfig:
    return RepoConfig(
        project=project,
        provider="local",
        repo_path=workspace.feast,
        registry={
            "path": str(workspace.feast / REGISTRY),
            "registry_store_type": f"{__name__}.{RenamingRegistryStore.__name__}",
            "cache_ttl_seconds": 0,  # never by age; a change of the file is seen by its time
            "serve_features_while_materializing": True,
        },
        offline_store={"type": OFFLINE},
        online_store=online,
        materialization={
            "pull_latest_features": True,  # DuckDB picks them; else pandas sorts the whole range
            "online_write_batch_size": ROWS_PER_TRANSACTION,
        },
        entity_key_serialization_version=KEY_FORMAT,
    )
