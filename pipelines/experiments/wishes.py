"""A model of what users want, learnt from clicks under a reading of them (click_models.py).

One LightGBM, pointwise, over features that any platform could compute; the readings differ in the
loss and in how the items' click rates are counted, and in nothing else.
Throughout: S slates, K places, N items, R = S x K rows, F features.
"""

from dataclasses import dataclass

import lightgbm as lgb
import numpy as np

from pipelines.experiments.click_models import Fitted, Reading
from pipelines.experiments.log import Catalogue, Log

PRIOR_IMPRESSIONS = 20.0
"""An item's click rate starts at the average, and so many impressions weigh as much."""

HABIT_PRIOR = 3.0
"""Clicks of a user that weigh as much as what everybody does."""

TREES, LEAVES, LEARNING_RATE, ROWS_IN_LEAF = 80, 15, 0.08, 60
"""Small on purpose: what is compared is how clicks are read."""


@dataclass(frozen=True, slots=True)
class Wishes:
    """What was counted in the past, and the trees over it."""

    known: "Known"
    trees: lgb.Booster

    def score(self, log: Log) -> np.ndarray:
        """(S, K) larger = wanted more; the place enters nowhere."""
        flat = features(self.known, log).reshape(log.item_ix.size, -1)
        return np.asarray(self.trees.predict(flat, num_threads=1)).reshape(log.item_ix.shape)


@dataclass(frozen=True, slots=True)
class Known:
    """Counts over the past, as a batch job would keep them."""

    catalogue: Catalogue
    item_rate: np.ndarray  # (N,) clicks per expected look, smoothed
    user_category: np.ndarray  # (U, categories) share of the user's clicks, smoothed
    user_kind: np.ndarray  # (U, kinds) the same, finer
    user_price: np.ndarray  # (U,) mean log price of what the user clicked, smoothed
    user_clicks: np.ndarray  # (U,)


def learn(
    past: Log, recent: Log, catalogue: Catalogue, users: int, fitted: Fitted, seed: int
) -> Wishes:
    """Count on the past, train on what came after it.

    Args:
        past: gives the counts; its clicks are no labels, or a row would know its own.
        recent: gives the rows.
        catalogue: of N items.
        users: U, how many there are.
        fitted: how clicks are read.
        seed: of the trees.
    """
    known = count(past, catalogue, users, fitted(past.click))
    reading = fitted(recent.click)
    rows = features(known, recent).reshape(recent.item_ix.size, -1)
    return Wishes(known, _trees(rows, recent.click.ravel(), reading, seed))


def count(past: Log, catalogue: Catalogue, users: int, reading: Reading) -> Known:
    """Clicks of items over the looks they had (COEC where the reading corrects), and users' habits."""
    item, click = past.item_ix.ravel(), past.click.ravel().astype(float)
    looks = np.bincount(item, reading.slope.ravel(), minlength=len(catalogue.price))
    net = np.bincount(item, click - reading.floor.ravel(), minlength=len(catalogue.price))
    mean = max(net.sum() / looks.sum(), 1e-4)
    rate = np.maximum(net + PRIOR_IMPRESSIONS * mean, 0) / (looks + PRIOR_IMPRESSIONS)
    slate, place = np.nonzero(past.click)
    who, what = past.user_ix[slate], past.item_ix[slate, place]
    price = np.log(catalogue.price)
    clicks = np.bincount(who, minlength=users).astype(float)
    paid = np.bincount(who, price[what], minlength=users)
    return Known(
        catalogue,
        rate,
        _habits(who, catalogue.category[what], users, int(catalogue.category.max()) + 1),
        _habits(who, catalogue.kind[what], users, int(catalogue.kind.max()) + 1),
        (paid + HABIT_PRIOR * price.mean()) / (clicks + HABIT_PRIOR),
        clicks,
    )


def features(known: Known, log: Log) -> np.ndarray:
    """(S, K, F) float32 of what a request could know; no place, no time, no truth."""
    catalogue, user, item = known.catalogue, log.user_ix[:, None], log.item_ix
    category, price = catalogue.category[item], np.log(catalogue.price)[item]
    columns = [
        known.item_rate[item],
        known.user_category[user, category],
        known.user_kind[user, catalogue.kind[item]],
        np.abs(price - known.user_price[user]),
        price,
        np.broadcast_to(known.user_clicks[user], item.shape),
        np.broadcast_to(log.device[:, None], item.shape),
        category,
    ]
    return np.stack(columns, axis=2).astype(np.float32)


def _habits(who: np.ndarray, what: np.ndarray, users: int, kinds: int) -> np.ndarray:
    """(U, kinds) share of each user's clicks, drawn to everybody's by the weight of a few clicks."""
    counts = np.bincount(who * kinds + what, minlength=users * kinds).reshape(users, kinds)
    everybody = (counts.sum(axis=0) + 1) / (counts.sum() + kinds)
    return (counts + HABIT_PRIOR * everybody) / (counts.sum(axis=1, keepdims=True) + HABIT_PRIOR)


def _trees(rows: np.ndarray, click: np.ndarray, reading: Reading, seed: int) -> lgb.Booster:
    """Trees whose sigmoid is the attraction in slope x attraction + floor, by maximum likelihood.

    With slope 1 and floor 0 it is LightGBM's own binary loss.
    """
    slope, floor = reading.slope.ravel(), reading.floor.ravel()
    tells = slope > 0  # a place that nobody looked at says nothing
    rows, click, slope, floor = rows[tells], click[tells], slope[tells], floor[tells]
    start = float(np.clip((click - floor).sum() / slope.sum(), 1e-4, 0.9))

    def loss(score: np.ndarray, _: lgb.Dataset) -> tuple[np.ndarray, np.ndarray]:
        attraction = 1 / (1 + np.exp(-score))
        chance = np.clip(slope * attraction + floor, 1e-6, 1 - 1e-6)
        steep = slope * attraction * (1 - attraction)  # d chance / d score
        gradient = (chance - click) / (chance * (1 - chance)) * steep
        return gradient, np.maximum(steep**2 / (chance * (1 - chance)), 1e-6)  # Fisher's

    start_score = np.full(len(click), np.log(start / (1 - start)))
    data = lgb.Dataset(rows, label=click.astype(np.float32), init_score=start_score)
    parameters = {
        "objective": loss,
        "learning_rate": LEARNING_RATE,
        "num_leaves": LEAVES,
        "min_data_in_leaf": ROWS_IN_LEAF,
        "min_sum_hessian_in_leaf": 0.1,
        "seed": seed,
        "deterministic": True,
        "force_row_wise": True,
        "num_threads": 1,
        "verbosity": -1,
    }
    return lgb.train(parameters, data, num_boost_round=TREES)
