"""What people read follows from what was measured: pages, board, command line."""

import json
import re
import xml.etree.ElementTree as ET
from dataclasses import replace

import pytest
from typer.testing import CliRunner

from features.errors import ContractError
from pipelines.cli import app
from pipelines.experiments import board
from pipelines.experiments.catalogue import EXPERIMENTS
from pipelines.experiments.cli import app as sub_app
from pipelines.experiments.outcome import from_json
from pipelines.experiments.publish import read, run_and_report, write_pages
from pipelines.experiments.tables import Table
from pipelines.experiments.verdict import Verdict
from pipelines.seeds import parse_seeds
from tests.pipelines.experiments.toy import CARD, TOY

OTHER = replace(TOY, card=replace(CARD, number="E-98", title="Never run"))
REFUTED = replace(
    TOY, card=replace(CARD, claims=(replace(CARD.claims[0], minimum=1.5, expected=(1.6, 2)),))
)


@pytest.fixture
def home(tmp_path):
    run_and_report(TOY, tmp_path, "tiny", range(5), [TOY, OTHER], resume=False)
    return tmp_path


def test_the_report_has_the_common_format_plus_card_and_verdict(home):
    content = read("E-99", home / "reports")
    assert content.keys() >= {"command", "metrics", "seeds", "git", "machine", "started_at"}
    assert content["verdict"] == "confirmed"
    assert content["card"]["claims"][0]["says"] == "it gains"
    assert content["registered_at"] >= content["started_at"]
    assert set(content["metrics"]["left"]) == {"observed", "true", "gap", "gain", "cost", "seen"}
    assert content["metrics"]["left"]["gain"].keys() >= {"mean", "low", "high"}
    assert from_json(content).card == CARD


def test_the_page_is_whole_in_one_file_and_says_the_three_numbers(home):
    text = (home / "reports" / "experiments" / "E-99.html").read_text()
    assert text.count("<svg") == 1
    loaded = re.findall(r'(?:src|href)="([^"]+)"', text)
    assert not [target for target in loaded if target != "index.html" and target[0] != "#"]
    assert "<script" not in text
    for told in ("dashboard: seen", "truth: gain", ">gap<", "it gains", "another constant", "95 %"):
        assert told in text
    ET.fromstring(text[text.index("<svg") : text.index("</svg>") + 6])


def test_the_overview_lists_what_was_run_and_what_was_not(home):
    text = (home / "reports" / "experiments" / "index.html").read_text()
    assert '<a href="E-99.html">' in text
    assert "E-98 Never run" in text
    assert "not run here" in text


def test_pages_are_made_again_from_the_json_alone(home):
    folder = home / "reports" / "experiments"
    before = {path.name: path.read_text() for path in folder.glob("*.html")}
    for path in folder.glob("*.html"):
        path.unlink()
    write_pages([TOY, OTHER], home / "reports")
    assert {path.name: path.read_text() for path in folder.glob("*.html")} == before


def test_the_board_is_fresh_until_a_record_or_a_card_changes(home, tmp_path):
    place = tmp_path / "board"
    board.record(TOY, home / "reports", place)
    board.write_board([TOY, OTHER], place)
    assert board.stale([TOY, OTHER], place) == []
    text = (place / "README.md").read_text()
    assert (
        "| E-99 | [A toy with a known end](#e-99-a-toy-with-a-known-end) | **confirmed** |" in text
    )
    assert "| E-98 | [Never run](#e-98-never-run) | not recorded |" in text
    assert (place / "E-99.svg").stat().st_size < board.CHART_BYTES_MAX

    changed = replace(TOY, card=replace(CARD, sentence="Something else."))
    assert board.stale([changed, OTHER], place) == ["README.md"]
    assert "results of the earlier one" in board.board_page([changed], place)

    path = place / "E-99.json"
    path.write_text(path.read_text().replace('"confirmed"', '"refuted"'))
    assert board.stale([TOY, OTHER], place) == ["README.md"]


def test_a_chart_of_an_earlier_record_is_stale(home, tmp_path):
    place = tmp_path / "board"
    board.record(TOY, home / "reports", place)
    board.write_board([TOY], place)
    chart = place / "E-99.svg"
    content = json.loads((place / "E-99.json").read_text())
    chart.write_text(chart.read_text().replace(content["identity"], "another"))
    assert board.stale([TOY], place) == ["E-99.svg"]


def test_a_chart_that_is_not_small_stays_with_the_report(home, monkeypatch, tmp_path):
    place = tmp_path / "board"
    board.record(TOY, home / "reports", place)
    board.write_board([TOY], place)
    assert "![E-99](E-99.svg)" in (place / "README.md").read_text()
    monkeypatch.setattr(board, "CHART_BYTES_MAX", 100)
    board.write_board([TOY], place)
    assert not (place / "E-99.svg").exists()
    assert "E-99.svg" not in (place / "README.md").read_text()
    assert board.stale([TOY], place) == []


