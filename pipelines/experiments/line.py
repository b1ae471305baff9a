"""The trained line of one world in a folder of its own, and days of it under any ranker and any shop.

Everything that is dear (world, features, towers) is made once per seed; what an experiment varies is
the rows that a ranker learns from, or the shop that answers with it. Every variant then lives through
the same days: the same mornings, people and luck, so what differs between two of them is the variant.

Throughout: R rows of all queries, Q queries, K places, F features.
"""

import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np

from features.feature_set import CURRENT
from features.point_in_time import Leak
from infra.workspace import Workspace
from models import ranker
from models.bundle import Bundle, of_parts
from models.ranker import Ranker
from models.split import Split
from pipelines.days import feature_days, split_of
from pipelines.experiments.card import Setting
from pipelines.experiments.measures import click_ndcg, expected_auc
from pipelines.known_rows import newest
from pipelines.loop.arms import ByShop
from pipelines.loop.day import live_through
from pipelines.loop.pending import Pending
from pipelines.loop.shop import BatchRows, Shop
from pipelines.past import Past, read_past
from pipelines.ranker_rows import Rows, build_rows, slate_queries
from pipelines.retrieval import read
from pipelines.run import run_module
from pipelines.train_retrieval import FOR_BUNDLE, FOR_RANKER
from pipelines.world import truth as store_of_truth
from pipelines.world.generate import World
from pipelines.world.population import to_us

if (
    TYPE_CHECKING
):  # Feast, pandera and Evidently come with it; a list of cards must not wait for them
    from pipelines.loop.morning import Views

ENGINE = "duckdb"
"""Equal to Spark's rows by test, and quicker where a day has thousands of events."""

POSITION = CURRENT.place["position"]


@dataclass(frozen=True, slots=True)
class Line:
    """A platform on the morning after its logged past; it has everything but a ranker."""

    setting: Setting
    seed: int
    workspace: Workspace
    world: World
    past: Past
    store: Any  # an opened Feast store
    split: Split
    bundle: Bundle  # of this morning, without a ranker
    views: "Views"  # batch rows as known this morning
    now: datetime

    def shop(self, trained: Ranker) -> Shop:
        """What serving would be with this ranker; states of its own."""
        from pipelines.loop.morning import first_states

        rows = BatchRows.known(self.views, self.now)
        return Shop(replace(self.bundle, ranker=trained), rows, first_states(self.workspace))

    def views_at(self, moment: datetime) -> "Views":
        """Batch rows as known at a moment."""
        from pipelines.loop.morning import batch_rows

        return batch_rows(self.workspace, moment)

    def teaching(self, leak: Leak = "none") -> Rows:
        """Rows of the logged slates that the ranker learns from."""
        return self._rows(self.split, FOR_RANKER, leak)

    def testing(self, leak: Leak = "none") -> Rows:
        """Rows of the logged slates of the test window, with the place held at 0 as when serving."""
        later = replace(self.split, ranker_from=self.split.test_from, test_from=self.split.end)
        rows = self._rows(later, FOR_BUNDLE, leak)
        rows.features[:, POSITION] = 0.0
        return rows

    def fit(self, rows: Rows) -> Ranker:
        """The ranker that these rows teach."""
        return ranker.fit(rows.features, rows.labels, rows.group_sizes, self.seed)

    def _rows(self, between: Split, towers: str, leak: Leak) -> Rows:
        from pipelines.train_ranker import QUERIES

        limit, lake = QUERIES[self.setting.scale], self.workspace.lake
        queries = slate_queries(lake, self.past, between, limit, self.seed)
        retrieval = read(self.workspace.training / towers)
        return build_rows(self.past, self.store, retrieval, queries, self.seed, leak=leak)


@dataclass(frozen=True, slots=True)
class Lived:
    """What came of some days."""

    slates: int
    expected: float  # clicks per slate by the world's truth, without the luck of any click
    clicked: float  # clicks per slate, counted


@contextmanager
def trained_line(setting: Setting, seed: int, **changes: Any) -> Iterator[Line]:
    """Make a world and its line; the folder is gone afterwards.

    Args:
        setting: family and scale.
        seed: of the world, the towers and the rankers.
        changes: preset and single parameters, as `pipelines.world.config.configure` has them.
    """
    with TemporaryDirectory(prefix="shortlist-line-") as folder:
        with redirect_stdout(io.StringIO()):  # the runner's bar is all there is to see
            line = _made(Workspace(Path(folder), "world"), setting, seed, changes)
        yield line


