"""Small worlds whose right answer is known, and a tiny bundle that any test can load."""

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd

from features.definitions import FEATURE_NAMES
from features.feature_set import CURRENT
from features.request import Context, UserRow, UserState, user_state
from features.schema import DatasetInfo
from infra.workspace import Workspace
from models import covisitation, ranker
from models.bundle import Bundle, Parts, load, write
from models.popularity import popular_order
from models.split import Split, time_split
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
        matrix=rng.uniform(0, 9, (n_items, len(CURRENT.item))),
        popular=popular_order(item_ix, event_at, n_items),
        as_of="2026-03-01T00:00:00+00:00",
        trained_until="2026-02-20T00:00:00+00:00",
        covisitation=covisitation.fit(user_ix, item_ix, n_items),
        item_vectors=vectors,
        tower=random_tower(rng, vectors),
        ranker=random_ranker(rng),
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


@dataclass(frozen=True, slots=True)
class Played:
    """Positives of a world, with what its maker knows."""

    user_ix: np.ndarray
    item_ix: np.ndarray
    event_at: np.ndarray  # µs
    n_items: int
    answer: np.ndarray  # (users,) the item that should come next


def checkerboard(n_users: int = 60, n_items: int = 22, seed: int = 3) -> Played:
    """Even users want even items, odd users odd ones, all but one: the only right answer."""
    rng = np.random.default_rng(seed)
    users, items, answer = [], [], []
    for user in range(n_users):
        wanted = rng.permutation(np.arange(user % 2, n_items, 2))
        answer.append(wanted[0])
        for _ in range(3):  # three rounds, so that every item is seen to follow every other
            users.extend([user] * (len(wanted) - 1))
            items.extend(rng.permutation(wanted[1:]))
    return _played(users, items, n_items, answer)


