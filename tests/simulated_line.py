"""The line in one process under another wall clock; prints a digest of everything that it made.

    python -m tests.simulated_line HOME YEARS PORT

Random ids (a request's) come from a seed here: they are no time, and would hide one.
"""

import datetime as module
import hashlib
import importlib.abc
import importlib.machinery
import json
import random
import sys
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace

LOOKED_AT = ("/v1/users", "/v1/users/u000003", "/v1/items/i00003/similar", "/readyz")

OURS = ("features", "infra", "models", "monitoring", "pipelines", "serving")


class _Moved(type):
    """Stands for datetime or date: makes real ones, and only what it overrides is another."""

    def __call__(cls, *args, **more):
        return cls.real(*args, **more)

    def __getattr__(cls, name):
        return getattr(cls.real, name)

    def __instancecheck__(cls, value):
        return isinstance(value, cls.real)


def other_clock(shift: module.timedelta) -> Callable[[ModuleType], None]:
    """What moves the wall clock of a module on: whatever name it gave to it."""

    class Datetime(metaclass=_Moved):
        real = module.datetime
        now = staticmethod(lambda tz=None: module.datetime.now(tz) + shift)
        utcnow = staticmethod(lambda: module.datetime.utcnow() + shift)
        today = staticmethod(lambda: module.datetime.now() + shift)

    class Date(metaclass=_Moved):
        real = module.date
        today = staticmethod(lambda: module.date.today() + shift)

    seconds = shift.total_seconds()
    moved = {
        "time": lambda: time.time() + seconds,
        "time_ns": lambda: time.time_ns() + round(seconds * 1e9),
    }
    instead = {
        module.datetime: Datetime,
        module.date: Date,
        module: SimpleNamespace(**vars(module) | {"datetime": Datetime, "date": Date}),
        time: SimpleNamespace(**vars(time) | moved),
        time.time: moved["time"],
    }

    def move(ours: ModuleType) -> None:
        for name, value in list(vars(ours).items()):
            for real, other in instead.items():
                if value is real:
                    setattr(ours, name, other)

    return move


class WallClockOfOurs(importlib.abc.MetaPathFinder):
    """Every module of ours gets the other clock as soon as it is imported; libraries do not."""

    def __init__(self, years: int) -> None:
        self._move = other_clock(module.timedelta(days=365.25 * years))

    def find_spec(self, name, path, target=None):
        if name.split(".")[0] not in OURS:
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path)
        execute = spec.loader.exec_module

        def then_move(ours):
            execute(ours)
            self._move(ours)

        spec.loader.exec_module = then_move
        return spec


def of_folder(folder: Path) -> str:
    """sha256 of the files below, by name and bytes."""
    digest = hashlib.sha256()
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    assert files, folder
    for path in files:
        digest.update(path.relative_to(folder).as_posix().encode() + path.read_bytes())
    return digest.hexdigest()


def of_text(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def line(home: Path, port: int) -> dict[str, object]:
    from datetime import timedelta

    import httpx

    import infra.clock
    from infra.event_log import open_log
    from infra.settings import Settings
    from infra.workspace import Workspace
    from pipelines.bootstrap import fresh_world
    from pipelines.build_features import build_features
    from pipelines.days import feature_days, serve_from, split_of
    from pipelines.ingest import ingest_log
    from pipelines.materialize import materialize
    from pipelines.promote import promote, publish_popular
    from pipelines.world.generate import fingerprint
    from pipelines.world.visit import visit
    from tests.pipelines.oracle_words import columns_of, keys_of

    # Between two visits the API's clock runs by durations; here it stands.
    infra.clock.time = SimpleNamespace(monotonic=lambda: 0.0)
    ids = random.Random(1)
    uuid.uuid4 = lambda: uuid.UUID(int=ids.getrandbits(128), version=4)
    workspace = Workspace(home, "world")

    world, _ = fresh_world(workspace, "tiny", 3)
    told = {"log": fingerprint(world.history().events), "lake": of_folder(workspace.lake)}
    day = serve_from(split_of(workspace))
    build_features(workspace, feature_days(split_of(workspace)), "duckdb")
    told["offline"] = of_folder(workspace.offline)
    materialize(workspace, day)
    told["bundle"] = promote(workspace, publish_popular(workspace))["bundle"]
    told["bundle files"] = of_folder(workspace.bundles)

    settings = Settings(
        home=home, dataset="world", clock="simulated", clock_start=day, port=port,
        deadline_ms=1000, features_timeout_ms=1000, experiment="by-clock",
    )  # fmt: skip
    with served(settings) as address:
        slates = visit(world, address, day=day, requests=60, seed=5, workers=1)
        answers = [httpx.get(address + path, trust_env=False).json() for path in LOOKED_AT]
        asked = {"user_id": "u000003", "k": 5}
        posted = httpx.post(address + "/v1/recommendations", json=asked, trust_env=False)
    log = open_log(workspace, settings.partitions)
    told["what was logged"] = of_text(
        sorted(  # slates are logged behind the answer, so a click may come before its slate
            [topic, record.key, json.dumps(record.value, sort_keys=True)]
            for topic in ("events", "served")
            for part in range(log.partitions)
            for record in log.read(topic, part, 0, 100_000)
        )
    )
    ingest_log(workspace, log)
    told["lake of the day"] = of_folder(workspace.lake)
    days = feature_days(split_of(workspace), day + timedelta(days=1))
    build_features(workspace, days, "duckdb")
    told["offline of the day"] = of_folder(workspace.offline)
    told["names"] = sorted(keys_of([*answers, posted.json()]) | columns_of(workspace.root))
    return {**told, "slates": len(slates), "year": infra.clock.real_clock().year}


def served(settings):
    """The real app in a thread of this process, until the end of the block."""
    import threading
    from contextlib import contextmanager

    import httpx
    import uvicorn

    from serving.app import create_app

    @contextmanager
    def up():
        server = uvicorn.Server(
            uvicorn.Config(create_app(settings), port=settings.port, log_level="error")
        )
        thread = threading.Thread(target=server.run, daemon=True)
        thread.start()
        address = f"http://127.0.0.1:{settings.port}"
        for _ in range(600):
            try:
                if httpx.get(f"{address}/readyz", trust_env=False).status_code == 200:
                    break
            except httpx.HTTPError:
                pass
            time.sleep(0.1)
        yield address
        server.should_exit = True
        thread.join(30)

    return up()


if __name__ == "__main__":
    sys.meta_path.insert(0, WallClockOfOurs(int(sys.argv[2])))
    print(json.dumps(line(Path(sys.argv[1]), int(sys.argv[3]))))
