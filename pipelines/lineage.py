"""Where a feature comes from and who reads it: its rows in the table, its code, its readers.

Nothing here is kept by hand: definitions and SQL are the ones that run, readers by name are found in
the sources, and bundles are asked for the columns and the trees that they were published with.
"""

import ast
import json
from datetime import timedelta
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from features.batch_sql import AGGREGATES, DERIVED
from features.definitions import BY_COLUMN, VIEWS, Feature
from features.errors import ContractError
from features.feature_set import FeatureSet
from infra.workspace import Workspace
from models.manifest import read_file, read_manifest
from models.ranker import Ranker
from models.versions import current, version_path
from monitoring.policy import MOMENTARY

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = ("features", "models", "serving", "monitoring", "pipelines")
DEFINED_IN = ("features/definitions.py", "features/batch_sql.py")

CODE = {
    "batch": "features/batch_sql.py",
    "stream": "features/streaming.py::row_of",
    "request": "features/request.py::assemble",
}


def lineage(workspace: Workspace, name: str) -> dict[str, Any]:
    """Everything about one feature, all its versions.

    Args:
        workspace: its published bundles are asked.
        name: a feature's name, or the column of one version.

    Returns:
        versions: what each is and how it is computed; read_by_name_in: sources that name it;
        drift_report: compared or not; bundles: who reads which version, and in how many splits.

    Raises:
        ContractError: no feature of that name.
    """
    versions = [f for f in BY_COLUMN.values() if name in (f.name, f.column)]
    if not versions:
        near = ", ".join(get_close_matches(name, BY_COLUMN, cutoff=0.5)) or "none"
        raise ContractError(f"no feature {name!r}; alike: {near}; docs/features.md lists all")
    columns = {feature.column for feature in versions}
    return {
        "versions": [_told(feature) for feature in sorted(versions, key=lambda f: f.version)],
        "read_by_name_in": readers(columns),
        "drift_report": "not compared, it follows the clock" if columns & MOMENTARY else "compared",
        "bundles": _bundles(workspace, columns),
    }


def _told(feature: Feature) -> dict[str, Any]:
    view = VIEWS[feature.view]
    sql = AGGREGATES.get(feature.column) or DERIVED.get(feature.column)
    return {
        "column": feature.column,
        "version": feature.version,
        "meaning": feature.meaning,
        "dtype": feature.dtype,
        "unit": feature.unit,
        "default": feature.default,
        "window": None if feature.window is None else span_told(feature.window),
        "view": feature.view,
        "source": view.source,
        "tier": view.tier,
        "ttl": None if view.ttl is None else span_told(view.ttl),
        "code": CODE[view.source],
        **({"sql": sql} if sql else {}),
    }


def span_told(span: timedelta) -> str:
    """The largest unit that fits.

    >>> span_told(timedelta(days=90)), span_told(timedelta(hours=1)), span_told(timedelta(minutes=10))
    ('90 d', '1 h', '10 min')
    """
    for unit, name in ((timedelta(days=1), "d"), (timedelta(hours=1), "h")):
        if span >= unit and not span % unit:
            return f"{span // unit} {name}"
    return f"{span // timedelta(minutes=1)} min"


def readers(columns: set[str], root: Path = ROOT) -> list[str]:
    """Sources that name one of the columns, apart from where it is defined."""
    found = []
    for folder in FOLDERS:
        for path in sorted((root / folder).rglob("*.py")):
            where = path.relative_to(root).as_posix()
            if where not in DEFINED_IN and columns & _strings(path):
                found.append(where)
    return found


def _strings(path: Path) -> set[str]:
    nodes = ast.walk(ast.parse(path.read_text()))
    return {n.value for n in nodes if isinstance(n, ast.Constant) and isinstance(n.value, str)}


def _bundles(workspace: Workspace, columns: set[str]) -> list[dict[str, Any]]:
    """Published bundles that read one of the columns, the newest first."""
    served, found = current(workspace.bundles), []
    for folder in sorted((workspace.bundles / "versions").glob("*")):
        try:
            manifest = read_manifest(version_path(workspace.bundles, folder.name))
            stored = json.loads(read_file(folder, "features.json", manifest))["features"]
            features = FeatureSet.told(stored, str(folder / "features.json"))
        except ContractError as error:
            found.append({"bundle": folder.name, "as_of": "", "cannot be served": str(error)})
            continue
        for column in columns & set(features.names):
            read = {"bundle": folder.name, "as_of": manifest["as_of"], "column": column}
            read |= _splits(folder, manifest, features, column)
            found.append(read | {"served": folder.name == served})
    return sorted(found, key=lambda read: read["as_of"], reverse=True)


def _splits(
    folder: Path, manifest: dict[str, Any], features: FeatureSet, column: str
) -> dict[str, Any]:
    """How much the bundle's trees use the column; nothing where it has no ranker."""
    if "ranker.txt" not in manifest["files"]:
        return {}
    text = read_file(folder, "ranker.txt", manifest).decode()
    booster = Ranker.from_text(text, "ranker.txt", features).booster
    gain = booster.feature_importance("gain")
    place = features.place[column]
    return {
        "splits": int(booster.feature_importance("split")[place]),
        "gain_share": round(float(gain[place] / gain.sum()), 4) if gain.sum() else 0.0,
    }