def two_tastes(n_users: int = 80, per_taste: int = 12, seed: int = 5) -> Played:
    """Three groups of items; every user wants two of them."""
    rng = np.random.default_rng(seed)
    users, items, answer = [], [], []
    for user in range(n_users):
        left_out = user % 3
        wanted = [ix for ix in range(3 * per_taste) if ix // per_taste != left_out]
        for _ in range(4):
            chosen = rng.choice(wanted, 10, replace=False)
            users.extend([user] * len(chosen))
            items.extend(chosen)
        answer.append(left_out)  # the group that nobody should be shown
    return _played(users, items, 3 * per_taste, answer)


def popularity_trap(n_users: int = 120, n_items: int = 31, seed: int = 9) -> Played:
    """Half of what anybody takes is item 0, so item 0 is the best answer for everybody.

    The rest follows the checkerboard. In-batch negatives push item 0 down at each appearance: a
    model that does not correct for that ranks it below every item of the user's own colour.
    """
    rng = np.random.default_rng(seed)
    users, items = [], []
    for user in range(n_users):
        own = np.arange(1 + user % 2, n_items, 2)
        taken = np.where(rng.random(24) < 0.5, 0, rng.choice(own, 24))
        users.extend([user] * len(taken))
        items.extend(taken)
    return _played(users, items, n_items, [0] * n_users)


def _played(users: list[int], items: list[int], n_items: int, answer: list[int]) -> Played:
    at = NOW_US - 60_000_000 * np.arange(len(users), 0, -1)
    return Played(np.array(users), np.array(items), at, n_items, np.array(answer))


def history_of(world: Played, user: int) -> np.ndarray:
    """What the user took, newest first."""
    return world.item_ix[world.user_ix == user][::-1]


def purchases(n_users: int = 50, n_items: int = 30, days: int = 40, seed: int = 11) -> pd.DataFrame:
    """A shop where everybody buys the same three things again, and now and then what is popular."""
    rng = np.random.default_rng(seed)
    rows = []
    for user in range(n_users):
        favourites = rng.choice(n_items, 3, replace=False)
        for _ in range(25):
            item = rng.choice(favourites) if rng.random() < 0.7 else min(rng.zipf(1.6), n_items) - 1
            rows.append((f"u{user:02d}", f"i{item:02d}", int(rng.integers(0, days * 86_400))))
    frame = pd.DataFrame(rows, columns=["user_id", "item_id", "second"])
    return _raw(frame, days).assign(event_type="purchase", value=2.5)


def slates(
    n_users: int = 50, n_items: int = 24, days: int = 30, seed: int = 12, k: int = 6
) -> pd.DataFrame:
    """Logged slates: users click items of their own colour, and the upper places more often."""
    rng = np.random.default_rng(seed)
    rows = []
    for user in range(n_users):
        for visit in range(18):
            second, request = int(rng.integers(0, days * 86_400)), f"r{user:02d}-{visit:02d}"
            for place, item in enumerate(rng.choice(n_items, k, replace=False), start=1):
                shown = (f"u{user:02d}", f"i{item:02d}", second, request, place)
                rows.append((*shown, "impression"))
                if rng.random() < (0.6 if item % 2 == user % 2 else 0.05) / place**0.5:
                    rows.append((*shown[:2], second + 10 * place, request, place, "click"))
    columns = ["user_id", "item_id", "second", "request_id", "position", "event_type"]
    frame = _raw(pd.DataFrame(rows, columns=columns), days)
    device = np.where(frame["second"] % 2 == 0, '{"device": "app"}', '{"device": "web"}')
    return frame.assign(context=device)


def leaky_clock(
    n_users: int = 1500, n_items: int = 7, days: int = 20, seed: int = 21
) -> pd.DataFrame:
    """Everybody comes once, is shown one item, and throws a coin whether to click it.

    Nothing that was known before predicts a coin: half right is the best there is. Whoever joins a
    row that already counts the click is right every time.
    """
    rng = np.random.default_rng(seed)
    rows = []
    for user in range(n_users):
        second, item = int(rng.integers(0, days * 86_400 - 60)), f"i{rng.integers(n_items):02d}"
        shown = (f"u{user:04d}", item)
        rows.append((*shown, second, f"r{user:04d}", 1, "impression"))
        if rng.random() < 0.5:
            rows.append((*shown, second + 30, f"r{user:04d}", 1, "click"))
    columns = ["user_id", "item_id", "second", "request_id", "position", "event_type"]
    return _raw(pd.DataFrame(rows, columns=columns), days)


def _raw(frame: pd.DataFrame, days: int) -> pd.DataFrame:
    """Times counted from `days` before NOW_US."""
    start = pd.Timestamp(NOW_US, unit="us", tz="UTC") - pd.Timedelta(days=days)
    return frame.assign(event_at=start + pd.to_timedelta(frame["second"], unit="s"))


def filled(workspace: Workspace, events: pd.DataFrame, info: DatasetInfo) -> Split:
    """Lake, batch and streaming features of raw events; returns the split."""
    from infra.clients import open_feast
    from pipelines.build_features import build_features
    from pipelines.ingest import ingest
    from pipelines.loaders.tables import Tables
    from pipelines.materialize import apply_views
    from pipelines.past import read_past

    ids = sorted(events["item_id"].unique())
    items = pd.DataFrame({"item_id": ids, "title": [f"Item {i}" for i in ids]})
    items["category"] = [f"c{int(item[1:]) % 2}" for item in ids]
    items["price"] = [1.0 + int(item[1:]) for item in ids]
    now = datetime.fromtimestamp(NOW_US / 1e6, UTC)
    ingest(workspace, Tables(events.drop(columns="second"), items, None, info), now=now)
    split = time_split(read_past(workspace).positives["event_us"].to_numpy())
    first = split.ranker_from.date() - timedelta(days=1)
    days = (now.date() - first).days + 2
    build_features(workspace, [first + timedelta(days=d) for d in range(days)], "duckdb")
    apply_views(open_feast(workspace), workspace.offline)
    return split
