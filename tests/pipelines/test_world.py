"""The world as a whole: reproducible, plausible, worth personalising, and its truth kept apart."""

import ast
import hashlib
import json
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import grimp
import numpy as np
import pandas as pd
import pytest

from features.errors import ContractError
from features.schema import EVENTS, ITEMS, USERS
from infra.workspace import Workspace
from pipelines import lake
from pipelines.ingest import ingest
from pipelines.world import generate
from pipelines.world import truth as store
from pipelines.world.behaviour import appraise
from pipelines.world.config import FAMILIES
from pipelines.world.families import by_place
from pipelines.world.generate import WORLD_END, make_world, open_world
from pipelines.world.planning import at_no_moment
from pipelines.world.population import to_us
from tests.pipelines.oracle_words import HIDDEN, ORACLE, TOO_PLAIN, columns_of, leaks

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ("features", "models", "monitoring", "serving", "infra", "pipelines")


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
    rows = ingest(workspace, past, now=WORLD_END)
    assert set(rows["reasons"]) <= {"event_id: repeats an earlier row", "repeats an earlier row"}
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


def test_every_process_writes_the_same_log_whatever_its_hash_seed(past, tmp_path):
    """Two processes that order their sets differently, all families: sha256 of the event log."""
    script = (
        "import sys, pathlib\n"
        "from pipelines.world.config import FAMILIES\n"
        "from pipelines.world.generate import fingerprint, make_world\n"
        "print(list({str(number) for number in range(20)}))\n"
        "for family in FAMILIES:\n"
        "    made = make_world(pathlib.Path(sys.argv[1]), 'tiny', seed=0, family=family)\n"
        "    print(family, fingerprint(made.history().events))\n"
    )
    orders, logs = zip(
        *(
            subprocess.run(
                [sys.executable, "-c", script, str(tmp_path / seed)],
                env={"PYTHONHASHSEED": seed, "PYTHONPATH": ":".join(sys.path)},
                capture_output=True, text=True, check=True,
            ).stdout.split("\n", 1)
            for seed in ("1", "2")
        )
    , strict=True)  # fmt: skip
    assert orders[0] != orders[1], "the hash seeds took effect"
    assert logs[0] == logs[1]
    told = dict(line.split() for line in logs[0].splitlines())
    assert len(set(told.values())) == len(FAMILIES)
    assert told["trust"] == generate.fingerprint(past.events)  # and in this third process


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


