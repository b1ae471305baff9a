"""Make a world, or open the one that was made."""

import hashlib
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pandas as pd
import pyarrow as pa

from features.schema import DatasetInfo
from pipelines.loaders.tables import Tables
from pipelines.world import truth as store
from pipelines.world.config import DEFAULT_FAMILY, WorldConfig, configure
from pipelines.world.happenings import moments
from pipelines.world.history import events, log_past, responses
from pipelines.world.population import populate, to_us
from pipelines.world.state import fresh_state
from pipelines.world.timeline import timeline
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
        """The logged past, as any platform could have written it; its truth goes to the store.

        Returns:
            Raw tables for pipelines/ingest.py: what arrived by the end, and the catalogue and users
            of that moment. What arrives later waits in the truth (`pending`).
        """
        truth, state, tables = self.truth, fresh_state(self.truth), []
        for day in log_past(truth, state):
            tables.append(events(truth, day))
            name = self._first_day() + timedelta(days=day.number)
            told = responses(truth, day.played.visits, day.played.reaction, day.request_ids)
            store.save_responses(told, name, "history", self.home)
        every = pd.concat(tables, ignore_index=True)
        arrived = every["seen_at"] < pd.Timestamp(truth.end)
        store.save_state(state, self.home)
        store.save_pending(every[~arrived].reset_index(drop=True), self.home)
        return Tables(every[arrived].reset_index(drop=True), self.items(), self.users(), INFO)

    def items(self, at: datetime | None = None) -> pd.DataFrame:
        """The catalogue as the platform knows it at a moment (default: the end of the past)."""
        items, names = self.truth.items, list(CATEGORIES)
        known = items.launched_at < to_us(at or self.truth.end)
        pairs = list(zip(items.category[known], items.told_kind[known], strict=True))
        return pd.DataFrame(
            {
                "item_id": items.ids[known],
                "title": items.titles[known],
                "category": [names[category] for category, _ in pairs],
                "subcategory": [CATEGORIES[names[category]][kind] for category, kind in pairs],
                "price": items.price[known],
                "created_at": moments(items.launched_at[known]),
            }
        )

    def users(self, at: datetime | None = None) -> pd.DataFrame:
        """Who has an account at a moment (default: the end of the past)."""
        users = self.truth.users
        known = (users.segment == 0) & (users.joined_at < to_us(at or self.truth.end))
        return pd.DataFrame(
            {
                "user_id": users.ids[known],
                "created_at": moments(users.joined_at[known]),
                "location": users.location[known],
            }
        )

    def _first_day(self) -> date:
        return (self.truth.end - timedelta(days=self.truth.config.days)).date()


def make_world(
    home: Path,
    scale: str,
    seed: int,
    end: datetime = WORLD_END,
    *,
    family: str = DEFAULT_FAMILY,
    preset: str = "base",
) -> World:
    """Draw a world and save its truth; the same arguments give the same bytes.

    Args:
        home: `Settings.home`; the truth goes to `<home>/truth/world`.
        scale: tiny, small or full.
        seed: of everything random.
        end: midnight (UTC) at which the logged past ends and visits may begin.
        family: position, trust or cascade.
        preset: a name of `config.PRESETS`.

    Raises:
        ContractError: an unknown name.
    """
    return make(configure(scale, seed, family, preset), home, end)


def make(config: WorldConfig, home: Path, end: datetime = WORLD_END) -> World:
    """As `make_world`, from a whole configuration."""
    world = World(populate(config, end), home)
    store.save(world.truth, home)
    store.save_state(fresh_state(world.truth), home)
    store.save_pending(pd.DataFrame(), home)
    store.save_timeline(timeline(world.truth), home)
    return world


def open_world(home: Path) -> World:
    """The world that was made in this home.

    Raises:
        ContractError: there is none.
    """
    return World(store.load(home), home)


def fingerprint(log: pd.DataFrame) -> str:
    """sha256 of an event log: its columns, types and values, in their order."""
    digest = hashlib.sha256()
    plain = pa.Table.from_pandas(log, preserve_index=False).replace_schema_metadata(None)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, plain.schema) as stream:
        stream.write_table(plain.combine_chunks())
    digest.update(sink.getvalue())
    return digest.hexdigest()
