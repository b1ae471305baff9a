"""The prose is checked like code: every claim names a test that exists, every page is fresh."""

import ast
import re
import subprocess
import textwrap

import pytest

from docs import feature_table, world_card
from docs.collect import FOLDERS, ROOT, collect, page, points_of
from features.definitions import BY_COLUMN

POINTS = [point for points in collect().values() for point in points]


@pytest.mark.parametrize("point", POINTS, ids=lambda point: f"{point.path}:{point.name}")
def test_every_talking_point_is_whole_and_names_a_test_that_exists(point):
    assert point.question.endswith("?")
    assert len(point.answer) > 60
    assert "Trade-off" in point.labels
    path, _, name = point.labels["Shown by"].partition("::")
    tree = ast.parse((ROOT / path).read_text())
    functions = {
        node.name
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }
    assert name.split("::")[-1].split("[")[0] in functions


def test_every_folder_of_the_flow_has_talking_points():
    counts = {folder: len(points) for folder, points in collect().items()}
    assert set(counts) == set(FOLDERS)
    assert all(counts.values()), counts


def test_the_generated_page_is_fresh():
    assert (ROOT / "docs" / "interview.md").read_text() == page(collect()), "run: make docs"


def test_the_world_card_tells_what_the_code_has():
    text = world_card.PAGE.read_text()
    assert text == world_card.written(text), "run: python -m docs.world_card"
    assert set(world_card.TABLES) == {name for _, name, *_ in world_card.BLOCK.findall(text)}


def test_the_feature_table_tells_what_the_code_has():
    text = feature_table.PAGE.read_text()
    assert text == feature_table.page(), "run: python -m docs.feature_table"
    for column in BY_COLUMN:
        assert f"| `{column}` |" in text


def test_a_section_ends_where_its_indentation_ends(tmp_path):
    source = '''
        def f():
            """Summary.

            Interview: Why?
                Because of this,
                and that.
                Trade-off: it costs
                a lot.
                Shown by: tests/a.py::test_b

            Examples:
                >>> 1
            """
    '''
    path = tmp_path / "x.py"
    path.write_text(textwrap.dedent(source))
    (point,) = points_of(path, tmp_path)
    assert (point.name, point.question, point.answer) == ("f", "Why?", "Because of this, and that.")
    assert point.labels == {"Trade-off": "it costs a lot.", "Shown by": "tests/a.py::test_b"}


def test_links_and_files_named_in_the_pages_exist():
    for name in ("README.md", *(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md"))):
        text = (ROOT / name).read_text()
        for target in re.findall(r"\]\(([^)#]+)", text):
            if not target.startswith("http"):
                assert (ROOT / name).parent.joinpath(target).exists(), f"{name} links to {target}"


def test_nothing_names_a_package_registry_or_a_path_of_one_machine():
    hosts = re.compile(
        "|".join(
            ["py" + "pi\\.org", "python" + "hosted", "maven" + "\\.org", "py" + "torch\\.org/whl"]
        )
    )
    for path in [
        *ROOT.glob("*.*"),
        *ROOT.glob("requirements/*"),
        *ROOT.glob("infra/**/*.*"),
        ROOT / "Makefile",
    ]:
        if path.is_file() and ".venv" not in path.parts:
            assert not hosts.search(path.read_text(errors="ignore")), path


def test_the_tree_in_the_readme_is_the_tree():
    block = (ROOT / "README.md").read_text().split("## Where things live")[1].split("```")[1]
    told = {line.split("/")[0] for line in block.strip().splitlines()}
    tracked = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    folders = {path.split("/")[0] for path in tracked.splitlines() if "/" in path}
    assert told == folders - {".ci", "requirements"}
