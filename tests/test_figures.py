import json

import pytest

from docs.figures import BLOCK, FIGURES, PAGES, write_figures

REPORT = {
    "command": "shortlist run",
    "seeds": [3],
    "git": "abc",
    "started_at": "2026-01-02T03:04:05+00:00",
    "seconds": 60.0,
    "machine": {"cores": 2, "python": "3.11"},
    "metrics": {
        "ndcg_at_10": {"full": {"mean": 0.1234, "low": 0.1, "high": 0.15}},
        "recall_at_10": {"full": {"mean": 0.2, "low": 0.1, "high": 0.3}},
        "coverage": {"full": 0.5},
        "counts": {"users": 7},
    },
}


def test_a_block_is_filled_from_its_report_and_the_rest_of_the_page_stays(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- figure: demo-models -->\nold\n<!-- end -->\nafter\n")
    (tmp_path / "demo.json").write_text(json.dumps(REPORT))
    assert write_figures(page, tmp_path) == []
    text = page.read_text()
    assert text.startswith("before\n<!-- figure: demo-models -->\n| model |")
    assert "| full | 0.1234 | 0.1000 … 0.1500 | 0.2000 | 0.500 |" in text
    assert "seed 3, 2 cores, Python 3.11, 2026-01-02, commit abc" in text
    assert "old" not in text
    assert text.endswith("<!-- end -->\nafter\n")
    write_figures(page, tmp_path)
    assert page.read_text() == text, "a second run changes nothing"


def test_a_missing_report_leaves_the_block_and_is_named(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("<!-- figure: demo-models -->\nold\n<!-- end -->\n")
    assert write_figures(page, tmp_path) == ["demo-models: no demo.json"]
    assert "old" in page.read_text()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_figure_that_a_page_asks_for_is_made_by_somebody(page):
    assert {name for _, name, _, _ in BLOCK.findall(page.read_text())} <= set(FIGURES)
