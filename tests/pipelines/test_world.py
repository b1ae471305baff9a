"""The world as a whole: reproducible, plausible, worth personalising, and its truth kept apart."""

import ast
import hashlib
import json
import re
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from features.errors import ContractError
from features.schema import EVENTS, ITEMS, USERS
from infra.workspace import Workspace
from pipelines import lake
from pipelines.ingest import ingest
from pipelines.world import truth as store
from pipelines.world.behaviour import BOREDOM, attraction, examination
from pipelines.world.generate import WORLD_END, make_world, open_world

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def world(home):
    return make_world(home, "tiny", seed=0)


@pytest.fixture(scope="module")
def past(world):
    return world.history()


@pytest.fixture(scope="module")
def workspace(home, past):
    workspace = Workspace(home, "world")
    rows = ingest(workspace, past, now=WORLD_END)["rows"]
    assert rows["quarantined"] == 0
    return workspace


def fingerprint(folder):
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()


def test_the_same_seed_gives_the_same_bytes(home, world, past, workspace, tmp_path):
    again = make_world(tmp_path, "tiny", seed=0)
    ingest(Workspace(tmp_path, "world"), again.history(), now=WORLD_END)
    assert fingerprint(tmp_path / "truth") == fingerprint(home / "truth")
    assert fingerprint(Workspace(tmp_path, "world").lake) == fingerprint(workspace.lake)


def test_another_seed_gives_another_world(past, tmp_path):
    other = make_world(tmp_path, "tiny", seed=1).history()
    assert len(other.events) != len(past.events)


def test_what_was_made_can_be_opened_again(home, world):
    again = open_world(home)
    assert (again.truth.scale, again.truth.seed, again.truth.end) == ("tiny", 0, WORLD_END)
    np.testing.assert_array_equal(again.truth.users.taste, world.truth.users.taste)


def test_a_world_that_was_never_made_and_a_scale_that_is_none_say_so(tmp_path):
    with pytest.raises(ContractError, match=r"no world in .*; make one with `shortlist world`"):
        open_world(tmp_path)
    with pytest.raises(ContractError, match="no scale 'huge'; choose one of tiny, small, full"):
        make_world(tmp_path, "huge", seed=0)


