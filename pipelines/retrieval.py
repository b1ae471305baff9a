"""The towers between the process that trains them (torch) and the one that uses them (LightGBM).

torch and LightGBM bring an OpenMP runtime each and must not share a process on every system, so
the towers travel as plain arrays.
"""

import json
import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from models.user_tower import UserTower


@dataclass(frozen=True, slots=True)
class Retrieval:
    """Trained towers over the items that the lake had then."""

    item_ids: np.ndarray  # (A,) str
    item_vectors: np.ndarray  # (A, D) float32
    tower: UserTower  # item_inputs (A, D)
    trained_until: str  # ISO time

    def of(self, item_ids: np.ndarray) -> tuple[np.ndarray, UserTower]:
        """Vectors (N, D) and tower for other items; one that came later has a zero vector."""
        row = {item_id: ix for ix, item_id in enumerate(self.item_ids.tolist())}
        rows = np.array([row.get(item_id, -1) for item_id in item_ids.tolist()], dtype=np.int64)
        known = (rows >= 0)[:, None]
        inputs = np.where(known, self.tower.item_inputs[rows], 0.0).astype(np.float32)
        vectors = np.where(known, self.item_vectors[rows], 0.0).astype(np.float32)
        return vectors, replace(self.tower, item_inputs=inputs)


def save(folder: Path, retrieval: Retrieval) -> None:
    """Write the towers, replacing earlier ones."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    np.save(folder / "item_vectors.npy", retrieval.item_vectors, allow_pickle=False)
    (folder / "user_tower.safetensors").write_bytes(retrieval.tower.to_bytes())
    meta = {"item_ids": retrieval.item_ids.tolist(), "trained_until": retrieval.trained_until}
    (folder / "retrieval.json").write_text(json.dumps(meta))


def read(folder: Path) -> Retrieval | None:
    """What `save` wrote; None where there was too little to train on."""
    if not (folder / "retrieval.json").exists():
        return None
    meta = json.loads((folder / "retrieval.json").read_text())
    file = folder / "user_tower.safetensors"
    return Retrieval(
        np.array(meta["item_ids"], dtype=str),
        np.load(folder / "item_vectors.npy", allow_pickle=False),
        UserTower.from_bytes(file.read_bytes(), str(file)),
        meta["trained_until"],
    )
