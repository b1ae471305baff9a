"""The manifest: which files a bundle consists of, and the proof that these are they.

A bundle is a flat folder. `manifest.json` names every other file with its size and sha256, and the
bundle's id is a hash of that text, so a file cannot change without the id changing too. Every file
is read once, checked, and parsed from the very bytes that were checked.
"""

import hashlib
import json
import os
import stat
from pathlib import Path
from typing import Any

from features.errors import ContractError

MANIFEST = "manifest.json"
FORMAT = 1
"""Of the bundle's layout; another number is refused."""

MAX_MANIFEST_BYTES = 1_000_000
"""A manifest is a few kilobytes; more is somebody else's file."""


def digest(content: bytes) -> dict[str, Any]:
    """How the manifest describes one file."""
    return {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}


def bundle_id(manifest: dict[str, Any]) -> str:
    """Sixteen hex digits that name the content: everything in the manifest but the id itself.

    Examples:
        >>> a = bundle_id({"files": {}, "as_of": "2026-03-01"})
        >>> a == bundle_id({"as_of": "2026-03-01", "files": {}, "id": "whatever"})
        True
    """
    content = {key: value for key, value in manifest.items() if key != "id"}
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a bundle folder, checked in itself; the files are checked as they are read.

    Raises:
        ContractError: missing, unreadable, of another format, naming a path outside the folder,
            or not matching its own id.
    """
    content = _read_plain_file(folder, MANIFEST, MAX_MANIFEST_BYTES)
    try:
        manifest = json.loads(content)
    except ValueError as error:
        raise ContractError(f"{folder / MANIFEST}: not JSON ({error}); publish again") from error
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        seen = manifest.get("format") if isinstance(manifest, dict) else type(manifest).__name__
        raise ContractError(
            f"{folder / MANIFEST}: format {seen!r}, expected {FORMAT}; publish again with this code"
        )
    files = manifest.get("files")
    if not isinstance(files, dict):
        raise ContractError(f"{folder / MANIFEST}: no table of files; publish again")
    for name in files:
        if name in ("", ".", "..", MANIFEST) or "/" in name or "\\" in name or "\0" in name:
            raise ContractError(
                f"{folder / MANIFEST}: names {name!r}, expected plain file names; "
                "do not load this bundle"
            )
    if manifest.get("id") != bundle_id(manifest):
        raise ContractError(
            f"{folder / MANIFEST}: says id {manifest.get('id')!r} but its content hashes to "
            f"{bundle_id(manifest)!r}; it was changed after publishing, publish again"
        )
    return manifest


def is_trained(manifest: dict[str, Any]) -> bool:
    """Whether anything in this bundle was learned; else its lists are popularity alone."""
    return not {"ranker.txt", "user_tower.safetensors"}.isdisjoint(manifest["files"])


def read_file(folder: Path, name: str, manifest: dict[str, Any]) -> bytes:
    """The content of one file, exactly as the manifest describes it.

    Raises:
        ContractError: not in the manifest, missing, a link, of another size or another hash.
    """
    entry = manifest["files"].get(name)
    if entry is None:
        raise ContractError(f"{folder / name}: not in the manifest; publish again")
    content = _read_plain_file(folder, name, int(entry["bytes"]))
    if (seen := digest(content)) != entry:
        raise ContractError(
            f"{folder / name}: {seen['bytes']} bytes with sha256 {seen['sha256'][:12]}..., the "
            f"manifest expects {entry['bytes']} with {entry['sha256'][:12]}...; publish again"
        )
    return content


def _read_plain_file(folder: Path, name: str, limit: int) -> bytes:
    """At most `limit` + 1 bytes of a regular file; the last step of the path may not be a link."""
    path = folder / name
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    except OSError as error:
        kind = "is a link" if path.is_symlink() else "cannot be read"
        raise ContractError(
            f"{path}: {kind} ({error.strerror}), expected a regular file; publish again"
        ) from error
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise ContractError(f"{path}: not a regular file; publish again")
        return file.read(limit + 1)
