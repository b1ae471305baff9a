"""A log whose every chance was written down: users want some kinds, and look at the top first."""

import numpy as np

from pipelines.experiments.log import Catalogue, Log, Logged

USERS, ITEMS, K = 200, 60, 6
THETA = 1 / np.arange(1, K + 1)


def catalogue(seed: int = 0) -> Catalogue:
    rng = np.random.default_rng([seed, 1])
    category = np.arange(ITEMS) % 4
    kind = 3 * category + rng.integers(0, 3, ITEMS)
    return Catalogue(category, kind, rng.lognormal(3, 0.5, ITEMS))


def attraction_of(goods: Catalogue, seed: int = 0, spread: float = 1.0) -> np.ndarray:
    """(USERS, ITEMS) chances: some items please all, and each user likes some kinds."""
    rng = np.random.default_rng([seed, 2])
    taste, quality = rng.normal(0, 1, (USERS, 12)), rng.normal(0, 0.5, ITEMS)
    logit = -2 + spread * (quality + 0.5 * taste[:, goods.kind])
    return 1 / (1 + np.exp(-logit))


def log_of(
    wanted: np.ndarray,
    user_ix: np.ndarray,
    item_ix: np.ndarray,
    seed: int,
    theta: np.ndarray = THETA,
    trust: np.ndarray | None = None,
) -> Log:
    """Slates shown as they are: position-based looking, and trust[k] of unwanted clicks at place k."""
    attraction = wanted[user_ix[:, None], item_ix]
    examination = np.broadcast_to(theta, item_ix.shape)
    regardless = np.zeros(len(theta)) if trust is None else trust
    chance = examination * (attraction + (1 - attraction) * regardless)
    click = np.random.default_rng([seed, 3]).random(item_ix.shape) < chance
    device = np.zeros(len(user_ix), int)
    return Log(user_ix, device, item_ix, click, attraction, examination, chance)


def slates(
    wanted: np.ndarray, count: int, seed: int, leaning: float, whim: float
) -> tuple[np.ndarray, np.ndarray]:
    """Random visits; items drawn evenly, put in order by what all want and by whim, as far as `leaning`."""
    rng = np.random.default_rng([seed, 4])
    user_ix = rng.integers(0, len(wanted), count)
    item_ix = np.argsort(rng.random((count, ITEMS)), axis=1)[:, :K]
    moods = np.random.default_rng(6).normal(0, whim, ITEMS)  # the same in every part of the log
    heat = leaning * (np.log(wanted.mean(axis=0)) + moods)[item_ix] + rng.gumbel(size=item_ix.shape)
    return user_ix, np.take_along_axis(item_ix, np.argsort(-heat, axis=1), axis=1)


def world(
    seed: int = 0,
    count: int = 6000,
    leaning: float = 1.0,
    whim: float = 1.0,
    spread: float = 1.0,
    **how,
) -> Logged:
    """A whole log in the shape in which experiments take it."""
    goods = catalogue(seed)
    wanted = attraction_of(goods, seed, spread)
    logged = log_of(wanted, *slates(wanted, 3 * count, seed, leaning, whim), seed, **how)
    rng = np.random.default_rng([seed, 5])
    test = logged.rows(slice(2 * count, None))
    shuffle = np.argsort(rng.random(test.item_ix.shape), axis=1)
    items = np.take_along_axis(test.item_ix, shuffle, axis=1)
    return Logged(
        catalogue=goods,
        users=USERS,
        past=logged.rows(slice(0, count)),
        recent=logged.rows(slice(count, 2 * count)),
        test=test,
        randomised=log_of(wanted, *slates(wanted, 4 * count, seed + 1, 0.0, 0.0), seed + 1, **how),
        shuffled=log_of(wanted, test.user_ix, items, seed + 2, **how),
        shuffle=shuffle,
    )
