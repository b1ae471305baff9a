"""Which results belong to which question: one hash over card, scale, code and libraries.

A seed that was measured under one hash never counts under another. Comments, docstrings and line
breaks do not enter it, so better prose costs nobody a night; a changed constant does.
"""

import ast
import hashlib
import inspect
import json
import re
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

from infra.settings import PROJECT
from pipelines.experiments.card import Card, plain

FOLDERS = ("features", "infra", "models", "monitoring", "pipelines", "serving")
LIBRARIES = ("duckdb", "feast", "lightgbm", "numpy", "pandas", "scipy", "torch")
"""Whose numbers may move with their version, where they are used."""

MODULE = re.compile(rf"({'|'.join(FOLDERS)})(\.[a-z_]\w*)+")
"""A dotted name below one of the folders."""


def identity(card: Card, scale: str, measure: Callable[..., Any]) -> str:
    """64 hex digits that change when any number of the experiment could.

    Covered: the card, the scale, the code of every module of ours that `measure`'s file reaches by
    imports, and the versions of the numerical libraries that those import. Not covered: seeds and
    family, which name the stored files, and charts, pages and commands, which no number passes through.
    """
    files = sorted(reached(Path(inspect.getsourcefile(inspect.unwrap(measure)) or "")))
    used = {name.split(".")[0] for path in files for name in _named(path)}
    parts = {
        "card": plain(card),
        "scale": scale,
        "code": {_name(path): code_of(path) for path in files},
        "libraries": {name: version(name) for name in LIBRARIES if name in used},
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def reached(start: Path) -> set[Path]:
    """`start` and every file of our folders that it imports, directly or through others."""
    found, waiting = set(), [start]
    while waiting:
        path = waiting.pop()
        if path not in found:
            found.add(path)
            waiting.extend(_imports(path))
    return found


def code_of(path: Path) -> str:
    """sha256 of what the file does: its syntax tree without docstrings."""
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            node.body = [line for line in node.body if not _is_text(line)] or [ast.Pass()]
    return hashlib.sha256(ast.dump(tree).encode()).hexdigest()


def _name(path: Path) -> str:
    """The same on every machine."""
    return path.relative_to(PROJECT).as_posix() if path.is_relative_to(PROJECT) else path.name


def _is_text(line: ast.stmt) -> bool:
    """A docstring, or the string below a constant."""
    return (
        isinstance(line, ast.Expr)
        and isinstance(line.value, ast.Constant)
        and isinstance(line.value.value, str)
    )


def _imports(path: Path) -> list[Path]:
    ours = [name for name in _named(path) if name.split(".")[0] in FOLDERS]
    return [file for name in ours for file in _files(name)]


def _named(path: Path) -> list[str]:
    """Modules that a file imports, or starts as a process of their own and so names in a string."""
    names = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            # A name imported from a package may be a module of it.
            names += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            names += [node.value] if MODULE.fullmatch(node.value) else []
    return names


def _files(module: str) -> list[Path]:
    """The module's file and the `__init__` of every package above it."""
    steps = module.split(".")
    packages = [PROJECT.joinpath(*steps[:end], "__init__.py") for end in range(1, len(steps) + 1)]
    return [
        path for path in [PROJECT.joinpath(*steps).with_suffix(".py"), *packages] if path.exists()
    ]