def test_popularity_emerges(past):
    """Nothing says how popular an item is; a tenth of the items still gets far more than its share."""
    clicks = past.events.query("event_type == 'click'")["item_id"].value_counts()
    assert clicks.head(len(past.items) // 10).sum() > 2 * 0.1 * clicks.sum()


def slate_values(world, past):
    """Expected clicks per slate of four ways to choose ten items, on the day after the past."""
    truth, state, end_us = world.truth, store.load_state(world.home), to_us(WORLD_END)
    users, items, n = truth.users, truth.items, world.truth.config.items
    rng = np.random.default_rng(5)
    here = users.activity * (users.segment == 0) * (users.joined_at < end_us) * ~users.bot
    who = rng.choice(len(users.ids), 600, p=here / here.sum())
    every = np.broadcast_to(np.arange(n), (len(who), n))
    wanted = np.concatenate(
        [
            appraise(truth, state, at_no_moment(truth, part, end_us), every[: len(part)]).attraction
            for part in np.array_split(who, 12)
        ]
    )
    clicks = past.events[past.events["event_type"] == "click"]
    user_ix = pd.Index(users.ids).get_indexer(clicks["user_id"])
    item_ix = pd.Index(items.ids).get_indexer(clicks["item_id"])
    known = np.zeros((len(users.ids), n), bool)
    known[user_ix, item_ix] = True
    counts = np.bincount(item_ix, minlength=n).astype(float)
    shares = np.full((len(users.ids), 20), 0.05)
    np.add.at(shares, (user_ix, items.category[item_ix]), 1)
    shares /= shares.sum(axis=1, keepdims=True)
    examined = by_place(users.device[who], 10)

    def value(scores):
        scores = np.where(known[who], -1.0, scores)  # a seen filter for everybody
        top = np.argsort(-scores, axis=1, kind="stable")[:, :10]
        return float((np.take_along_axis(wanted, top, axis=1) * examined).sum(axis=1).mean())

    return {
        "truth": value(wanted),
        "category": value(shares[who][:, items.category[:n]] * (counts + 1)),
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


def test_the_lake_holds_only_what_a_platform_can_know(workspace):
    events = lake.read_events(workspace.lake)
    assert list(events.columns) == EVENTS.names
    assert list(lake.read_items(workspace.lake).columns) == ITEMS.names
    assert list(lake.read_users(workspace.lake).columns) == USERS.names
    for context in events["context"].unique():
        assert set(json.loads(context)) == {"device", "location"}
    assert leaks(columns_of(workspace.root)) == []
    for path in workspace.root.rglob("*"):
        assert not ORACLE.search(path.relative_to(workspace.root).as_posix())


def test_the_truth_of_every_slate_lies_by_its_request(home, world, past):
    told = store.load_responses(home).set_index("request_id")
    shown = past.events[past.events["event_type"] == "impression"]
    assert set(shown["request_id"]) == set(told.index[~told["left"]])
    for name in ("utility", "examination", "attraction", "satisfaction"):
        assert set(told[name].map(len)) == {10}
    clicks = past.events[past.events["event_type"] == "click"]["event_id"].nunique()
    assert clicks == pytest.approx(told["true_utility"].sum(), rel=0.12)
    days = list((home / "truth" / "world" / "responses").glob("day=*"))
    assert len(days) == world.truth.config.days
    plain = {"request_id", "user_id", "at", "left", "returned"}
    assert leaks(set(told.columns)) == sorted(set(told.columns) - plain), "they would be found"


def test_every_hidden_field_would_be_found_where_it_leaked():
    """A field that joins the truth is looked for without anybody thinking of it."""
    assert leaks(HIDDEN) == sorted(HIDDEN - TOO_PLAIN)
    assert len(HIDDEN) > 25


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
    assert z.max() < 4.5  # items of one maker share some quality, and some share a word by chance


def modules_importing(name):
    for folder in FOLDERS:
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
    allowed = (
        "pipelines/world/",
        "pipelines/experiments/",
        "pipelines/companion/",
        "pipelines/loop",
    )
    strangers = [
        path for path in modules_importing("pipelines.world.truth") if not path.startswith(allowed)
    ]
    assert not strangers


def test_nothing_that_learns_or_serves_imports_the_world():
    callers = set(modules_importing("pipelines.world"))
    outside = {path.split("/")[1] for path in callers if not path.startswith("pipelines/world/")}
    assert outside <= {"cli_world.py", "cli_stack.py", "cli_loop.py", "demo.py", "bootstrap.py",
                       "loop", "experiments", "companion"}  # fmt: skip
    assert all(path.startswith("pipelines/") for path in callers)


def test_only_one_file_knows_where_the_truth_lies(home):
    assert (home / "truth" / "world" / "users.npz").exists()
    naming = [
        path.relative_to(ROOT).as_posix()
        for folder in FOLDERS
        for path in sorted((ROOT / folder).rglob("*.py"))
        if '/ "truth"' in path.read_text()
    ]
    assert naming == ["pipelines/world/truth.py"]


def test_nothing_that_learns_or_serves_reaches_the_world_through_others():
    """By the graph of all imports, lazy ones too, and not by a list that somebody must keep."""
    graph = grimp.build_graph(*FOLDERS)
    reaching = graph.find_downstream_modules("pipelines.world", as_package=True)
    assert "pipelines.bootstrap" in reaching
    ends = ("pipelines.cli", "pipelines.demo", "pipelines.bootstrap", "pipelines.experiments",
            "pipelines.loop", "pipelines.companion")  # fmt: skip
    assert [module for module in sorted(reaching) if not module.startswith(ends)] == []


def test_the_truth_is_read_without_pickle(home):
    for path in (home / "truth" / "world").iterdir():
        if path.suffix in (".npy", ".npz"):
            np.load(path, allow_pickle=False)
    assert store.load(home).end == datetime(2026, 3, 1, tzinfo=UTC)
