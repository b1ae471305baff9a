"""Publishing: a bundle becomes visible whole or not at all, and the pointer moves in one step.

    bundles/
      current              {"current": id, "previous": id}; one file, so one rename swaps both
      versions/<id>/       never changed once it has this name
      versions/.part-<id>  a copy on its way; readers never look at it

Order is the design. Each file is copied and fsynced, the manifest last, then the folder; only then
does it get its name. A crash at any point leaves a `.part-` folder at worst, which the next publish
of the same bundle removes.
"""

import json
import os
import re
import shutil
import uuid
from collections.abc import Callable
from pathlib import Path

from features.errors import ContractError
from models.manifest import MANIFEST, read_file, read_manifest

After = Callable[[str], None]
"""Called with the name of each step when it is done; the crash tests kill the process there."""

_ID = re.compile(r"[0-9a-f]{16}")


def publish(staging: Path, root: Path, after: After = lambda step: None) -> str:
    """Copy a staged bundle to `root`/versions/<id>/ and return its id; nobody points to it yet.

    Args:
        staging: folder written by `models.bundle.write`.
        root: the bundles folder.
        after: called when a step is done.

    Raises:
        ContractError: the staged bundle does not match its manifest.

    Interview: How do you deploy a model of eight files so that nobody ever sees seven?
        Write them where no reader looks, fsync each, the manifest last, then rename the folder: a
        rename is atomic. Then one more rename swaps the pointer. A reader holds the old bundle or
        the new one, and rolling back is the same swap.
        Trade-off: a copy of every file per version, and old versions need sweeping.
        Shown by: tests/models/test_versions.py::test_a_kill_at_any_step_leaves_a_whole_bundle
    """
    manifest = read_manifest(staging)
    version = root / "versions" / manifest["id"]
    if version.exists():
        verify(version)  # the same content was published before
        return manifest["id"]
    part = version.with_name(f".part-{manifest['id']}")
    # Step 1. Room for the copy; a crashed publish may have left one.
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    after("part made")
    # Step 2. Every file, checked against the manifest while it is read.
    for name in sorted(manifest["files"]):
        _write_durably(part / name, read_file(staging, name, manifest))
        after(f"copied {name}")
    # Step 3. The manifest: from here on the folder is a bundle.
    _write_durably(part / MANIFEST, json.dumps(manifest, indent=1, sort_keys=True).encode())
    after("manifest written")
    _sync_folder(part)
    # Step 4. Its name.
    os.replace(part, version)
    _sync_folder(version.parent)
    after("renamed")
    return manifest["id"]


def point_to(root: Path, bundle_id: str, after: After = lambda step: None) -> None:
    """Make a published version the current one; the one before stays known for `rollback`.

    Raises:
        ContractError: no such version, or it is not whole.
    """
    verify(_version(root, bundle_id))
    pointer = _read_pointer(root)
    if pointer.get("current") == bundle_id:
        return
    content = {"current": bundle_id, "previous": pointer.get("current")}
    part = root / f".current-{uuid.uuid4().hex}"
    _write_durably(part, json.dumps(content).encode())
    after("pointer written")
    os.replace(part, root / "current")
    after("pointer swapped")
    _sync_folder(root)


def rollback(root: Path) -> str:
    """Point to the version that was current before, and return its id; twice is back again.

    Raises:
        ContractError: there is no earlier version.
    """
    previous = _read_pointer(root).get("previous")
    if previous is None:
        raise ContractError(
            f"{root / 'current'}: no earlier bundle is known, expected one; publish a second "
            "bundle before rolling back"
        )
    point_to(root, previous)
    return previous


def current(root: Path) -> str | None:
    """Id of the current bundle; None before the first one."""
    return _read_pointer(root).get("current")


def previous(root: Path) -> str | None:
    """Id of the bundle that `rollback` would point to; None where there is none."""
    return _read_pointer(root).get("previous")


def published(root: Path) -> list[str]:
    """Ids of all published versions, current or not."""
    folder = root / "versions"
    if not folder.exists():
        return []
    return sorted(path.name for path in folder.iterdir() if _ID.fullmatch(path.name))


def version_path(root: Path, bundle_id: str) -> Path:
    """Folder of one published version.

    Raises:
        ContractError: not an id of ours, or no such version.
    """
    return _version(root, bundle_id)


def verify(folder: Path) -> None:
    """Read every file of a bundle against its manifest.

    Raises:
        ContractError: naming the first file that does not fit.
    """
    manifest = read_manifest(folder)
    for name in manifest["files"]:
        read_file(folder, name, manifest)


def _version(root: Path, bundle_id: str) -> Path:
    if not _ID.fullmatch(bundle_id):
        raise ContractError(
            f"bundle id {bundle_id!r}: expected 16 hex digits, as `shortlist promote` prints them"
        )
    path = root / "versions" / bundle_id
    if path.is_symlink() or not path.is_dir():
        raise ContractError(f"{path}: no such bundle; published are {published(root)}")
    return path


def _read_pointer(root: Path) -> dict[str, str | None]:
    path = root / "current"
    if not path.exists():
        return {}
    try:
        pointer = json.loads(path.read_text())
        ids = [pointer["current"], pointer["previous"]]
    except (ValueError, KeyError, TypeError) as error:
        raise ContractError(
            f"{path}: not a pointer ({error!r}), expected current and previous; "
            "promote a bundle again"
        ) from error
    for bundle_id in ids:
        if bundle_id is not None and not _ID.fullmatch(str(bundle_id)):
            raise ContractError(
                f"{path}: names {bundle_id!r}, expected 16 hex digits; promote a bundle again"
            )
    return pointer


def _write_durably(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _sync_folder(path: Path) -> None:
    """A rename is durable only once the folder that holds the name is."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
