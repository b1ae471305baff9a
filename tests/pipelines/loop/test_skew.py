"""Days of the real funnel, computed again: nothing is found where nothing is wrong, and every fault is."""

import json
import shutil
from contextlib import closing
from dataclasses import dataclass, field
from datetime import timedelta

import pytest
from typer.testing import CliRunner

from features.definitions import BY_COLUMN
from features.errors import NotReady
from features.feature_set import CURRENT
from infra.event_log import SqliteEventLog
from infra.settings import Settings
from infra.workspace import Workspace
from models.versions import current, published
from monitoring.skew import ENOUGH, LIMIT
from pipelines.cli import app
from pipelines.loop.shop import Shop
from pipelines.loop.skew_drill import FAULTS, lived, shares, with_fault
from pipelines.promote import promote
from pipelines.skew import report_path, skew, standing

REQUESTS, WITH_FAULT = 400, 120


@dataclass(slots=True)
class Late(Shop):
    """A shop whose stream rows are pushed a minute after their events arrived."""

    waiting: dict = field(default_factory=dict)  # user -> events and when they are pushed
    delay_us: int = 60_000_000

    def fold(self, event):
        seen = event["seen_at"] if isinstance(event["seen_at"], int) else event["event_at"]
        self.waiting.setdefault(event["user_id"], []).append((seen + self.delay_us, event))

    def user(self, user_id, now):
        now_us = int(now.timestamp() * 1e6)
        rest = []
        for due, event in self.waiting.pop(user_id, []):
            if due < now_us:
                Shop.fold(self, event)
            else:
                rest.append((due, event))
        self.waiting[user_id] = rest
        return Shop.user(self, user_id, now)


@pytest.fixture(scope="module")
def clean(seedling, tmp_path_factory):
    """Two days without a fault, and what was found."""
    workspace, slates = lived(seedling, tmp_path_factory.mktemp("clean") / "home", REQUESTS)
    return workspace, slates, skew(workspace, slates)


@pytest.fixture(scope="module")
def wrong_window(seedling, tmp_path_factory):
    """Two days of a count of 7 days under the name of one of 30."""
    home = tmp_path_factory.mktemp("window") / "home"
    workspace, slates = lived(seedling, home, REQUESTS, with_fault(FAULTS["wrong_window"][1]))
    return workspace, slates, skew(workspace, slates)


def test_without_a_fault_nothing_is_skewed(clean):
    workspace, _, found = clean
    assert (found["requests"], found["rows"]) == (REQUESTS, 10 * REQUESTS)
    assert len(found["bundles"]) == 2, "each night has its own, and each is compared by its own"
    assert not any(one["skewed"] for one in found["features"].values())
    assert shares(found)["integers"]["skewed"] == shares(found)["floats"]["skewed"] == 0
    streamed = [
        name for name in found["features"] if BY_COLUMN[name].view in ("user_stream", "request")
    ]
    made_of_batch = {"price_ratio", "price_affinity"}
    assert all(
        found["features"][name]["equal"] == found["rows"]
        for name in streamed
        if name not in made_of_batch
    ), "what is known by the second is not restated"
    assert not found["blocked"]
    assert standing(workspace, list(found["features"])) is None


def test_what_the_offline_store_restated_is_not_called_skew(clean):
    """A phone's events came a day late, so that yesterday's counts are others than were served."""
    found = clean[2]["features"]
    restated = {name for name, one in found.items() if one["restated"]}
    assert {"item_positives_7d", "item_click_rate_30d"} <= restated
    assert not {"item_price_quantile", "price_quantile_90d"} & restated, (
        "no later item moves a level"
    )


@pytest.mark.parametrize("name", ["null_to_zero", "counted_twice"])
def test_each_fault_is_named(seedling, tmp_path, name):
    spoilt, fault = FAULTS[name]
    found = skew(*lived(seedling, tmp_path / "home", WITH_FAULT, with_fault(fault)))
    assert found["over"] == [spoilt]
    looks = {
        "null_to_zero": "missing served as 0 instead of 90",
        "counted_twice": "counted twice",
    }
    assert found["features"][spoilt]["looks_like"] == looks[name]
    assert found["blocked"]
    assert spoilt in found["because"]


