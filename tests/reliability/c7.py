"""C7: the machine's clock jumps a day ahead and a day back; summer time; leap seconds.

The API runs on a machine's clock that this drill sets while it works, and the stream worker folds
what the API accepts. What serving reads must have no negative age and lose no row, and no event may
fall out of a window. (libfaketime 0.9.10 would set the clock of whole processes, but under it Python
3.11's `time.sleep` fails when the monotonic clock is left alone, as it must be.)
"""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from unittest.mock import patch

import httpx
import pyarrow.parquet as pq

from features.definitions import BATCH_VIEWS, USER_VIEWS
from features.store import OnlineStore
from infra.clients import open_feast
from infra.clock import Clock, SteadyClock
from infra.event_log import SqliteEventLog
from infra.workspace import Workspace
from pipelines.build_features import build_features
from pipelines.dead_letters import letters
from pipelines.materialize import materialize
from pipelines.recount import recount
from tests.features.small_lake import DAY, POSITIVE, event, item, random_lake, user, write_lake
from tests.pipelines.stream_kit import PARTITIONS, click, running, worked_off
from tests.reliability.api import api, asking, told
from tests.serving.conftest import NOW, Shop, furnish, settings_of

EXPECTED = {
    "errors_5xx": ("==", 0),
    "unanswered": ("==", 0),
    "rung_max": ("==", 0),
    "negative_ages": ("==", 0),
    "expired_rows": ("==", 0),
    "late_events": ("==", 0),
    "lost_from_windows": ("==", 0),
    "wrong_rows": ("==", 0),
    "summer_time_wrong": ("==", 0),
    "leap_wrong": ("==", 0),
}

JUMPS_S = (0, 86_400, 0, -86_400, 0)
"""What is added to the true time, one after the other."""

PATIENT = {"deadline_ms": 1000, "features_timeout_ms": 400}
"""Of a request: ten times the usual deadline and slice. On a machine with more work than cores a request
falls to rung 1 now and then, with jumps and without; a jump would take days from any deadline."""

HOLD_S, HOLD_SHORT_S = 12.0, 1.0
RATE = 30.0
USERS, NEW_USERS = ([f"{kind}{number}" for number in range(7)] for kind in "uv")
"""Who has rows in every view and does nothing; who comes now and clicks."""

Believe = Callable[[Clock], Clock]

SUMMER_TIME = datetime(2026, 3, 29, tzinfo=UTC)
"""In Berlin this day has 23 hours."""


def run(folder: Path, seed: int, share: float = 1.0) -> dict:
    """See EXPECTED."""
    found = jumps(folder / "jumps", seed, HOLD_S if share == 1 else HOLD_SHORT_S)
    found["summer_time_wrong"] = summer_time_wrong(folder / "summer")
    found["leap_wrong"] = leap_wrong(folder / "leap")
    return found


class MachineClock:
    """Wall time that starts at NOW and can be set."""

    def __init__(self) -> None:
        self.ahead_s, self._since = 0, time.monotonic()

    def __call__(self) -> datetime:
        return NOW + timedelta(seconds=time.monotonic() - self._since + self.ahead_s)


def jumps(folder: Path, seed: int, hold_s: float, believe: Believe = SteadyClock) -> dict:
    """What clients and readers see while the clock jumps, and what the windows hold afterwards.

    Args:
        folder: of the shop.
        seed: of the clients.
        hold_s: how long each time stands.
        believe: makes the API's clock of the machine's; another one shows what it is good for.
    """
    shop, persons = _filled(folder), []
    wall = MachineClock()
    with (
        patch("serving.moment.real_clock", wall),
        patch("serving.moment.SteadyClock", believe),
        closing(SqliteEventLog(shop.workspace.event_log, PARTITIONS)) as log,
        running(shop.workspace, log) as failed,
    ):
        with (
            api(shop, own_process=False) as address,
            asking(address, NEW_USERS, seed, RATE) as client,
        ):
            for wall.ahead_s in JUMPS_S:
                until = time.monotonic() + hold_s
                while time.monotonic() < until:
                    persons += _persons(address)
        found = recount(shop.workspace, log, POSITIVE, wait_s=180, settle_s=60)
    assert not failed, failed
    ages = [age for person in persons for age in person["age_s"].values()]
    rows = OnlineStore(open_feast(shop.workspace)).read_stream(NEW_USERS)
    return {
        **told([client]),
        "clicks_accepted": len(client.accepted),
        "negative_ages": sum(age < 0 for age in ages),
        "expired_rows": sum(len(set(USER_VIEWS) & set(p["missing"])) for p in persons),
        "late_events": found["late"],
        "lost_from_windows": len(client.accepted) - sum(r["clicks_24h"] for r in rows.values()),
        "wrong_rows": found["wrong"] + found["missing"] + found["items_wrong"],
    }