def test_history_looks_like_a_shop(past):
    """Ranges from published logs: few clicks, few purchases, a head of items and of users."""
    events = past.events
    kinds = events["event_type"].value_counts()
    shown = events[events["event_type"] == "impression"]
    clicks = events[events["event_type"] == "click"]
    assert 0.02 < kinds["click"] / kinds["impression"] < 0.08
    assert 0.02 < kinds["purchase"] / kinds["click"] < 0.07
    slates = shown["user_id"].value_counts()
    assert slates.head(len(slates) // 10).sum() > 0.35 * len(shown)
    hours = shown["event_at"].dt.hour.value_counts()
    assert hours.max() > 3 * hours.min()
    by_place = clicks["position"].value_counts() / shown["position"].value_counts()
    assert by_place[1] > 3 * by_place[10]
    assert events["event_at"].max() < pd.Timestamp(WORLD_END)


def test_popularity_emerges(past):
    """Nothing says how popular an item is; a tenth of the items still gets far more than its share."""
    clicks = past.events.query("event_type == 'click'")["item_id"].value_counts()
    assert clicks.head(len(past.items) // 10).sum() > 2 * 0.1 * clicks.sum()


def slate_values(world, past):
    """Expected clicks per slate of four ways to choose ten items, for visitors drawn by activity."""
    truth = world.truth
    users, items = truth.users, truth.items
    rng = np.random.default_rng(5)
    who = rng.choice(len(users.ids), 600, p=users.activity / users.activity.sum())
    mood = np.array([rng.choice(20, p=row / row.sum()) for row in users.taste[who]])
    every = np.broadcast_to(np.arange(len(items.ids)), (len(who), len(items.ids)))
    clicks = past.events[past.events["event_type"] == "click"]
    user_ix = pd.Index(users.ids).get_indexer(clicks["user_id"])
    item_ix = pd.Index(items.ids).get_indexer(clicks["item_id"])
    known = np.zeros((len(users.ids), len(items.ids)), bool)
    known[user_ix, item_ix] = True
    counts = np.bincount(item_ix, minlength=len(items.ids)).astype(float)
    shares = np.full((len(users.ids), 20), 0.05)
    np.add.at(shares, (user_ix, items.category[item_ix]), 1)
    shares /= shares.sum(axis=1, keepdims=True)
    wanted = attraction(users, items, who, every, mood) * np.where(known[who], BOREDOM, 1.0)
    examined = examination(users.device[who], 10)

    def value(scores):
        scores = np.where(known[who], -1.0, scores)  # a seen filter for everybody
        top = np.argsort(-scores, axis=1, kind="stable")[:, :10]
        return float((np.take_along_axis(wanted, top, axis=1) * examined).sum(axis=1).mean())

    return {
        "truth": value(attraction(users, items, who, every, None)),
        "category": value(shares[who][:, items.category] * (counts + 1)),
        "popular": value(np.broadcast_to(counts, every.shape)),
        "random": value(rng.random(every.shape)),
    }


def test_a_list_by_true_attraction_beats_popularity_clearly(world, past):
    values = slate_values(world, past)
    assert values["popular"] > 1.15 * values["random"]  # popularity is worth having
    assert values["truth"] > 1.8 * values["popular"]  # and there is much left above it


def test_what_a_platform_can_see_is_enough_to_beat_popularity(world, past):
    """The share of each user's clicks by category, times popularity: no hidden column is needed."""
    values = slate_values(world, past)
    assert values["category"] > 1.1 * values["popular"]


# The truth stays with the world.

HIDDEN = re.compile(
    "quality|style|taste|budget|activity|attract|relevan|utility|oracle|truth|mood|segment", re.I
)


def test_the_lake_holds_only_what_a_platform_can_know(workspace):
    events = lake.read_events(workspace.lake)
    assert list(events.columns) == EVENTS.names
    assert list(lake.read_items(workspace.lake).columns) == ITEMS.names
    assert list(lake.read_users(workspace.lake).columns) == USERS.names
    for context in events["context"].unique():
        assert set(json.loads(context)) == {"device", "location"}
    for path in workspace.root.rglob("*"):
        assert not HIDDEN.search(path.relative_to(workspace.root).as_posix())


def test_newcomers_are_unknown_before_they_come(world, past):
    newcomers = set(world.truth.users.ids[world.truth.users.segment == 1])
    assert len(newcomers) >= 10
    assert not newcomers & set(past.events["user_id"])
    assert not newcomers & set(past.users["user_id"])


def test_titles_say_nothing_about_quality(world):
    """Words of titles are drawn after and apart from quality: no word goes with it."""
    words = pd.Series(world.truth.items.titles).str.split().str[0]
    means = pd.Series(world.truth.items.quality).groupby(words).agg(["mean", "size"])
    z = (means["mean"] * np.sqrt(means["size"])).abs()
    assert z.max() < 4


def modules_importing(name):
    for folder in ("features", "models", "monitoring", "serving", "infra", "pipelines"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text())):
                named = []
                if isinstance(node, ast.Import):
                    named = [alias.name for alias in node.names]
                elif isinstance(node, ast.ImportFrom) and node.module:
                    named = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
                if any(module == name or module.startswith(name + ".") for module in named):
                    yield path.relative_to(ROOT).as_posix()


def test_only_the_world_imports_its_truth():
    allowed = ("pipelines/world/", "pipelines/experiments/", "pipelines/companion/")
    strangers = [
        path for path in modules_importing("pipelines.world.truth") if not path.startswith(allowed)
    ]
    assert not strangers


def test_nothing_that_learns_or_serves_imports_the_world():
    callers = set(modules_importing("pipelines.world"))
    outside = {path for path in callers if not path.startswith("pipelines/world/")}
    assert outside <= {f"pipelines/{name}.py" for name in ("cli", "cli_stack", "demo", "bootstrap")}


def test_only_one_file_knows_where_the_truth_lies(home):
    assert (home / "truth" / "world" / "users.npz").exists()
    naming = [
        path.name
        for path in (ROOT / "pipelines" / "world").glob("*.py")
        if '"truth"' in path.read_text()
    ]
    assert naming == ["truth.py"]


def test_the_truth_is_read_without_pickle(home):
    for path in (home / "truth" / "world").iterdir():
        if path.suffix in (".npy", ".npz"):
            np.load(path, allow_pickle=False)
    assert store.load(home).end == datetime(2026, 3, 1, tzinfo=UTC)
