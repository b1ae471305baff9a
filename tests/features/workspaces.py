"""A workspace with features built and materialized, small enough to make anew per test file."""

from datetime import timedelta
from pathlib import Path

from infra.workspace import Workspace
from pipelines.build_features import build_features
from pipelines.materialize import materialize
from tests.features.small_lake import DAY, random_lake

NOW = DAY + timedelta(hours=6)
DAYS = [(DAY - timedelta(days=back)).date() for back in range(6)]
CATEGORIES = ("x", "y", "z", "never")


def built_workspace(home: Path | Workspace, *, online: bool = True) -> Workspace:
    workspace = Workspace(home, "small") if isinstance(home, Path) else home
    random_lake(workspace.lake)
    build_features(workspace, DAYS, engine="duckdb", until=NOW)
    if online:
        materialize(workspace, NOW)
    return workspace
