"""What is really so in the world, and the only file that reads or writes it.

The truth lies in `<home>/truth/world/`, beside the data sets and not inside of one, so that no lake,
feature table, bundle or log can hold any of it:

    world.json      the configuration, and where the logged past ends
    items.npz       hidden and public columns of the items
    users.npz       hidden and public columns of the users, newcomers of another segment at the end
    state.npz       what users remember, how satisfied they are, who is gone
    pending.parquet what has happened or will, and has not arrived: late purchases, late events
    timeline.json   what changes, and when
    responses/day=YYYY-MM-DD/<name>.parquet   per request_id: utility, examination, satisfaction

Arrays are read without pickle. Axis letters: U users, N items, C categories, D style dimensions,
R places of a memory, S slates, K list length.
"""

import dataclasses
import json
import os
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from features.errors import ContractError
from pipelines.world.config import WorldConfig

NEVER_US = np.iinfo(np.int64).max
"""A moment that does not come."""


@dataclass(frozen=True, slots=True)
class Items:
    """The catalogue, also what will be launched. What the platform may know comes first."""

    ids: np.ndarray  # (N,) str
    titles: np.ndarray  # (N,) str
    category: np.ndarray  # (N,) int, into titles.CATEGORIES
    told_kind: np.ndarray  # (N,) int, 0..4 within the category, as the shop labels it
    price: np.ndarray  # (N,) money
    launched_at: np.ndarray  # (N,) int64 µs
    # Hidden.
    retires_at: np.ndarray  # (N,) int64 µs, from when it cannot be had
    kind: np.ndarray  # (N,) int, what it really is
    creator: np.ndarray  # (N,) int
    quality: np.ndarray  # (N,) standard normal: what satisfies
    appeal: np.ndarray  # (N,) standard normal: what attracts a click
    style: np.ndarray  # (N, D) what it is like, beyond its category
    price_level: np.ndarray  # (N,) log of price over the category's usual price
    half_life_days: np.ndarray  # (N,) of the charm of the new
    season_peak: np.ndarray  # (N,) day of the year
    hit_at: np.ndarray  # (N,) int64 µs
    stock: np.ndarray  # (N,) units; inf = not counted


@dataclass(frozen=True, slots=True)
class Users:
    """The population, also who will join. What the platform may know comes first."""

    ids: np.ndarray  # (U,) str
    joined_at: np.ndarray  # (U,) int64 µs
    location: np.ndarray  # (U,) str
    device: np.ndarray  # (U,) str, the usual one
    # Hidden.
    taste: np.ndarray  # (U, C) 0..1, 1 = the favourite category
    style: np.ndarray  # (U, D) unit vector: what they like within a category
    budget_level: np.ndarray  # (U,) where on price_level they feel at home
    activity: np.ndarray  # (U,) relative number of sessions
    generosity: np.ndarray  # (U,) logits: how readily they click
    trust: np.ndarray  # (U,) 0..1 in the ranking
    boredom: np.ndarray  # (U,) factor on satiation
    curiosity: np.ndarray  # (U,) factor on novelty
    patience: np.ndarray  # (U,) divides what a second of waiting costs
    hour_shift: np.ndarray  # (U,) hours by which their day is later
    segment: np.ndarray  # (U,) 0 = the population, 1 = newcomers
    minority: np.ndarray  # (U,) bool: tastes where few others' are
    bot: np.ndarray  # (U,) bool: a script


@dataclass(frozen=True, slots=True)
class Truth:
    """All that is so before anybody visits."""

    items: Items
    users: Users
    config: WorldConfig
    end: datetime  # of the logged past

    @property
    def seed(self) -> int:
        """Of everything random."""
        return self.config.seed

    @property
    def scale(self) -> str:
        """Name of the sizes."""
        return self.config.scale


@dataclass(slots=True)
class State:
    """What visits change; see pipelines/world/state.py."""

    day: int  # days since 1970: the last morning that was begun
    taste: np.ndarray  # (U, C) of that day
    style: np.ndarray  # (U, D) of that day
    satisfaction: np.ndarray  # (U,) 0..1, running mean
    gone: np.ndarray  # (U,) bool
    left: np.ndarray  # (U,) int64, the session that was abandoned last
    seen_item: np.ndarray  # (U, R) int32, -1 = nothing
    seen_at: np.ndarray  # (U, R) int64 µs
    seen: np.ndarray  # (U,) int64, how many there were
    clicked_item: np.ndarray  # (U, R) int32, -1 = nothing
    clicked: np.ndarray  # (U,) int64
    stock: np.ndarray  # (N,) units left

    def copy(self) -> "State":
        """A twin that goes its own way."""
        return State(self.day, *(value.copy() for value in list(_columns(self).values())[1:]))


