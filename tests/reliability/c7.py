"""C7: the machine's clock jumps a day ahead and a day back; summer time; leap seconds.

API and stream worker run as processes whose clock libfaketime sets while they work. What serving
reads must have no negative age and lose no row, and no event may fall out of a window.
"""

import os
import subprocess
import sys
import time
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pyarrow.parquet as pq

from features.definitions import BATCH_VIEWS
from features.store import OnlineStore
from infra.clients import open_feast
from infra.event_log import SqliteEventLog
from infra.local.kafka import Absent
from infra.workspace import Workspace
from pipelines.build_features import build_features
from pipelines.dead_letters import letters
from pipelines.materialize import materialize
from pipelines.recount import recount
from tests.features.small_lake import DAY, POSITIVE, event, item, random_lake, user, write_lake
from tests.pipelines.test_recount import worked_off
from tests.pipelines.test_stream import PARTITIONS, click
from tests.reliability.api import api, asking, told
from tests.serving.conftest import NOW, Shop, furnish, settings_of
from tests.serving.processes import streaming

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

HOLD_S, HOLD_SHORT_S = 12.0, 2.0
RATE = 30.0
USERS, NEW_USERS = ([f"{kind}{number}" for number in range(7)] for kind in "uv")
"""Who has rows in every view and does nothing; who comes now and clicks."""

LIBRARIES = "*/faketime/libfaketimeMT.so.1"
SUMMER_TIME = datetime(2026, 3, 29, tzinfo=UTC)
"""In Berlin this day has 23 hours."""


def run(folder: Path, seed: int, share: float = 1.0) -> dict:
    """See EXPECTED.

    Raises:
        Absent: no libfaketime.
    """
    found = _jumps(folder / "jumps", seed, HOLD_S if share == 1 else HOLD_SHORT_S)
    found["summer_time_wrong"] = summer_time_wrong(folder / "summer")
    found["leap_wrong"] = leap_wrong(folder / "leap")
    return found


class FakeTime:
    """A clock that others read from a file; true time is NOW when this is made."""

    def __init__(self, folder: Path) -> None:
        if (library := next(Path("/usr/lib").glob(LIBRARIES), None)) is None:
            raise Absent("clock: no libfaketime; on Debian: apt install faketime")
        folder.mkdir(parents=True, exist_ok=True)
        self._file, self._from_here = folder / "clock", (NOW - datetime.now(UTC)).total_seconds()
        self.set(0)
        self.environment = {
            "LD_PRELOAD": str(library),
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_CACHE_DURATION": "1",  # seconds until it looks into the file again
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "NO_FAKE_STAT": "1",  # else no compiled module looks as old as its source
            "SHORTLIST_CLOCK": "real",
        }

    def set(self, ahead_s: int) -> None:
        part = self._file.with_suffix(".part")
        part.write_text(f"{self._from_here + ahead_s:+.0f}\n")
        part.replace(self._file)


def _jumps(folder: Path, seed: int, hold_s: float) -> dict:
    clock = FakeTime(folder)
    shop = furnish(Shop(settings_of(folder / "home")))
    random_lake(shop.workspace.lake)
    build_features(shop.workspace, [DAY.date()], "duckdb", until=NOW)
    materialize(shop.workspace, NOW)
    persons: list[dict] = []
    with (
        streaming(shop, **clock.environment),
        api(shop, own_process=True, **clock.environment) as address,
        asking(address, NEW_USERS, seed, RATE) as client,
    ):
        for ahead_s in JUMPS_S:
            clock.set(ahead_s)
            until = time.monotonic() + hold_s
            while time.monotonic() < until:
                persons += [httpx.get(f"{address}/v1/users/{u}").json() for u in USERS]
    ages = [age for person in persons for age in person["age_s"].values()]
    return {
        **told([client]),
        "clicks_accepted": len(client.accepted),
        "negative_ages": sum(age < 0 for age in ages),
        "expired_rows": sum(len(person["missing"]) for person in persons),
        **_counted(shop, len(client.accepted)),
    }


def _counted(shop: Shop, clicks: int) -> dict:
    """Whether every click that was accepted is in its user's window, once the worker is done."""
    workspace, partitions = shop.workspace, shop.settings.partitions
    with closing(SqliteEventLog(workspace.event_log, partitions)) as log, streaming(shop):
        found = recount(workspace, log, POSITIVE, wait_s=180, settle_s=60)
    rows = OnlineStore(open_feast(workspace)).read_stream(NEW_USERS)
    return {
        "late_events": found["late"],
        "lost_from_windows": clicks - sum(row["clicks_24h"] for row in rows.values()),
        "wrong_rows": found["wrong"] + found["missing"] + found["items_wrong"],
    }


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
