import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from features.definitions import FEATURE_NAMES
from features.errors import ContractError
from features.feature_set import CURRENT
from models.bundle import load, write
from models.funnel import recommend
from models.manifest import bundle_id, digest
from tests.worlds import shopper, tiny_bundle, tiny_parts


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write(tmp_path, tiny_parts(n_items=21, n_users=6))
    return tmp_path


def forge(folder: Path, name: str, content: bytes) -> None:
    """Replace a file and make the manifest agree: what remains is the check of the content."""
    (folder / name).write_bytes(content)
    rewrite(folder, lambda manifest: manifest["files"].update({name: digest(content)}))


def rewrite(folder: Path, change: Any) -> None:
    manifest = json.loads((folder / "manifest.json").read_text())
    change(manifest)
    manifest["id"] = bundle_id(manifest)
    (folder / "manifest.json").write_text(json.dumps(manifest))


def test_what_was_written_is_what_is_loaded(tmp_path: Path) -> None:
    parts = tiny_parts(n_items=21, n_users=6)
    bundle = tiny_bundle(tmp_path, parts)
    assert bundle.info == parts.info
    assert bundle.catalogue.item_ids.tolist() == parts.items["item_id"].tolist()
    assert bundle.catalogue.vocabulary == parts.vocabulary
    assert bundle.catalogue.category.tolist() == [ix % 3 for ix in range(21)]
    np.testing.assert_array_equal(bundle.catalogue.matrix, parts.matrix)
    np.testing.assert_array_equal(bundle.popular, parts.popular)
    np.testing.assert_array_equal(bundle.prices, parts.items["price"])
    np.testing.assert_array_equal(bundle.item_vectors, parts.item_vectors)
    assert bundle.manifest["as_of"] == parts.as_of


def test_the_same_parts_give_the_same_id_and_the_same_list(tmp_path: Path) -> None:
    one, two = tiny_bundle(tmp_path / "1"), tiny_bundle(tmp_path / "2")
    assert one.id == two.id
    slates = [recommend(b, *shopper(b, ["i3", "i5"]), 10) for b in (one, two)]
    assert slates[0].item_ix.tolist() == slates[1].item_ix.tolist()
    assert tiny_bundle(tmp_path / "3", tiny_parts(seed=8)).id != one.id


def test_a_category_that_appeared_later_moves_no_code(tmp_path: Path) -> None:
    parts = tiny_parts(n_items=21, n_users=6)
    items = parts.items.copy()
    items.loc[4, "category"] = "an earlier letter"
    bundle = tiny_bundle(tmp_path, replace(parts, items=items))
    expected = [ix % 3 for ix in range(21)]
    expected[4] = -1
    assert bundle.catalogue.category.tolist() == expected


def test_parts_left_out_are_none_and_the_reason_is_kept(tmp_path: Path) -> None:
    bundle = tiny_bundle(tmp_path, ranker=None, tower=None, absent={"ranker": "too few rows"})
    assert bundle.ranker is None
    assert bundle.tower is None
    assert bundle.index is None
    assert bundle.absent == {"ranker": "too few rows"}


def test_staging_twice_leaves_nothing_of_the_first_run(tmp_path: Path) -> None:
    write(tmp_path, tiny_parts())
    write(tmp_path, replace(tiny_parts(), ranker=None))
    assert not (tmp_path / "ranker.txt").exists()
    assert load(tmp_path).ranker is None


NAMES = [
    "covisitation_ix.npy",
    "covisitation_score.npy",
    "features.json",
    "item_matrix.npy",
    "item_vectors.npy",
    "items.parquet",
    "popular.npy",
    "ranker.txt",
    "user_tower.safetensors",
]


def test_the_list_of_files_here_is_complete(folder: Path) -> None:
    assert sorted(p.name for p in folder.iterdir()) == sorted([*NAMES, "manifest.json"])


@pytest.mark.parametrize("name", NAMES)
def test_a_truncated_file_is_refused_by_name(folder: Path, name: str) -> None:
    content = (folder / name).read_bytes()
    (folder / name).write_bytes(content[:-1])
    with pytest.raises(
        ContractError, match=rf"{name}: {len(content) - 1} bytes.*expects {len(content)}"
    ):
        load(folder)