def save(truth: Truth, home: Path) -> None:
    """Write the truth of a world; an earlier world's responses and state are forgotten."""
    folder = _folder(home)
    folder.mkdir(parents=True, exist_ok=True)
    for stale in [*folder.glob("responses/*/*.parquet"), *folder.glob("*.parquet")]:
        stale.unlink()
    for name, table in (("items", truth.items), ("users", truth.users)):
        np.savez(folder / f"{name}.npz", allow_pickle=False, **_columns(table))
    about = {"end": truth.end.isoformat(), "config": truth.config.model_dump(mode="json")}
    _write_text(folder / "world.json", json.dumps(about, indent=1) + "\n")


def load(home: Path) -> Truth:
    """Read what `save` wrote.

    Raises:
        ContractError: no world was made in this home.
    """
    folder = _folder(home)
    if not (folder / "world.json").exists():
        raise ContractError(f"no world in {home}; make one with `shortlist world`")
    about = json.loads((folder / "world.json").read_text())
    config = WorldConfig.model_validate(about["config"])
    with np.load(folder / "items.npz") as items, np.load(folder / "users.npz") as users:
        return Truth(Items(**items), Users(**users), config, datetime.fromisoformat(about["end"]))


def save_state(state: State, home: Path) -> None:
    """Store what users remember; replaced as a whole."""
    path = _folder(home) / "state.npz"
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{os.getpid()}.npz")
    np.savez(part, allow_pickle=False, **_columns(state))
    os.replace(part, path)


def forget_state(home: Path) -> None:
    """Remove what users remember, and what has not arrived."""
    for name in ("state.npz", "pending.parquet"):
        (_folder(home) / name).unlink(missing_ok=True)


def load_state(home: Path) -> State:
    """What `save_state` stored."""
    with np.load(_folder(home) / "state.npz") as stored:
        arrays = {name: stored[name] for name in stored.files}
    return State(**{**arrays, "day": int(arrays["day"])})


def save_pending(events: pd.DataFrame, home: Path) -> None:
    """Store the events that have not arrived; replaced as a whole."""
    path = _folder(home) / "pending.parquet"
    part = path.with_name(f".{os.getpid()}.parquet")
    events.to_parquet(part, index=False)
    os.replace(part, path)


def load_pending(home: Path) -> pd.DataFrame:
    """What `save_pending` stored."""
    return pd.read_parquet(_folder(home) / "pending.parquet")


def save_timeline(changes: list[dict[str, Any]], home: Path) -> None:
    """Write the ground truth of every change, for scoring monitors."""
    _write_text(_folder(home) / "timeline.json", json.dumps(changes, indent=1) + "\n")


def load_timeline(home: Path) -> list[dict[str, Any]]:
    """What `save_timeline` wrote."""
    changes: list[dict[str, Any]] = json.loads((_folder(home) / "timeline.json").read_text())
    return changes


def save_responses(responses: pa.Table, day: date, name: str, home: Path) -> None:
    """Write the truth of the slates of one day; the same name of the same day is replaced."""
    path = _folder(home) / "responses" / f"day={day.isoformat()}" / f"{name}.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}")
    pq.write_table(responses, part, compression="zstd")
    os.replace(part, path)


def load_responses(home: Path) -> pd.DataFrame:
    """The truth of every slate so far; lists are (K,) float32 arrays.

    Raises:
        ContractError: nobody has been shown anything yet.
    """
    files = sorted((_folder(home) / "responses").glob("day=*/*.parquet"))
    if not files:
        raise ContractError(f"no responses in {home}; nobody has been shown anything yet")
    return pa.concat_tables([pq.read_table(file, partitioning=None) for file in files]).to_pandas()


def _folder(home: Path) -> Path:
    return home / "truth" / "world"


def _write_text(path: Path, text: str) -> None:
    part = path.with_name(f".{path.name}.{os.getpid()}")
    part.write_text(text)
    os.replace(part, path)


def _columns(table: Items | Users | State) -> dict[str, Any]:
    return {field.name: getattr(table, field.name) for field in dataclasses.fields(table)}
