"""What the serving image holds is enough for every process that runs from it."""

import os
import re
import subprocess
import sys

import pytest
import yaml

from infra.settings import PROJECT

COMPOSE = yaml.safe_load((PROJECT / "docker-compose.yml").read_text())

WITHOUT = """
import importlib.metadata, importlib.util, re, sys
names = lambda path: set(re.findall(r"^([a-z0-9][a-z0-9._-]*)==", open(path).read(), re.M))
trained_only = names("requirements/training.txt") - names("requirements/serving.txt") | {"torch"}
blocked = {
    module
    for module, packages in importlib.metadata.packages_distributions().items()
    if packages and {re.sub("[-_.]+", "-", p).lower() for p in packages} <= trained_only
}
assert {"torch", "pyspark", "mlflow", "duckdb"} <= blocked, blocked

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in blocked:
            raise ModuleNotFoundError(f"No module named '{name}'", name=name)

sys.meta_path.insert(0, Absent())
importlib.import_module(sys.argv[1])
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
    told = subprocess.run(
        [sys.executable, "-c", WITHOUT, module], cwd=PROJECT, capture_output=True, text=True,
        env={**os.environ, "PYTHONPATH": str(PROJECT)}, timeout=120,
    )  # fmt: skip
    assert told.returncode == 0, re.sub(r"(?s).*\n(?=\S*Error)", "", told.stderr)
