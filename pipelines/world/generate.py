"""Make a world, or open the one that was made."""

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd

from features.schema import DatasetInfo
from pipelines.loaders.tables import Tables
from pipelines.world import truth as store
from pipelines.world.history import log_past
from pipelines.world.population import populate
from pipelines.world.titles import CATEGORIES
from pipelines.world.truth import Truth

INFO = DatasetInfo(name="world", seen_filter=True, has_impressions=True)
"""Users dislike what they clicked before, and every slate was logged with positions."""


WORLD_END = datetime(2026, 3, 1, tzinfo=UTC)
"""Where every world's logged past ends; the clock of a simulation begins here."""


@dataclass(frozen=True, slots=True)
class World:
    """A population, its catalogue, and where its truth is kept."""

    truth: Truth
    home: Path

    def history(self) -> Tables:
        """The logged past, as any platform could have written it; remembers who clicked what.

        Returns:
            Raw tables for pipelines/ingest.py. Users who have not come yet are not among them.
        """
        events, clicked = log_past(self.truth)
        store.save_clicked(clicked, self.home)
        return Tables(events, self._items(), self._users(), INFO)

    def _items(self) -> pd.DataFrame:
        items, names = self.truth.items, list(CATEGORIES)
        pairs = list(zip(items.category, items.kind, strict=True))
        return pd.DataFrame(
            {
                "item_id": items.ids,
                "title": items.titles,
                "category": [names[category] for category, _ in pairs],
                "subcategory": [CATEGORIES[names[category]][kind] for category, kind in pairs],
                "price": items.price,
                "created_at": _moments(items.launched_at),
            }
        )

    def _users(self) -> pd.DataFrame:
        users = self.truth.users
        known = users.segment == 0
        return pd.DataFrame(
            {
                "user_id": users.ids[known],
                "created_at": _moments(users.joined_at[known]),
                "location": users.location[known],
            }
        )


def make_world(home: Path, scale: str, seed: int, end: datetime = WORLD_END) -> World:
    """Draw a world and save its truth; the same arguments give the same bytes.

    Args:
        home: `Settings.home`; the truth goes to `<home>/truth/world`.
        scale: tiny, small or full.
        seed: of everything random.
        end: midnight (UTC) at which the logged past ends and visits may begin.

    Raises:
        ContractError: an unknown scale.
    """
    world = World(populate(scale, seed, end), home)
    store.save(world.truth, home)
    return world


def open_world(home: Path) -> World:
    """The world that was made in this home.

    Raises:
        ContractError: there is none.
    """
    return World(store.load(home), home)


def _moments(at_us: np.ndarray) -> pd.DatetimeIndex:
    return pd.to_datetime(at_us, unit="us", utc=True).as_unit("us")
