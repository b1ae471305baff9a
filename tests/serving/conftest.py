"""A shop of 60 items in a real bundle, with a real Feast store, a real log and the real app."""

import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from features.definitions import FEATURE_NAMES
from features.store import OnlineStore
from features.streaming import fold
from infra.clients import open_feast
from infra.event_log import SqliteEventLog
from infra.reports import write_json
from infra.settings import Settings
from infra.workspace import Workspace
from models import ranker
from models.bundle import Parts, point_to, publish, write
from serving.app import create_app
from tests.worlds import tiny_parts

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
LATER = NOW + timedelta(minutes=1)
POSITIVE = ("click", "purchase")


@dataclass(frozen=True)
class Shop:
    """One data set's workspace under a folder of the test's own."""

    settings: Settings

    @property
    def workspace(self) -> Workspace:
        return Workspace.of(self.settings)

    def with_settings(self, **changes: object) -> "Shop":
        return Shop(self.settings.model_copy(update=changes))

    def promote(self, parts: Parts | None = None) -> str:
        staging = self.workspace.training / "bundle"
        write(staging, parts or shop_parts())
        bundle_id = publish(staging, self.workspace.bundles)
        point_to(self.workspace.bundles, bundle_id)
        write_json(self.workspace.sample_users, [f"u{ix}" for ix in range(5)])
        return bundle_id

    def remember(self, user_id: str, items: Sequence[str], at: datetime = NOW) -> None:
        """What the stream worker would push after the user has chosen these, oldest first."""
        state = row = None
        for place, item_id in enumerate(items):
            happened = int(at.timestamp() * 1e6) - (len(items) - place) * 1_000_000
            event = {"event_id": str(place), "event_type": "click", "item_id": item_id}
            state, row = fold(state, event | {"session_id": None, "event_at": happened}, POSITIVE)
        assert row is not None
        OnlineStore(open_feast(self.workspace)).push("user_stream", {user_id: row})

    def logged(self, topic: str) -> list[dict]:
        log = SqliteEventLog(self.workspace.event_log, self.settings.partitions)
        found = [
            record.value
            for partition in range(log.partitions)
            for record in log.read(topic, partition, 0, 100_000)
        ]
        log.close()
        return found


def shop_parts(seed: int = 7) -> Parts:
    """The tiny bundle with a ranker that follows the towers, so that a choice moves the list."""
    rng = np.random.default_rng(seed)
    features = rng.uniform(-1, 1, (600, len(FEATURE_NAMES))).astype(np.float32)
    wanted = features[:, FEATURE_NAMES.index("retrieval_score")] > rng.uniform(0, 0.6, 600)
    rows = ranker.RankerSettings(trees=12, leaves=8, min_rows_in_leaf=10, feature_share=1.0)
    fitted = ranker.fit(features, wanted.astype(np.int8), np.full(30, 20), seed=1, settings=rows)
    return replace(tiny_parts(seed=seed), ranker=fitted)


@pytest.fixture(scope="session")
def furnished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with a promoted bundle and applied feature views, copied for every test."""
    home = tmp_path_factory.mktemp("furnished")
    furnish(Shop(settings_of(home)))
    return home


def furnish(shop: Shop) -> Shop:
    """Promote a bundle, apply the views, and let ann have chosen two items."""
    from pipelines.materialize import apply_views

    shop.promote()
    shop.workspace.offline.mkdir(parents=True)
    apply_views(open_feast(shop.workspace), shop.workspace.offline)
    shop.remember("ann", ["i5", "i3"])
    return shop


def settings_of(home: Path) -> Settings:
    return Settings(
        home=home,
        dataset="tiny",
        clock="simulated",
        clock_start=NOW,
        # Tests share two cores with each other: the budgets are tested where time is the subject.
        deadline_ms=1000,
        features_timeout_ms=1000,
    )


@pytest.fixture
def shop(furnished: Path, tmp_path: Path) -> Shop:
    home = tmp_path / "home"
    shutil.copytree(furnished, home)
    return Shop(settings_of(home))


@pytest.fixture
def empty_shop(tmp_path: Path) -> Shop:
    """Nothing promoted, no views applied."""
    return Shop(settings_of(tmp_path / "home"))


@contextmanager
def running(shop: Shop, *, wait: bool = True) -> Iterator[TestClient]:
    """The app with its background work, ready if `wait`."""
    with TestClient(create_app(shop.settings), base_url="http://localhost") as client:
        if wait:
            until(lambda: client.get("/readyz").status_code == 200)
        yield client


@pytest.fixture
def client(shop: Shop) -> Iterator[TestClient]:
    with running(shop) as client:
        yield client


def until(holds: Callable[[], bool], timeout_s: float = 60.0) -> None:
    """Wait for another thread or process; fails, with the condition, when it takes too long."""
    deadline = time.monotonic() + timeout_s
    while not holds():
        assert time.monotonic() < deadline, f"not within {timeout_s} s"
        time.sleep(0.02)


def runtime(client: TestClient):
    app = client.app
    assert isinstance(app, FastAPI)
    return app.state.runtime
