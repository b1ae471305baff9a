"""One tiny world with its first bundle, made once; every test gets twins of its own."""

from pathlib import Path

import pytest

from pipelines.loop.one_world import made
from pipelines.loop.plan import Plan


@pytest.fixture(scope="session")
def plan() -> Plan:
    return Plan(2, ("popular", "full", "oracle"), "never", ("trust",), (0,), "tiny")


@pytest.fixture(scope="session")
def seedling(tmp_path_factory: pytest.TempPathFactory, plan: Plan) -> Path:
    return made(tmp_path_factory.mktemp("loop") / "world", plan, "trust", 0)
