"""What the serving image holds is enough for every process that runs from it."""

import os
import subprocess
import sys

import pytest
import yaml

from infra.settings import PROJECT

COMPOSE = yaml.safe_load((PROJECT / "docker-compose.yml").read_text())

WITHOUT = '''
import importlib.metadata, importlib.util, re, sys
names = lambda path: set(re.findall(r"^([a-z0-9][a-z0-9._-]*)==", open(path).read(), re.M))
trained_only = names("requirements/training.txt") - names("requirements/serving.txt") | {"torch"}
blocked = {
    module
    for module, packages in importlib.metadata.packages_distributions().items()
    if packages and {re.sub("[-_.]+", "-", p).lower() for p in packages} <= trained_only
}
assert {"torch", "pyspark", "mlflow", "duckdb"} <= blocked, blocked

class Without:
    """A module that is not installed is found by nobody."""

    def __init__(self, finder):
        self.finder = finder

    def find_spec(self, name, path=None, target=None):
        return None if name.partition(".")[0] in blocked else self.finder.find_spec(name, path, target)

sys.meta_path[:] = [Without(finder) for finder in sys.meta_path]
exec(sys.argv[1])
'''

OPEN_FEAST = """
import pathlib
from infra.clients import open_feast
from infra.workspace import Services, Workspace
workspace = Workspace(pathlib.Path(sys.argv[2]), "small", Services("absent:1", "absent:1", "absent:1"))
open_feast(workspace)
lock = workspace.feast / "registry.lock"
lock.unlink()
open_feast(workspace)
assert not lock.exists(), "a registry that is there was opened for writing"
"""


def online_modules():
    """The Python modules that containers of the serving image start."""
    for service in COMPOSE["services"].values():
        if service.get("image") == "shortlist-serving":
            command = service.get("command", ["uvicorn", "serving.app:create_app"])
            at = 2 if command[0] == "python" else 1
            yield command[at].partition(":")[0]


@pytest.mark.parametrize("module", sorted(online_modules()))
def test_online_processes_start_without_what_only_training_installs(module):
    run_without_training(f"import {module}")


def test_a_reader_opens_features_without_duckdb_and_writes_nothing(tmp_path):
    """The API's volume of features is mounted read-only."""
    run_without_training(OPEN_FEAST, str(tmp_path))


def run_without_training(*arguments):
    told = subprocess.run(
        [sys.executable, "-c", WITHOUT, *arguments], cwd=PROJECT, capture_output=True, text=True,
        env={**os.environ, "PYTHONPATH": str(PROJECT)}, timeout=120,
    )  # fmt: skip
    assert told.returncode == 0, told.stderr[-2000:]
