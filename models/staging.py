"""Writing a bundle folder: the parts that training made, as files, with their manifest.

A staged folder is private to the pipeline; `versions.publish` copies it to where readers look.
"""

import io
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from features.feature_set import CURRENT, FeatureSet, told_as
from features.schema import DatasetInfo
from models.covisitation import Neighbours
from models.manifest import FORMAT, MANIFEST, bundle_id, digest
from models.user_tower import UserTower

if TYPE_CHECKING:  # the towers are trained in a process that must not load LightGBM beside torch
    from models.ranker import Ranker

ITEM_COLUMNS = ["item_id", "title", "category", "subcategory", "price"]


@dataclass(frozen=True, slots=True)
class Parts:
    """What goes into a bundle; the parts that may be None are named with a reason in `absent`."""

    info: DatasetInfo
    items: pd.DataFrame  # ITEM_COLUMNS, one row per item, row = item_ix
    vocabulary: dict[str, tuple[str, ...]]  # "category", "device", "location"
    matrix: np.ndarray  # (N, Fi) stored features of the items, columns `features.item`
    popular: np.ndarray  # (N,)
    as_of: str  # ISO time: what the catalogue, popularity and neighbours know
    trained_until: str  # ISO time: what the towers and the ranker know
    covisitation: Neighbours | None = None
    item_vectors: np.ndarray | None = None  # (N, D)
    tower: UserTower | None = None
    ranker: "Ranker | None" = None
    absent: dict[str, str] | None = None  # part -> why it is missing
    metrics: dict[str, Any] | None = None
    reference: pd.DataFrame | None = None
    features: FeatureSet = CURRENT
    leak: str | None = None  # how its training rows looked ahead; such a bundle is never published


def write(staging: Path, parts: Parts) -> dict[str, Any]:
    """Write a bundle folder that `publish` accepts, and return its manifest.

    Whatever was in `staging` before is replaced file by file; files that this bundle does not have
    are removed, so that a staged folder never mixes two runs.
    """
    contents = _contents(parts)
    staging.mkdir(parents=True, exist_ok=True)
    for stale in staging.iterdir():
        stale.unlink()
    for name, content in contents.items():
        (staging / name).write_bytes(content)
    manifest: dict[str, Any] = {
        "format": FORMAT,
        "files": {name: digest(content) for name, content in contents.items()},
        "info": {**asdict(parts.info), "positive_types": list(parts.info.positive_types)},
        "as_of": parts.as_of,
        "trained_until": parts.trained_until,
        "items": len(parts.items),
        "absent": parts.absent or {},
        "metrics": parts.metrics or {},
    }
    if parts.leak:
        manifest["leak"] = parts.leak
    manifest["id"] = bundle_id(manifest)
    (staging / MANIFEST).write_text(json.dumps(manifest, indent=1, sort_keys=True))
    return manifest


def _contents(parts: Parts) -> dict[str, bytes]:
    """File name -> bytes; the same parts give the same bytes."""
    contents = {
        "features.json": json.dumps(
            {
                "features": [told_as(feature) for feature in parts.features.features],
                "vocabulary": parts.vocabulary,
            },
            indent=1,
            sort_keys=True,
        ).encode(),
        "items.parquet": _parquet(parts.items[ITEM_COLUMNS]),
        "item_matrix.npy": _npy(parts.matrix, np.float64),
        "popular.npy": _npy(parts.popular, np.int64),
    }
    if parts.covisitation is not None:
        contents["covisitation_ix.npy"] = _npy(parts.covisitation.ix, np.int32)
        contents["covisitation_score.npy"] = _npy(parts.covisitation.score, np.float32)
    if parts.item_vectors is not None:
        contents["item_vectors.npy"] = _npy(parts.item_vectors, np.float32)
    if parts.tower is not None:
        contents["user_tower.safetensors"] = parts.tower.to_bytes()
    if parts.ranker is not None:
        contents["ranker.txt"] = parts.ranker.text.encode()
    if parts.reference is not None:
        contents["reference.parquet"] = _parquet(parts.reference)
    return contents


def _npy(array: np.ndarray, dtype: type) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.ascontiguousarray(array, dtype=dtype), allow_pickle=False)
    return buffer.getvalue()


def _parquet(table: pd.DataFrame) -> bytes:
    buffer = io.BytesIO()
    table.to_parquet(buffer, index=False)
    return buffer.getvalue()
