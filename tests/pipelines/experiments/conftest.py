"""One tiny world with its line, made once, for the experiments that train and serve."""

from collections.abc import Iterator

import pytest

from pipelines.experiments import e11
from pipelines.experiments.card import Setting
from pipelines.experiments.line import Line, trained_line


@pytest.fixture(scope="session")
def line() -> Iterator[Line]:
    with trained_line(Setting("trust", "tiny"), 0, preset=e11.PRESET) as made:
        yield made
