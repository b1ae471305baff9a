import subprocess
import sys

import pytest
import typer
from typer.testing import CliRunner

from pipelines.cli import app, main

COMMANDS = list(typer.main.get_command(app).commands)


def test_the_commands_of_the_line_are_there():
    assert set(COMMANDS) >= {
        "doctor", "run", "world", "ingest", "features", "train", "evaluate",
        "promote", "rollback", "serve", "demo",
    }  # fmt: skip


@pytest.mark.parametrize("command", COMMANDS)
def test_help_teaches_with_an_example(command):
    told = CliRunner().invoke(app, [command, "--help"], terminal_width=200)
    assert told.exit_code == 0
    assert f"shortlist {command}" in told.stdout.split("Example")[1]


def test_help_does_not_wait_for_the_heavy_libraries():
    loaded = subprocess.run(
        [sys.executable, "-c", "import pipelines.cli, sys; print(*sys.modules)"],
        capture_output=True, text=True, check=True,
    ).stdout.split()  # fmt: skip
    assert not {"torch", "pyspark", "feast", "mlflow", "evidently", "lightgbm", "pandas"} & set(
        loaded
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "--name", "shop"], "needs both --name NAME and --events FILE"),
        (["run", "--events", "x.csv"], "needs both --name NAME and --events FILE"),
        (
            ["ingest", "--dataset", "nothing"],
            "no data set 'nothing'; there are world, completejourney",
        ),
        (["train", "--dataset", "../up"], "setting 'dataset' is '../up'"),
        (
            ["serve", "--dataset", "empty"],
            "has no bundle yet; make one with: shortlist run --dataset empty",
        ),
        (["evaluate", "--dataset", "empty"], "empty"),
        (["world", "--scale", "huge"], "no scale 'huge'; choose one of tiny, small, full"),
        (["world", "--family", "magic"], "family is 'magic'; Input should be 'position', 'trust'"),
        (["world", "--preset", "calm"], "no preset 'calm'; choose one of base, biased_logger"),
        (["world", "--set", "users=0"], "users is 0; allowed: 1 … 1,000,000"),
        (["world", "--set", "launches=-1"], "launches is -1; allowed: 0 … 0.2"),
        (
            ["world", "--set", "items=8", "--set", "slots=9"],
            "slots is 9; allowed: 1 … 8, the items",
        ),
        (["world", "--set", "usrs=9"], "no world parameter 'usrs'; did you mean users?"),
        (["world", "--set", "users"], "--set is 'users'; expected NAME=VALUE"),
        (["world", "--set", "seed=4"], "seed has an option of its own, --seed"),
        (["world", "check", "--families", "trust,magic"], "family is 'magic'"),
        (["world", "check", "--scale", "huge"], "no scale 'huge'"),
    ],
)
def test_trouble_is_one_line_with_a_remedy_and_exit_code_2(
    arguments, message, monkeypatch, capsys, tmp_path
):
    monkeypatch.setenv("SHORTLIST_HOME", str(tmp_path))
    monkeypatch.setattr("sys.argv", ["shortlist", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    told = " ".join(capsys.readouterr().err.split())
    assert ended.value.code == 2
    assert message in told
    assert "Traceback" not in told


def test_a_world_that_cannot_be_leaves_the_one_before_alone(monkeypatch, tmp_path):
    monkeypatch.setenv("SHORTLIST_HOME", str(tmp_path))
    before = tmp_path / "datasets" / "world" / "lake" / "items.parquet"
    before.parent.mkdir(parents=True)
    before.write_text("a lake")
    monkeypatch.setattr("sys.argv", ["shortlist", "world", "--preset", "calm"])
    with pytest.raises(SystemExit):
        main()
    assert before.read_text() == "a lake"


def test_brackets_in_a_message_are_shown_and_not_read_as_markup(monkeypatch, capsys, tmp_path):
    monkeypatch.setenv("SHORTLIST_HOME", str(tmp_path))
    path = tmp_path / "[bold]sales[/].csv"
    monkeypatch.setattr("sys.argv", ["shortlist", "run", "--name", "shop", "--events", str(path)])
    with pytest.raises(SystemExit):
        main()
    assert "[bold]sales[/].csv" in capsys.readouterr().err.replace("\n", "")