def test_a_skewed_feature_blocks_whom_it_concerns(wrong_window):
    workspace, _, found = wrong_window
    assert found["over"] == ["positives_30d"]
    assert found["features"]["positives_30d"]["looks_like"] == "looks like window 7 d"
    champion = current(workspace.bundles)
    challenger = next(name for name in published(workspace.bundles) if name != champion)
    told = promote(workspace, challenger)
    assert not told["promoted"]
    assert told["verdict"].startswith(
        "refused: positives_30d skewed: positives_30d served other than"
    )
    assert "looks like window 7 d" in told["verdict"]
    assert "run `shortlist skew --since`" in told["verdict"]
    assert current(workspace.bundles) == champion
    assert standing(workspace, ["purchases_30d"]) is None, "who reads it not may pass"
    assert promote(workspace, challenger, force=True)["verdict"].startswith(
        "promoted (forced): pos"
    )
    assert current(workspace.bundles) == challenger


def test_few_requests_give_no_verdict_that_blocks(wrong_window):
    workspace, slates, _ = wrong_window
    kept = report_path(workspace).read_bytes()
    found = skew(workspace, slates[: ENOUGH - 1])
    assert found["over"] == ["positives_30d"]
    assert not found["blocked"]
    assert found["because"].endswith("99 requests are too few to block")
    assert standing(workspace, ["positives_30d"]) is None
    report_path(workspace).write_bytes(kept)


def test_rows_on_their_way_are_behind_and_not_skewed(seedling, tmp_path):
    """A minute's delay of the stream: the slates after a click read what was known before it."""
    home = tmp_path / "home"
    found = skew(
        *lived(seedling, home, WITH_FAULT, lambda shop: Late(shop.bundle, shop.rows, shop.states))
    )
    events = found["features"]["session_events"]
    assert events["behind"] > 100
    assert 0 < events["behind_s_max"] <= 61
    assert events["skewed"] <= LIMIT * events["rows"]
    assert found["over"] == []


def test_rows_that_nobody_renewed_are_stale(seedling, tmp_path):
    """The nightly rows of the first morning are served on the second day as well."""
    kept = []

    def frozen(shop):
        kept.append(shop.rows)
        return Shop(shop.bundle, kept[0], shop.states)

    workspace, slates = lived(seedling, tmp_path / "home", REQUESTS, frozen)
    night = slates[-1].at.replace(hour=2, minute=0) - timedelta(
        days=1
    )  # the last slates are before 2
    late = [slate for slate in slates if slate.at > night + timedelta(hours=7)]
    assert len(late) > ENOUGH
    found = skew(workspace, late)
    age = found["features"]["account_age_days"]
    assert "account_age_days" in found["over"]
    assert str(age["looks_like"]).startswith("stale")
    assert "session_events" not in found["over"], "the stream went on"


def test_the_command_reads_the_log_and_ends_by_the_verdict(clean, tmp_path, monkeypatch):
    workspace, slates, _ = clean
    home = tmp_path / "home"
    shutil.copytree(workspace.home, home)
    copy = Workspace(home, "world")
    with closing(SqliteEventLog(copy.event_log, Settings().partitions)) as log:
        log.append("served", [(slate.user_id, _record(slate)) for slate in slates[-40:]])
    monkeypatch.setenv("SHORTLIST_HOME", str(home))
    monkeypatch.setenv("SHORTLIST_ENGINE", "duckdb")
    asked = CliRunner().invoke(app, ["skew", "--requests", "30"])
    assert asked.exit_code == 1, asked.output
    told = json.loads((copy.reports / "skew.json").read_text())["metrics"]
    assert told["requests"] == 30
    assert told["over"] == ["sessions_30d"]
    assert told["features"]["sessions_30d"]["looks_like"] == "always +7"
    assert "30 requests are too few to block" in " ".join(asked.output.split())
    with pytest.raises(NotReady, match="no slate that was logged with its features"):
        skew(copy, [])


def _record(slate):
    """As it is logged, but for one feature that serving got wrong."""
    features = slate.features.copy()
    features[:, CURRENT.place["sessions_30d"]] += 7
    return {
        "request_id": slate.request_id,
        "served_at": slate.at.isoformat(),
        "user_id": slate.user_id,
        "context": dict(slate.context),
        "bundle": slate.bundle,
        "item_ids": list(slate.item_ids),
        "features": features.tolist(),
    }
