from pathlib import Path

import pytest
from typer.testing import CliRunner

from pipelines.cli import app


def told(*more: str) -> str:
    ended = CliRunner().invoke(app, ["token", *more])
    assert ended.exit_code == 0
    return ended.stdout


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SHORTLIST_HOME", str(tmp_path))
    return tmp_path


def test_the_token_is_made_once_and_printed_for_a_script(home):
    first = told()
    assert first == told() == (home / "secrets" / "admin-token").read_text()
    assert (home / "secrets" / "admin-token").stat().st_mode & 0o777 == 0o600
    assert (home / "secrets").stat().st_mode & 0o777 == 0o700


def test_rotating_prints_the_new_one(home):
    old = told()
    new = told("--rotate")
    assert new != old
    assert new == told()


def test_an_operators_own_file_is_taken_as_it_is(home, monkeypatch):
    own = home / "token"
    own.write_text("chosen-by-the-operator-0123456789\n")
    monkeypatch.setenv("SHORTLIST_ADMIN_TOKEN_FILE", str(own))
    assert told() == "chosen-by-the-operator-0123456789\n"
    assert not (home / "secrets").exists()