def _filled(folder: Path) -> Shop:
    settings = settings_of(folder).model_copy(
        update={"clock": "real", "partitions": PARTITIONS, **PATIENT}
    )
    shop = furnish(Shop(settings))
    random_lake(shop.workspace.lake)
    build_features(shop.workspace, [DAY.date()], "duckdb", until=NOW)
    materialize(shop.workspace, NOW)
    return shop


def _persons(address: str) -> list[dict]:
    """Those who have rows in every view, as the API reads them now."""
    answers = [httpx.get(f"{address}/v1/users/{user_id}", timeout=30) for user_id in USERS]
    return [answer.json() for answer in answers if answer.status_code == 200]


def summer_time_wrong(folder: Path) -> int:
    """Features that depend on the machine's zone, or on the offset that a time is written with.

    Batch rows of a day with 23 hours are computed under two zones and compared, byte for byte but
    for when they were made; the stream folds the same moments written in two ways, around both
    changes of the clock.
    """
    homes = []
    for zone in ("UTC", "Europe/Berlin"):
        homes.append(folder / zone.replace("/", "-"))
        _write_spring(Workspace(homes[-1], "small").lake)
        command = [sys.executable, "-W", "ignore", "-m", "tests.reliability.c7", str(homes[-1])]
        subprocess.run(
            command, env={**os.environ, "TZ": zone}, check=True, capture_output=True, timeout=240
        )
    tables = [_offline(home) for home in homes]
    assert all(len(table) for table in tables[0])
    assert {row["as_of"].hour for row in tables[0][-1].to_pylist()} == set(range(24))
    wrong = sum(not one.equals(other) for one, other in zip(*tables, strict=True))
    folded = [_folded(folder / name, told) for name, told in (("utc", 0), ("local", 1))]
    return wrong + (folded[0] != folded[1]) + (folded[0]["clicks_24h"] != len(CHANGES))


def leap_wrong(folder: Path) -> int:
    """A 61st second is set aside with its reason, and stops nothing; 0 = so it is."""
    workspace = Workspace(folder, "small")
    leaps = ["2016-12-31T23:59:60Z", "2016-12-31T23:59:60.5+00:00", "2017-01-01T00:59:60+01:00"]
    records = [click(1), *(click(2 + n, event_at=at) for n, at in enumerate(leaps)), click(9)]
    with closing(SqliteEventLog(workspace.event_log, PARTITIONS)) as log:
        log.append("events", records)
        worked_off(workspace, log)
        told = [letter.reason for letter in letters(log)]
    row = OnlineStore(open_feast(workspace)).read_stream(["u"])["u"]
    refused = sum("expected ISO 8601" in reason for reason in told)
    return abs(refused - len(leaps)) + (row["history_items"] != ["i9", "i1"])


CHANGES = (
    ("2026-03-29T00:59:59+00:00", "2026-03-29T01:59:59+01:00"),
    ("2026-03-29T01:00:00+00:00", "2026-03-29T03:00:00+02:00"),
    ("2026-03-29T01:00:01+00:00", "2026-03-29T03:00:01+02:00"),
)
"""The same moments in UTC and as a watch in Berlin shows them; half past two does not exist."""


def _write_spring(lake: Path) -> None:
    """An event every ten minutes of four days around the change."""
    days_before = (DAY - SUMMER_TIME + timedelta(days=2)) / timedelta(days=1)
    events = [
        event(f"e{n}", days_before - n / 144, ["impression", "click", "purchase"][n % 3],
              user_id=f"u{n % 5}", item_id=f"i{n % 7}", request_id=f"r{n}", position=1 + n % 4)
        for n in range(4 * 144)
    ]  # fmt: skip
    write_lake(lake, events, [item(f"i{n}") for n in range(7)], [user(f"u{n}") for n in range(5)])


def _offline(home: Path) -> list:
    offline = Workspace(home, "small").offline
    paths = {view: sorted(offline.glob(f"{view}/*.parquet")) for view in BATCH_VIEWS}
    hourly = paths.pop("item_hourly")
    return [pq.read_table([str(p) for p in some]) for some in (*paths.values(), hourly)]


def _folded(folder: Path, written: int) -> dict:
    workspace = Workspace(folder, "small")
    with closing(SqliteEventLog(workspace.event_log, PARTITIONS)) as log:
        log.append("events", [click(n, event_at=at[written]) for n, at in enumerate(CHANGES)])
        worked_off(workspace, log)
    return OnlineStore(open_feast(workspace)).read_stream(["u"])["u"]


if __name__ == "__main__":
    days = [(SUMMER_TIME + timedelta(days=n)).date() for n in (0, 1, 2)]
    until = SUMMER_TIME + timedelta(days=2, hours=3)
    build_features(Workspace(Path(sys.argv[1]), "small"), days, "duckdb", until=until)
