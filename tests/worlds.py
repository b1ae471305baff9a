"""Small worlds whose right answer is known, and a tiny bundle that any test can load."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from features.definitions import FEATURE_NAMES, of_view
from features.request import Context, UserRow, UserState, user_state
from features.schema import DatasetInfo
from models import covisitation, ranker
from models.bundle import Bundle, Parts, load, write
from models.popularity import popular_order
from models.user_tower import UserTower

NOW_US = 1_772_323_200_000_000
"""2026-03-01T00:00Z."""


def tiny_parts(
    n_items: int = 60, n_users: int = 40, seed: int = 7, *, seen_filter: bool = False
) -> Parts:
    """A bundle with every part, of random contents and right shapes; seconds-cheap."""
    rng = np.random.default_rng(seed)
    user_ix, item_ix = rng.integers(0, n_users, 600), rng.zipf(1.5, 600) % n_items
    event_at = NOW_US - rng.integers(1, 20 * 86_400_000_000, 600)
    vectors = rng.normal(size=(n_items, 8)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    categories = ("books", "games", "music")
    items = pd.DataFrame(
        {
            "item_id": [f"i{ix}" for ix in range(n_items)],
            "title": [f"Item {ix}" for ix in range(n_items)],
            "category": [categories[ix % 3] for ix in range(n_items)],
            "subcategory": [f"{categories[ix % 3]}-{ix % 9}" for ix in range(n_items)],
            "price": np.round(rng.uniform(1, 50, n_items), 2),
        }
    )
    return Parts(
        info=DatasetInfo("tiny", seen_filter=seen_filter, has_impressions=True),
        items=items,
        vocabulary={"category": categories, "device": ("app", "web"), "location": ("north",)},
        daily=rng.uniform(0, 9, (n_items, len(of_view("item_daily")))),
        popular=popular_order(item_ix, event_at, n_items),
        as_of="2026-03-01T00:00:00+00:00",
        trained_until="2026-02-20T00:00:00+00:00",
        covisitation=covisitation.fit(user_ix, item_ix, n_items),
        item_vectors=vectors,
        tower=random_tower(rng, vectors),
        ranker=random_ranker(rng),
        sample_users=[f"u{ix}" for ix in range(5)],
    )


def random_tower(rng: np.random.Generator, vectors: np.ndarray, hidden: int = 6) -> UserTower:
    """A tower of the right shapes whose output leans on the newest items."""
    d = vectors.shape[1]

    def small(*shape: int) -> np.ndarray:
        return (0.05 * rng.normal(size=shape)).astype(np.float32)

    return UserTower(
        item_inputs=vectors,
        place_logit=np.linspace(0, -3, 50, dtype=np.float32),
        hidden_weight=small(hidden, 2 * d),
        hidden_bias=small(hidden),
        out_weight=small(d, hidden),
        out_bias=small(d),
    )


def random_ranker(rng: np.random.Generator) -> ranker.Ranker:
    """Trained on noise plus a liking for popular items: enough to order candidates."""
    features = rng.uniform(0, 5, (400, len(FEATURE_NAMES))).astype(np.float32)
    wanted = features[:, FEATURE_NAMES.index("item_positives_30d")] > 3
    settings = ranker.RankerSettings(trees=5, leaves=7)
    return ranker.fit(features, wanted.astype(np.int8), np.full(20, 20), seed=1, settings=settings)


def tiny_bundle(folder: Path, parts: Parts | None = None, **changes: object) -> Bundle:
    """Write and load a bundle; `changes` replace parts, for instance `ranker=None`."""
    write(folder, replace(parts or tiny_parts(), **changes))
    return load(folder)


def shopper(bundle: Bundle, items: list[str], now_us: int = NOW_US) -> tuple[UserState, Context]:
    """A user whose history is `items`, newest first, a minute apart, and a request at `now_us`."""
    row = UserRow.unknown()
    row.history_items.extend(items)
    row.history_at.extend(now_us - 60_000_000 * (place + 1) for place in range(len(items)))
    return user_state(row, bundle.catalogue), Context(now_us)
