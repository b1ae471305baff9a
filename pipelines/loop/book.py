"""What is written down of each day of an arm, and how a day is committed.

<arm>/book/day-03/morning.json    what the night changed; from then on it is not done again
events.parquet  the log of the day
slates.parquet  one row per slate, with its truth
states.json, truth/…   where the next day begins
day.json        written last: the day is done
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from features.streaming import State as StreamState
from infra.reports import write_json
from monitoring.shown import Records
from pipelines.loop.day import Day
from pipelines.loop.pending import Pending
from pipelines.world import truth as store
from pipelines.world.generate import fingerprint
from pipelines.world.population import DAY_US
from pipelines.world.truth import State, Truth

NEW_DAYS = 14
"""An item launched no longer ago counts as new."""


@dataclass(frozen=True, slots=True)
class Book:
    """The days of one arm."""

    folder: Path

    def day(self, number: int) -> Path:
        """Folder of one day, 0 = the first."""
        return self.folder / f"day-{number:02d}"

    def done(self) -> int:
        """Days that are committed, counted from the first on."""
        number = 0
        while (self.day(number) / "day.json").exists():
            number += 1
        return number

    def morning(self, number: int) -> dict[str, Any] | None:
        """What the night before a day changed; None where it was not finished."""
        path = self.day(number) / "morning.json"
        found: dict[str, Any] | None = json.loads(path.read_text()) if path.exists() else None
        return found

    def told(self, number: int) -> dict[str, Any]:
        """A committed day."""
        found: dict[str, Any] = json.loads((self.day(number) / "day.json").read_text())
        return found

    def begin(self, number: int, morning: Mapping[str, Any]) -> None:
        """The night is over."""
        write_json(self.day(number) / "morning.json", morning)

    def commit(
        self, number: int, day: Day, truth: Truth, state: State, pending: Pending,
        streams: Mapping[str, StreamState], told: Mapping[str, Any],
    ) -> None:  # fmt: skip
        """Write a day down; what a broken run left of it is replaced."""
        folder = self.day(number)
        store.save_state(state, folder)
        store.save_pending(pending.table(), folder)
        (folder / "states.json").write_text(json.dumps(streams))
        (folder / "served.json").write_text(json.dumps(day.served))
        day.events.to_parquet(folder / "events.parquet", index=False)
        slates(day, truth).to_parquet(folder / "slates.parquet", index=False)
        write_json(folder / "day.json", told)
        self._forget_states_before(number)

    def state(self, number: int) -> tuple[State, Pending, dict[str, StreamState]]:
        """Where the day after `number` begins."""
        folder = self.day(number)
        streams: dict[str, StreamState] = json.loads((folder / "states.json").read_text())
        return store.load_state(folder), Pending(store.load_pending(folder)), streams

    def served(self, number: int) -> Records:
        """The slates of the newest day with the features that were read."""
        records = json.loads((self.day(number) / "served.json").read_text())
        return [(key, value) for key, value in records]

    def _forget_states_before(self, number: int) -> None:
        """Megabytes each, and only the newest is ever read."""
        if number:
            store.forget_state(self.day(number - 1))
            for name in ("states.json", "served.json"):
                (self.day(number - 1) / name).unlink(missing_ok=True)


def slates(day: Day, truth: Truth) -> pd.DataFrame:
    """One row per slate, in order of time."""
    visits, did = day.played.visits, day.played.reaction
    price = truth.items.price[day.played.item_ix]
    return pd.DataFrame(
        {
            "user_id": truth.users.ids[visits.user_ix],
            "request_id": day.request_ids,
            "at_us": visits.at_us,
            "clicks": did.click.sum(axis=1),
            "utility": did.utility.sum(axis=1),
            "purchases": did.purchase.sum(axis=1),
            "revenue": (price * (did.purchase & ~did.returned)).sum(axis=1),
            "left": did.left,
        }
    )


def measured(day: Day, truth: Truth, start_us: int) -> dict[str, Any]:
    """The day in numbers: what a dashboard shows, and what only the truth knows."""
    did, item_ix, items = day.played.reaction, day.played.item_ix, truth.items
    table = slates(day, truth)
    on_sale = (items.launched_at < start_us) & (items.retires_at > start_us)
    shown = np.bincount(item_ix.ravel(), minlength=len(items.ids)).astype(float)
    new = items.launched_at[item_ix] > start_us - NEW_DAYS * DAY_US
    return {
        "slates": len(table),
        "left": int(did.left.sum()),
        "users": int(table["user_id"].nunique()),
        "clicks": int(did.click.sum()),
        "utility": float(did.utility.sum()),
        "satisfaction": float((did.click * did.satisfaction).sum()),
        "carts": int(did.cart.sum()),
        "purchases": int(did.purchase.sum()),
        "returned": int(did.returned.sum()),
        "revenue": float(table["revenue"].sum()),
        "coverage": float((shown[on_sale] > 0).mean()),
        "gini": gini(shown[on_sale]),
        "new_share": float(new.mean()),
        "log_sha256": fingerprint(day.events),
    }


def gini(shares: np.ndarray) -> float:
    """Of exposures over (N,) items: 0 = all alike, near 1 = one item has all.

    Examples:
        >>> gini(np.array([1.0, 1.0, 1.0]))
        0.0
        >>> round(gini(np.array([0.0, 0.0, 0.0, 1.0])), 2)
        0.75
    """
    n, ordered = len(shares), np.sort(shares)
    if not ordered.sum():
        return 0.0
    rank = np.arange(1, n + 1)
    return float(((2 * rank - n - 1) * ordered).sum() / (n * ordered.sum()))