@pytest.mark.parametrize("name", [*NAMES, "manifest.json"])
@pytest.mark.parametrize("place", [0.1, 0.5, 0.9])
def test_a_flipped_bit_is_refused_by_name(folder: Path, name: str, place: float) -> None:
    content = bytearray((folder / name).read_bytes())
    content[int(len(content) * place)] ^= 1
    (folder / name).write_bytes(content)
    with pytest.raises(ContractError, match=name):
        load(folder)


@pytest.mark.parametrize("name", [*NAMES, "manifest.json"])
def test_a_missing_file_and_a_link_are_refused_by_name(folder: Path, name: str) -> None:
    elsewhere = folder.parent / f"{folder.name}-{name}"
    (folder / name).rename(elsewhere)
    with pytest.raises(ContractError, match=rf"{name}: cannot be read \(No such file"):
        load(folder)
    (folder / name).symlink_to(elsewhere)
    with pytest.raises(ContractError, match=rf"{name}: is a link.*expected a regular file"):
        load(folder)


@pytest.mark.parametrize("name", ["../popular.npy", "/etc/passwd", "a\\b", "..", "a/b"])
def test_a_manifest_cannot_point_outside_its_folder(folder: Path, name: str) -> None:
    rewrite(folder, lambda manifest: manifest["files"].update({name: digest(b"")}))
    with pytest.raises(ContractError, match="expected plain file names; do not load this bundle"):
        load(folder)


def test_a_manifest_changed_afterwards_is_refused(folder: Path) -> None:
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["as_of"] = "2030-01-01T00:00:00+00:00"
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(ContractError, match=r"manifest.json: says id .* changed after publishing"):
        load(folder)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "not JSON"),
        ("[]", "format 'list', expected 1"),
        ('{"format": 2}', "format 2, expected 1"),
        ('{"format": 1}', "no table of files"),
    ],
)
def test_what_is_no_manifest_of_ours_is_refused(folder: Path, content: str, message: str) -> None:
    (folder / "manifest.json").write_text(content)
    with pytest.raises(ContractError, match=message):
        load(folder)


def test_features_in_another_order_are_refused(folder: Path) -> None:
    stored = json.loads((folder / "features.json").read_text())
    stored["features"][2], stored["features"][3] = stored["features"][3], stored["features"][2]
    forge(folder, "features.json", json.dumps(stored).encode())
    with pytest.raises(ContractError, match=r"ranker.txt: .*first difference .*train again"):
        load(folder)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"version": 9}, r"column 3 is .*'version': 9.* have nothing of that name"),
        ({"default": 7.0}, r"column 3 is .*'default': 7.0.*definitions have .*'default': 0.0"),
    ],
)
def test_a_feature_that_is_not_computed_any_more_is_refused(
    folder: Path, change: dict, told: str
) -> None:
    stored = json.loads((folder / "features.json").read_text())
    stored["features"][2] |= change
    forge(folder, "features.json", json.dumps(stored).encode())
    with pytest.raises(ContractError, match=told + r".*among the retired ones, or train"):
        load(folder)


def test_a_bundle_from_before_versions_reads_the_first_ones(folder: Path) -> None:
    stored = json.loads((folder / "features.json").read_text())
    for feature in stored["features"]:
        if feature["version"] == 1:
            del feature["version"]
    forge(folder, "features.json", json.dumps(stored).encode())
    assert load(folder).catalogue.features == CURRENT


def test_a_feature_too_few_is_refused(folder: Path) -> None:
    stored = json.loads((folder / "features.json").read_text())
    stored["features"].pop()
    forge(folder, "features.json", json.dumps(stored).encode())
    n = len(FEATURE_NAMES)
    with pytest.raises(
        ContractError, match=rf"ranker.txt: trained on {n} columns, .*expected the {n - 1}"
    ):
        load(folder)


def test_an_array_of_another_catalogue_is_refused(folder: Path, tmp_path: Path) -> None:
    write(tmp_path / "other", tiny_parts(n_items=22, n_users=6))
    forge(folder, "popular.npy", (tmp_path / "other" / "popular.npy").read_bytes())
    with pytest.raises(ContractError, match=r"popular.npy: shape \(22,\), expected \(21,\)"):
        load(folder)
