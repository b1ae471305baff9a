"""`shortlist run --name shop --events FILE`, from a stranger's file to a published bundle.

Every case ends in a bundle or in one clear line with exit code 2; none ends in a traceback, and what
was good in the file is kept.
"""

import hashlib
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from infra.workspace import Workspace
from models.bundle import current, load, version_path
from pipelines.cli import main
from pipelines.lake import read_events

START = 1_700_000_000  # epoch seconds, in November 2023
DAY = 86_400


def shop(users: int = 30, items: int = 15, rows: int = 600) -> pd.DataFrame:
    """Sales of two months: each user has a favourite third of the catalogue."""
    rng = np.random.default_rng(5)
    user = rng.integers(0, users, rows)
    item = (user % 3) * (items // 3) + rng.integers(0, max(items // 3, 1), rows)
    at = np.sort(START + rng.integers(0, 60 * DAY, rows))
    return pd.DataFrame(
        {"user_id": [f"u{u}" for u in user], "item_id": [f"i{i % items}" for i in item],
         "event_at": at, "value": rng.integers(1, 50, rows) / 2}
    )  # fmt: skip


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture
def shop_of(home, request) -> Workspace:
    """A data set of this test's own, in the home that all share."""
    return Workspace(home, "shop-" + hashlib.sha1(request.node.name.encode()).hexdigest()[:8])


@pytest.fixture
def run(shop_of, monkeypatch, capsys):
    """Runs the command on this test's data set: exit code, what was printed, the report."""
    monkeypatch.setenv("SHORTLIST_HOME", str(shop_of.home))

    def call(path: Path, *flags: str):
        named = ["run", "--name", shop_of.name, "--events", str(path)]
        dials = ["--scale", "tiny", "--engine", "duckdb"]
        monkeypatch.setattr("sys.argv", ["shortlist", *named, *dials, *flags])
        try:
            main()
            code = 0
        except SystemExit as ended:
            code = int(ended.code or 0)
        told = " ".join(capsys.readouterr().err.split())
        report = shop_of.reports / f"run-{shop_of.name}.json"
        metrics = json.loads(report.read_text())["metrics"] if code == 0 else None
        return code, told, metrics

    return call


def bundle_of(workspace: Workspace):
    return load(version_path(workspace.bundles, current(workspace.bundles)))


def adds_up(metrics) -> bool:
    rows = metrics["rows"]
    return rows["read"] == rows["accepted"] + rows["quarantined"]


def test_other_column_names_and_a_second_run_of_the_same_file(run, shop_of, tmp_path):
    path = tmp_path / "sales.csv"
    shop().rename(columns={"user_id": "kunde", "item_id": "sku", "event_at": "tag"}).to_csv(
        path, sep=";", index=False
    )
    flags = ("--user-column", "kunde", "--item-column", "sku", "--time-column", "tag")
    code, told, metrics = run(path, *flags)
    assert code == 0, told
    assert metrics["rows"] == {"read": 600, "accepted": 600, "quarantined": 0, "new": 600}
    assert metrics["ndcg_at_10"]["full"]["mean"] > metrics["ndcg_at_10"]["random"]["mean"]
    first = bundle_of(shop_of)
    assert first.ranker is not None
    assert first.tower is not None

    code, told, metrics = run(path, *flags)
    assert code == 0, told
    assert metrics["rows"]["new"] == 0
    assert bundle_of(shop_of).id == first.id, "the same file, the same bundle"


def test_double_colons_without_header(run, shop_of, tmp_path):
    path = tmp_path / "ratings.dat"
    rows = shop()[["user_id", "item_id", "value", "event_at"]].astype(str)
    path.write_text("\n".join("::".join(row) for row in rows.to_numpy()) + "\n")
    code, told, metrics = run(
        path, "--separator", "::", "--no-header", "--event-type", "rating", "--hide-seen",
        "--user-column", "1", "--item-column", "2", "--value-column", "3", "--time-column", "4",
    )  # fmt: skip
    assert code == 0, told
    assert metrics["rows"]["accepted"] == 600
    assert bundle_of(shop_of).info.seen_filter


def test_one_percent_garbage_future_times_negative_prices_and_double_ids(run, shop_of, tmp_path):
    good = shop()
    good["event_id"] = [f"e{row}" for row in range(len(good))]
    bad = good.iloc[:8].copy()
    bad["event_id"] = ["x0", "x1", "x2", "x3", "x4", "x5", "e0", "e1"]
    bad = bad.astype({"value": object, "event_at": object})
    bad.iloc[0, 3] = -5  # negative price
    bad.iloc[1, 2] = 99_999_999_999  # a future beyond any clock
    bad.iloc[2, 2] = "soon"
    bad.iloc[3, 0] = ""
    bad.iloc[4, 1] = None
    bad.iloc[5, 3] = "cheap"  # the last two repeat an id
    path = tmp_path / "mixed.csv"
    pd.concat([good, bad]).to_csv(path, index=False)
    with path.open("a") as file:
        file.write("only,two\n")
    code, told, metrics = run(path)
    assert code == 0, told
    assert adds_up(metrics)
    assert metrics["rows"]["accepted"] == 600
    assert metrics["rows"]["quarantined"] == 9
    assert metrics["rows"]["quarantined"] == sum(metrics["reasons"].values())
    quarantined = pd.read_csv(metrics["quarantine_file"])
    assert set(quarantined.columns) >= {"row", "column", "reason"}
    assert len(read_events(shop_of.lake)) == 600


@pytest.mark.parametrize(("users", "items", "rows"), [(1, 15, 60), (30, 1, 60), (1, 1, 1)])
def test_one_user_or_one_item_only(run, shop_of, tmp_path, users, items, rows):
    path = tmp_path / "few.csv"
    shop(users, items, rows).to_csv(path, index=False)
    code, told, metrics = run(path)
    assert code == 0, told
    assert metrics["rows"]["accepted"] == rows
    bundle = bundle_of(shop_of)
    assert len(bundle.titles) <= items
    assert all(reason for reason in bundle.absent.values())


@pytest.mark.parametrize(
    ("content", "flags", "message"),
    [
        (b"user_id,item_id,event_at\nu,i,1700000000\n", ("--user-column", "client"), "client"),
        (b"a,b,c\n1,2,3\n", (), "--user-column"),
        (b"", (), "empty"),
        (b"user_id,item_id,event_at\n", (), "no"),
        (bytes(range(256)) * 40, (), "cannot"),
        (b"user_id,item_id,event_at\nu,i,never\n", (), "event_at"),
    ],
    ids=["wrong column", "unknown columns", "empty", "header only", "binary", "nothing usable"],
)
def test_what_cannot_work_is_one_clear_line(run, shop_of, tmp_path, content, flags, message):
    path = tmp_path / "bad.csv"
    path.write_bytes(content)
    code, told, _ = run(path, *flags)
    assert code == 2, told
    assert "Traceback" not in told
    assert message in told.split("shortlist:")[1]


def test_a_file_that_is_not_there_or_may_not_be_read(run, shop_of, tmp_path):
    code, told, _ = run(tmp_path / "missing.csv")
    assert code == 2
    assert "missing.csv" in told
    code, told, _ = run(tmp_path)
    assert code == 2
    assert "cannot be read" in told
