"""One bundle, one version: everything that one answer needs, written and read as a whole.

    manifest.json         id, sha256 of each file, data set, as_of, trained_until, metrics, absent
    features.json         name, version, dtype, default and view of every column, in order; the vocabulary
    items.parquet         item_id, title, category, subcategory, price; row = item_ix everywhere
    item_matrix.npy       (N, Fi) stored item features as of `as_of`
    popular.npy           (N,) all items, the recently popular first
    covisitation_*.npy    neighbours and their scores                        optional
    item_vectors.npy      (N, D) unit vectors of the item tower              optional
    user_tower.safetensors                                                   optional
    ranker.txt            LightGBM text                                      optional
    reference.parquet     features and scores as served at test_from         optional

It names no user: what never changes may name nobody who can ask to be forgotten.
Arrays, text and tables only: nothing here can run code when it is loaded. The FAISS index is built
from the vectors at load, so it cannot disagree with them.
"""

import io
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from features.errors import ContractError
from features.feature_set import FeatureSet
from features.request import Catalogue
from features.schema import DatasetInfo
from models.covisitation import Neighbours
from models.index import Index, build
from models.manifest import read_file, read_manifest
from models.ranker import Ranker
from models.staging import Parts, write
from models.user_tower import UserTower
from models.versions import current, point_to, publish, rollback, verify, version_path

__all__ = [
    "Bundle",
    "Parts",
    "current",
    "load",
    "of_parts",
    "point_to",
    "publish",
    "rollback",
    "verify",
    "version_path",
    "write",
]


@dataclass(frozen=True, slots=True)
class Bundle:
    """A loaded and verified bundle, aligned: row i of every array is `catalogue.item_ids[i]`."""

    id: str
    info: DatasetInfo
    catalogue: Catalogue
    titles: np.ndarray  # (N,) str
    prices: np.ndarray  # (N,) float64; NaN = unknown
    popular: np.ndarray  # (N,) int64
    covisitation: Neighbours | None
    item_vectors: np.ndarray | None  # (N, D) float32, unit length
    tower: UserTower | None
    index: Index | None
    ranker: Ranker | None
    path: Path | None  # None = made in memory, never published
    manifest: dict[str, Any]

    @property
    def absent(self) -> dict[str, str]:
        """Parts this bundle was published without, and why."""
        return self.manifest["absent"]


def load(path: Path) -> Bundle:
    """Read a bundle folder, checking every byte against its manifest.

    Args:
        path: a published version (`version_path(root, id)`) or a staged folder.

    Raises:
        ContractError: a file is missing, changed, a link, misshapen, or made for other features.
    """
    manifest = read_manifest(path)
    return of_parts(_parts(path, manifest), path, manifest)


def of_parts(parts: Parts, path: Path | None, manifest: dict[str, Any]) -> Bundle:
    """Parts as a bundle in memory; training uses it for moments that are never published.

    Args:
        parts: checked arrays.
        path: where they were read from; None = nowhere.
        manifest: at least `id` and `absent`.
    """
    vectors = parts.item_vectors if parts.tower is not None else None
    return Bundle(
        id=manifest["id"],
        info=parts.info,
        catalogue=replace(
            catalogue_of(parts.items, parts.matrix, parts.vocabulary),
            features=parts.features,
            vectors=vectors,
        ),
        titles=parts.items["title"].to_numpy(dtype=str),
        prices=parts.items["price"].to_numpy(dtype=np.float64),
        popular=parts.popular,
        covisitation=parts.covisitation,
        item_vectors=parts.item_vectors,
        tower=parts.tower,
        index=None if vectors is None else build(vectors),
        ranker=parts.ranker,
        path=path,
        manifest=manifest,
    )


def _parts(path: Path, manifest: dict[str, Any]) -> Parts:
    """Every part that the manifest names, parsed from the bytes that it describes."""
    names, info = manifest["files"], manifest["info"]
    items = pd.read_parquet(io.BytesIO(read_file(path, "items.parquet", manifest)))
    n = len(items)
    features, vocabulary = _columns(path, read_file(path, "features.json", manifest))
    covisitation = vectors = tower = ranker = None
    if "covisitation_ix.npy" in names:
        ix = _array(path, "covisitation_ix.npy", manifest, (n, None))
        score = _array(path, "covisitation_score.npy", manifest, ix.shape)
        covisitation = Neighbours(ix, score)
    if "item_vectors.npy" in names:
        vectors = _array(path, "item_vectors.npy", manifest, (n, None))
    if "user_tower.safetensors" in names:
        content = read_file(path, "user_tower.safetensors", manifest)
        tower = UserTower.from_bytes(content, str(path / "user_tower.safetensors"))
    if "ranker.txt" in names:
        text = read_file(path, "ranker.txt", manifest).decode()
        ranker = Ranker.from_text(text, str(path / "ranker.txt"), features)
    return Parts(
        info=DatasetInfo(**{**info, "positive_types": tuple(info["positive_types"])}),
        items=items,
        vocabulary=vocabulary,
        matrix=_array(path, "item_matrix.npy", manifest, (n, len(features.item))),
        popular=_array(path, "popular.npy", manifest, (n,)),
        as_of=manifest["as_of"],
        trained_until=manifest["trained_until"],
        covisitation=covisitation,
        item_vectors=vectors,
        tower=tower,
        ranker=ranker,
        features=features,
    )


def catalogue_of(
    items: pd.DataFrame, matrix: np.ndarray, vocabulary: dict[str, tuple[str, ...]]
) -> Catalogue:
    """The catalogue of ITEM_COLUMNS rows, its category codes taken from a fixed vocabulary.

    The codes are what the ranker was trained on, so a category that appeared later is -1 and
    moves no other code.
    """
    code = {name: place for place, name in enumerate(vocabulary["category"])}
    categories = items["category"].where(items["category"].notna(), None).tolist()
    catalogue = Catalogue.of(
        items["item_id"].tolist(),
        categories,
        items["subcategory"].where(items["subcategory"].notna(), None).tolist(),
        matrix,
    )
    codes = np.array([code.get(name, -1) for name in categories], dtype=np.int64)
    return replace(catalogue, category=codes, vocabulary=vocabulary)


def _columns(path: Path, content: bytes) -> tuple[FeatureSet, dict[str, tuple[str, ...]]]:
    """The features that the bundle reads, once all of them are known to be computed; the vocabulary."""
    stored = json.loads(content)
    features = FeatureSet.told(stored["features"], str(path / "features.json"))
    return features, {key: tuple(names) for key, names in stored["vocabulary"].items()}


def _array(
    path: Path, name: str, manifest: dict[str, Any], shape: tuple[int | None, ...]
) -> np.ndarray:
    array = np.load(io.BytesIO(read_file(path, name, manifest)), allow_pickle=False)
    fits = len(array.shape) == len(shape) and all(
        want in (None, have) for have, want in zip(array.shape, shape, strict=True)
    )
    if not fits:
        raise ContractError(
            f"{path / name}: shape {array.shape}, expected {shape} for the items of items.parquet; "
            "publish again"
        )
    return array
