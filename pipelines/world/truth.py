"""What is really so in the world, and the only file that reads or writes it.

The truth lies in `<home>/truth/world/`, beside the data sets and not inside of one, so that no lake,
feature table, bundle or log can hold any of it:

    items.npz     hidden and public columns of the items
    users.npz     hidden and public columns of the users, newcomers of another segment at the end
    clicked.npy   who clicked what so far (user x N + item), for boredom
    world.json    scale, seed, end

Arrays are read without pickle. Axis letters: U users, N items, C categories, D style dimensions.
"""

import dataclasses
import json
import os
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from features.errors import ContractError


@dataclass(frozen=True, slots=True)
class Items:
    """The catalogue. What the platform may know comes first."""

    ids: np.ndarray  # (N,) str
    titles: np.ndarray  # (N,) str
    category: np.ndarray  # (N,) int, into titles.CATEGORIES
    kind: np.ndarray  # (N,) int, 0..4 within the category
    price: np.ndarray  # (N,) money
    launched_at: np.ndarray  # (N,) int64 µs
    # Hidden.
    quality: np.ndarray  # (N,) standard normal
    style: np.ndarray  # (N, D) what it is like, beyond its category
    price_level: np.ndarray  # (N,) log of price over the category's usual price


@dataclass(frozen=True, slots=True)
class Users:
    """The population. What the platform may know comes first."""

    ids: np.ndarray  # (U,) str
    joined_at: np.ndarray  # (U,) int64 µs
    location: np.ndarray  # (U,) str
    device: np.ndarray  # (U,) str, the usual one
    # Hidden.
    taste: np.ndarray  # (U, C) 0..1, 1 = the favourite category
    style: np.ndarray  # (U, D) what they like within a category
    budget_level: np.ndarray  # (U,) where on price_level they feel at home
    activity: np.ndarray  # (U,) relative number of visits; 0 = nobody yet (the newcomers)
    segment: np.ndarray  # (U,) 0 = the population, 1 = newcomers


@dataclass(frozen=True, slots=True)
class Truth:
    """All of it."""

    items: Items
    users: Users
    scale: str
    seed: int
    end: datetime  # of the logged past


def save(truth: Truth, home: Path) -> None:
    """Write the truth of a world; an earlier world's is replaced, and what was clicked forgotten."""
    folder = _folder(home)
    folder.mkdir(parents=True, exist_ok=True)
    for name, table in (("items", truth.items), ("users", truth.users)):
        np.savez(folder / f"{name}.npz", allow_pickle=False, **_columns(table))
    about = {"scale": truth.scale, "seed": truth.seed, "end": truth.end.isoformat()}
    save_clicked(np.empty(0, np.int64), home)
    part = folder / f".{os.getpid()}.json"
    part.write_text(json.dumps(about) + "\n")
    os.replace(part, folder / "world.json")  # last, and whole: with it, the world is there


def load(home: Path) -> Truth:
    """Read what `save` wrote.

    Raises:
        ContractError: no world was made in this home.
    """
    folder = _folder(home)
    if not (folder / "world.json").exists():
        raise ContractError(f"no world in {home}; make one with `shortlist world`")
    about = json.loads((folder / "world.json").read_text())
    with np.load(folder / "items.npz") as items, np.load(folder / "users.npz") as users:
        return Truth(
            Items(**items),
            Users(**users),
            about["scale"],
            about["seed"],
            datetime.fromisoformat(about["end"]),
        )


def save_clicked(keys: np.ndarray, home: Path) -> None:
    """Store who clicked what: user x N + item, sorted; replaced as a whole."""
    path = _folder(home) / "clicked.npy"
    part = path.with_name(f".{os.getpid()}.npy")
    np.save(part, np.unique(keys), allow_pickle=False)
    os.replace(part, path)


def load_clicked(home: Path) -> np.ndarray:
    """What `save_clicked` stored."""
    keys: np.ndarray = np.load(_folder(home) / "clicked.npy", allow_pickle=False)
    return keys


def _folder(home: Path) -> Path:
    return home / "truth" / "world"


def _columns(table: Items | Users) -> dict[str, Any]:
    return {field.name: getattr(table, field.name) for field in dataclasses.fields(table)}
