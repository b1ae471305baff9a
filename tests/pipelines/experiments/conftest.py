"""One tiny world with its line, made once, for the experiments that train and serve."""

from collections.abc import Iterator

import pytest

from pipelines.experiments import e11
from pipelines.experiments.card import Setting
from pipelines.experiments.line import Line, trained_line
from pipelines.ranker_rows import Rows


@pytest.fixture(scope="session")
def line() -> Iterator[Line]:
    with trained_line(Setting("trust", "tiny"), 0, preset=e11.PRESET, slates_a_day=500) as made:
        yield made


@pytest.fixture(scope="session")
def teaching(line: Line) -> Rows:
    """What its ranker learns from."""
    return line.teaching()
