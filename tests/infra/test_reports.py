import json
import os
import subprocess
import sys

import numpy as np
import pytest

from infra.reports import report, write_json
from infra.settings import PROJECT


def test_a_report_says_what_ran_where_and_when(tmp_path):
    with report(tmp_path, "x", [3]) as metrics:
        metrics["ndcg"] = {"full": np.float64(0.5)}
    written = json.loads((tmp_path / "x.json").read_text())
    assert set(written) == {
        "command",
        "metrics",
        "seeds",
        "git",
        "machine",
        "started_at",
        "seconds",
    }
    assert written["metrics"] == {"ndcg": {"full": 0.5}}
    assert written["seeds"] == [3]
    assert written["started_at"].endswith("+00:00")


def test_a_failed_step_leaves_the_old_report(tmp_path):
    with report(tmp_path, "x", []) as metrics:
        metrics["run"] = 1

    def failing():
        with report(tmp_path, "x", []) as metrics:
            metrics["run"] = 2
            raise RuntimeError("stopped")

    with pytest.raises(RuntimeError, match="stopped"):
        failing()
    assert json.loads((tmp_path / "x.json").read_text())["metrics"] == {"run": 1}
    assert [path.name for path in tmp_path.iterdir()] == ["x.json"]


def test_unknown_numbers_become_null(tmp_path):
    write_json(
        tmp_path / "n.json", {"nan": float("nan"), "inf": np.float32("inf"), "list": (np.int64(1),)}
    )
    assert json.loads((tmp_path / "n.json").read_text()) == {"nan": None, "inf": None, "list": [1]}


def test_a_report_names_the_program_so_that_it_can_be_run_again(tmp_path):
    writes = (
        "import sys\n"
        "from pathlib import Path\n"
        "from infra.reports import report\n"
        "with report(Path(sys.argv[1]), 'x', []):\n"
        "    pass\n"
    )
    (tmp_path / "drills").mkdir()
    (tmp_path / "drills" / "__main__.py").write_text(writes)
    (tmp_path / "plain").write_text(writes)
    path = {**os.environ, "PYTHONPATH": f"{PROJECT}:{tmp_path}"}
    for how, program in (
        (["-m", "drills"], "python -m drills"),
        ([str(tmp_path / "plain")], "plain"),
    ):
        subprocess.run([sys.executable, *how, tmp_path], check=True, env=path)
        assert json.loads((tmp_path / "x.json").read_text())["command"] == f"{program} {tmp_path}"