def lived(line: Line, shop_of: Callable[[], Shop], days: int) -> Lived:
    """Let everybody live through some days, each beginning on the same first morning.

    Days that follow each other would need a night each; other days of the same morning are as good
    for telling what a shop is worth, and do not mix it with what it learns.

    Args:
        line: whose world.
        shop_of: makes the shop anew for each day.
        days: how many; equal numbers are equal days.
    """
    truth = line.world.truth
    slates, expected, clicks = 0, 0.0, 0
    for stream in range(days):
        state = store_of_truth.load_state(line.world.home)
        pending = Pending(store_of_truth.load_pending(line.world.home))
        arm = ByShop(truth, shop_of(), "full")
        day = live_through(truth, state, pending, arm, "full", to_us(line.now), stream)
        slates += len(day.played.rows)
        expected += float(day.played.reaction.utility.sum())
        clicks += int(day.played.reaction.click.sum())
    return Lived(slates, expected / slates, clicks / slates)


def offline(trained: Ranker, rows: Rows) -> dict[str, float]:
    """AUC over impressions and nDCG@10 over slates with a click, on the labels of `rows`."""
    score = trained.score(rows.features)
    return {
        "auc": expected_auc(score, rows.labels.astype(np.float64)),
        "ndcg": float(
            click_ndcg(
                as_slates(rows.labels == 1, rows.group_sizes, False),
                as_slates(score, rows.group_sizes, -np.inf),
            ).mean()
        ),
    }


def item_values(views: "Views", moment: datetime, item_ids: Sequence[str]) -> np.ndarray:
    """(N, Fi) features of items as the night before `moment` left them; defaults where it has no row."""
    rows = newest(views, "item_daily", moment)
    found = [rows[(item_id,)][1] if (item_id,) in rows else {} for item_id in item_ids]
    return np.array([[row.get(f.column, f.default) for f in CURRENT.item] for row in found])


def as_slates(values: np.ndarray, sizes: np.ndarray, nothing: Any) -> np.ndarray:
    """(R,) rows of Q queries -> (Q, K), `nothing` where a query has fewer than the longest.

    >>> as_slates(np.array([1, 2, 3]), np.array([1, 2]), 0).tolist()
    [[1, 0], [2, 3]]
    """
    there = np.arange(sizes.max())[None, :] < sizes[:, None]
    out = np.full(there.shape, nothing, values.dtype)
    out[there] = values
    return out


def without(rows: Rows, columns: Sequence[str]) -> Rows:
    """The same rows with some columns held at 0: a tree cannot split on what does not vary."""
    features = rows.features.copy()
    features[:, [CURRENT.place[column] for column in columns]] = 0.0
    return replace(rows, features=features)


def gain_shares(trained: Ranker, groups: Mapping[str, Sequence[str]]) -> dict[str, float]:
    """Share of the trees' gain that each group of columns brings; of what no group holds, nothing."""
    gain = trained.booster.feature_importance("gain")
    total = max(float(gain.sum()), 1e-12)
    return {
        name: float(gain[[CURRENT.place[column] for column in columns]].sum()) / total
        for name, columns in groups.items()
    }


def _made(workspace: Workspace, setting: Setting, seed: int, changes: Mapping[str, Any]) -> Line:
    from infra.clients import open_feast
    from pipelines.bootstrap import fresh_world
    from pipelines.build_features import build_features
    from pipelines.loop.morning import batch_rows
    from pipelines.loop.twin import start_of
    from pipelines.materialize import apply_views

    world, _ = fresh_world(workspace, setting.scale, seed, family=setting.family, **changes)
    split, now = split_of(workspace), start_of(world, 0)
    build_features(workspace, feature_days(split, now), ENGINE, now, hourly=False)
    store = open_feast(workspace)
    apply_views(store, workspace.offline)
    told = ["--dataset", workspace.name, "--scale", setting.scale, "--seed", str(seed)]
    home = {"SHORTLIST_HOME": str(workspace.home)}
    run_module("pipelines.train_retrieval", told, home)
    past = read_past(workspace)
    views = batch_rows(workspace, now)
    matrix = item_values(views, now, past.ids(now))
    parts = past.parts(now, matrix, read(workspace.training / FOR_BUNDLE))
    bundle = of_parts(parts, path=None, manifest={"id": "experiment", "absent": {}})
    return Line(setting, seed, workspace, world, past, store, split, bundle, views, now)
