"""The arrows of design: who may import whom, and what serving must never carry."""

import ast
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = ("features", "models", "pipelines", "serving", "monitoring", "infra")


def test_the_import_contracts_hold():
    linter = Path(sys.executable).parent / "lint-imports"
    ended = subprocess.run(
        [linter, "--no-logo"], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "0 broken" in ended.stdout


def test_no_file_of_ours_uses_pickle_eval_or_yaml_load():
    for folder in FOLDERS:
        for path in (ROOT / folder).rglob("*.py"):
            tree = ast.parse(path.read_text())
            imported = {
                alias.name.split(".")[0]
                for node in ast.walk(tree)
                if isinstance(node, ast.Import | ast.ImportFrom)
                for alias in node.names
            } | {
                (node.module or "").split(".")[0]
                for node in ast.walk(tree)
                if isinstance(node, ast.ImportFrom)
            }
            assert not imported & {"pickle", "joblib", "dill", "cloudpickle", "marshal"}, path
            called = {
                node.func.id
                for node in ast.walk(tree)
                if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
            }
            assert not called & {"eval", "exec"}, path


def test_every_folder_opens_with_what_enters_what_leaves_and_who_may_import_it():
    for folder in FOLDERS:
        text = ast.get_docstring(ast.parse((ROOT / folder / "__init__.py").read_text())) or ""
        for word in ("In:", "Out:", "May be imported by:", "Read:"):
            assert word in text, f"{folder}/__init__.py does not say '{word}'"


def test_files_stay_small_enough_to_be_one_idea():
    long = {
        path.relative_to(ROOT).as_posix(): lines
        for folder in FOLDERS
        for path in (ROOT / folder).rglob("*.py")
        if (lines := len(path.read_text().splitlines())) > 400
    }
    assert not long