def test_a_refuted_card_stays_on_the_board(tmp_path):
    outcome = run_and_report(REFUTED, tmp_path, "tiny", range(5), [REFUTED], resume=False)
    assert outcome.verdict == Verdict.refuted
    board.record(REFUTED, tmp_path / "reports", tmp_path / "board", note="It was one.")
    text = board.board_page([REFUTED], tmp_path / "board")
    assert "Understood afterwards: It was one." in text
    assert "**refuted**" in text
    assert "gain 0 of 2" in text


def test_the_board_in_docs_is_fresh():
    assert board.stale(EXPERIMENTS) == [], "run: make docs"


def test_what_was_not_run_cannot_be_recorded(tmp_path):
    with pytest.raises(ContractError, match="run: shortlist experiment run E-99"):
        board.record(TOY, tmp_path)


def test_numbers_are_unique_and_cards_ask_a_question():
    cards = [experiment.card for experiment in EXPERIMENTS]
    assert len({card.number for card in cards}) == len(cards)
    for card in cards:
        assert card.question.endswith("?")
        assert all(claim.source for claim in card.claims)


@pytest.mark.parametrize(
    "command", [c.name or c.callback.__name__ for c in sub_app.registered_commands]
)
def test_help_teaches_with_an_example(command):
    told = CliRunner().invoke(app, ["experiment", command, "--help"], terminal_width=200)
    assert told.exit_code == 0
    assert f"shortlist experiment {command}" in told.stdout.split("Example")[1]


def test_list_and_show_tell_the_cards(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("SHORTLIST_HOME", str(tmp_path))
    told = CliRunner().invoke(app, ["experiment", "list"])
    assert told.exit_code == 0, told.output
    assert all(experiment.card.number in told.output for experiment in EXPERIMENTS)
    shown = CliRunner().invoke(app, ["experiment", "show", EXPERIMENTS[0].card.number.lower()])
    assert "would change our mind" in " ".join(shown.output.split())


@pytest.mark.parametrize("text", ["", "a", "3-", "1;2", "4-2"])
def test_seeds_that_cannot_be_read_are_refused(text):
    with pytest.raises(ContractError, match="--seeds"):
        parse_seeds(text)


def test_an_unknown_number_is_refused_with_the_known_ones():
    told = CliRunner().invoke(app, ["experiment", "show", "E-00"])
    assert isinstance(told.exception, ContractError)
    assert EXPERIMENTS[0].card.number in str(told.exception)


def test_run_report_and_record_from_the_command_line(monkeypatch, tmp_path):
    monkeypatch.setenv("SHORTLIST_HOME", str(tmp_path / "var"))
    monkeypatch.setattr("pipelines.experiments.catalogue.EXPERIMENTS", (TOY,))
    monkeypatch.setattr(board, "BOARD", tmp_path / "board")
    run = CliRunner().invoke(
        app, ["experiment", "run", "e-99", "--scale", "tiny", "--seeds", "0-5"]
    )
    assert run.exit_code == 0, run.output
    assert "E-99: confirmed" in " ".join(run.output.split())
    assert read("E-99", tmp_path / "var" / "reports")["seeds"] == [0, 1, 2, 3, 4, 5]
    told = CliRunner().invoke(app, ["experiment", "report", "E-99"])
    assert "dashboard: seen" in " ".join(told.output.split()), told.output
    recorded = CliRunner().invoke(app, ["experiment", "record", "E-99"])
    assert recorded.exit_code == 0, recorded.output
    names = {path.name for path in (tmp_path / "board").iterdir()}
    assert names == {"E-99.json", "E-99.svg", "README.md"}


def test_the_list_says_when_card_or_code_have_changed_since_the_record(home, monkeypatch, tmp_path):
    monkeypatch.setenv("SHORTLIST_HOME", str(home))
    monkeypatch.setattr(
        "pipelines.experiments.board.recorded", lambda _: read("E-99", home / "reports")
    )
    monkeypatch.setattr("pipelines.experiments.catalogue.EXPERIMENTS", (TOY,))
    assert "earlier code" not in listed()
    changed = replace(TOY, card=replace(CARD, change_our_mind="nothing"))
    monkeypatch.setattr("pipelines.experiments.catalogue.EXPERIMENTS", (changed,))
    assert "(by earlier" in listed()


def listed():
    return " ".join(CliRunner().invoke(app, ["experiment", "list"]).output.split())


def test_a_table_is_the_same_in_both_languages():
    table = Table("Title", ("a", "b"), [["x|y", "refuted"]])
    assert table.markdown() == "**Title**\n\n| a | b |\n| --- | --- |\n| x\\|y | refuted |"
    assert '<td>x|y</td><td class="refuted">refuted</td>' in table.html()
