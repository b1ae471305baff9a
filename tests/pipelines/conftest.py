"""Two tiny data sets through the real line, once per test session."""

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from features.schema import DatasetInfo
from infra.workspace import Workspace
from models.split import Split
from tests.worlds import filled, purchases, slates


@dataclass(frozen=True)
class Trained:
    """A workspace whose towers and ranker are trained and whose bundle is staged."""

    workspace: Workspace
    split: Split
    ranker: dict[str, Any]  # what train_ranker returned


def trained(workspace: Workspace, split: Split) -> Trained:
    """Both trainers, the towers in a process of their own as `shortlist` runs them."""
    from pipelines.train_ranker import train_ranker

    command = [sys.executable, "-m", "pipelines.train_retrieval", "--dataset", workspace.name]
    subprocess.run(
        [*command, "--scale", "tiny", "--seed", "3"],
        env={**os.environ, "SHORTLIST_HOME": str(workspace.home), "OMP_NUM_THREADS": "1"},
        check=True,
        capture_output=True,
        timeout=120,
    )
    return Trained(workspace, split, train_ranker(workspace, split, "tiny", 3))


@pytest.fixture(scope="session")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """Purchases without slates; people buy the same again."""
    workspace = Workspace(Path(tmp_path_factory.mktemp("shop")), "shop")
    info = DatasetInfo("shop", positive_types=("purchase",))
    return trained(workspace, filled(workspace, purchases(), info))


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """Logged slates; nobody wants the same twice."""
    workspace = Workspace(Path(tmp_path_factory.mktemp("site")), "site")
    info = DatasetInfo("site", seen_filter=True, has_impressions=True)
    return trained(workspace, filled(workspace, slates(), info))
