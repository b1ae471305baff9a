"""The bench of online reads, small: what it compares is equal, and what it times has happened."""

import shutil

import pytest

from features.errors import NotReady
from infra.local import redis
from infra.local.kafka import Absent
from infra.workspace import Workspace
from models.bundle import point_to, publish
from pipelines import bench_online
from pipelines.bench_online import BACKENDS, online_speed


@pytest.fixture(scope="module")
def published(site, tmp_path_factory):
    workspace = Workspace(tmp_path_factory.mktemp("online"), site.workspace.name)
    shutil.copytree(site.workspace.root, workspace.root)
    point_to(workspace.bundles, publish(workspace.training / "bundle", workspace.bundles))
    return workspace


@pytest.mark.parametrize("backend", BACKENDS)
def test_both_ways_are_timed_and_every_pair_is_equal(published, backend, tmp_path):
    if backend == "redis":
        try:
            redis.command(tmp_path, 1)
        except Absent as why:
            pytest.skip(f"absent backend: {why}")
    told = online_speed(published, reads=60, pairs=500, seed=1, backends=[backend])[backend]
    assert told["pairs_compared"] == 500
    assert (told["pairs_different"], told["published_different"]) == (0, 0)
    for load_ in ("idle", "busy"):
        times = told[load_]
        assert 0 < times["ours_ms_p50"] <= times["ours_ms_p99"]
        assert times["ratio_p50"] > 1  # Feast's own call does more, and waits twice
    assert told["busy"]["pushed_rows"] > 0
    assert told["busy"]["materialized"] > 0


def test_a_pair_that_differs_is_counted(published, monkeypatch):
    bundle, now = bench_online._served(published)
    real = bench_online._items_by_feast
    monkeypatch.setattr(bench_online, "_items_by_feast", lambda *asked: real(*asked) + 1e6)
    told = bench_online._items(published, bundle, now, 50, seed=1)
    assert (told["pairs_different"], told["published_different"]) == (50, 50)


def test_without_a_bundle_it_says_how_to_make_one(tmp_path):
    with pytest.raises(
        NotReady, match=r"no bundle of 'empty' to compare; make one with: make demo"
    ):
        online_speed(Workspace(tmp_path, "empty"), reads=1, pairs=1, seed=0)
