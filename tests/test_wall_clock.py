"""What time it is, is told: on the simulated path no code of ours asks this machine.

Twice. By the syntax tree: every place that reads the wall clock is listed here with its reason, and
none lies on the path. By running: the same line under two wall clocks, years and a time zone apart,
gives the same bytes.
"""

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from infra.local.process import free_port
from tests.pipelines.oracle_words import leaks

ROOT = Path(__file__).resolve().parents[1]
LONG_S = 800
"""For half a minute's work, on a machine that has much else to do."""

FOLDERS = ("features", "infra", "models", "monitoring", "pipelines", "serving")

READS = {
    "datetime.datetime.now", "datetime.datetime.utcnow", "datetime.datetime.today",
    "datetime.date.today", "time.time", "time.time_ns", "time.localtime", "time.gmtime",
    "time.ctime", "time.asctime", "time.strftime", "pandas.Timestamp.now",
    "pandas.Timestamp.today", "pandas.Timestamp.utcnow", "uuid.uuid1", "os.path.getmtime",
    "infra.clock.real_clock",
}  # fmt: skip
"""Durations (`monotonic`, `perf_counter`, `process_time`) are no time of day."""

MADE_FROM_NOW = {"pandas.Timestamp", "pandas.to_datetime", "numpy.datetime64"}
"""Called with "now" or "today" they read it too."""

IN_SQL = ("current_timestamp", "current_date", "current_time", "now()", "today()")

ALLOWED = {
    # The edge: where somebody must say what time it is.
    ("infra/clock.py", "datetime.datetime.now"): "the clock that a real shop is given",
    ("serving/moment.py", "infra.clock.real_clock"): "the API's, if the setting says real",
    (
        "pipelines/bench_stream.py",
        "datetime.datetime.now",
    ): "created_at of rows that are only timed",
    ("pipelines/cli.py", "datetime.datetime.now"): "public and own files: nothing later than now",
    ("pipelines/cli_stack.py", "infra.clock.real_clock"): "bootstrap of a shop that will be live",
    ("pipelines/monitor.py", "infra.clock.real_clock"): "default; a running shop's day is today's",
    ("pipelines/rebuild.py", "datetime.datetime.now"): "a store of services runs by it",
    ("pipelines/world/crowd.py", "datetime.datetime.now"): "RealTime, of visitors of a live shop",
    ("pipelines/world/live.py", "datetime.datetime.now"): "names and log lines of live visitors",
    ("pipelines/cli_stack.py", "time.time"): "seed of live visitors, who are no simulation",
    # Of processes and reports, never of data.
    ("infra/reports.py", "datetime.datetime.now"): "when a report was made",
    ("infra/spool.py", "time.time"): "how old the oldest undelivered record is, for the metric",
    ("infra/local/marked.py", "st_mtime"): "which session of `shortlist up` is the last",
    ("pipelines/local/status.py", "time.time"): "for how long a program has been up",
    ("pipelines/relay.py", "datetime.datetime.now"): "when a refused record was put aside",
    ("pipelines/tracking.py", "st_mtime"): "the order in which notes wait for the registry",
    ("pipelines/experiments/runner.py", "datetime.datetime.now"): "when a card was registered",
    # Metadata that nothing of ours reads.
    ("pipelines/stream_push.py", "datetime.datetime.now"): "created_at of a pushed row; the delay",
    ("serving/current.py", "datetime.datetime.now"): "warm-up: nothing of it is shown or kept",
}

PATH = (
    "features/", "models/", "monitoring/", "pipelines/world/", "pipelines/loaders/",
    "pipelines/ingest.py", "pipelines/lake.py", "pipelines/catalogue.py", "pipelines/validate.py",
    "pipelines/parse.py", "pipelines/event_ids.py", "pipelines/days.py", "pipelines/bootstrap.py",
    "pipelines/build_features.py", "pipelines/stream_history.py", "pipelines/stream_state.py",
    "pipelines/stream.py", "pipelines/materialize.py", "pipelines/past.py",
    "pipelines/ranker_rows.py", "pipelines/retrieval.py", "pipelines/train_ranker.py",
    "pipelines/train_retrieval.py", "pipelines/evaluate.py", "pipelines/promote.py",
    "pipelines/reference.py", "pipelines/check_drift.py", "pipelines/refresh.py",
    "pipelines/run.py", "pipelines/demo.py", "pipelines/loop",
)  # fmt: skip
"""From the world to the pointer: here nothing may be allowed, but for visitors of a live shop."""


def wall_clocks(tree: ast.AST) -> set[str]:
    """Every way in which a module reads the time of day, whatever the name it gave to it."""
    names = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                name = alias.asname or alias.name.split(".")[0]
                names[name] = alias.name if alias.asname else name
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {a.asname or a.name: f"{node.module}.{a.name}" for a in node.names}

    def dotted(node: ast.AST) -> str:
        if isinstance(node, ast.Name):
            return names.get(node.id, node.id)
        return f"{dotted(node.value)}.{node.attr}" if isinstance(node, ast.Attribute) else "?"

    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Name | ast.Attribute) and isinstance(node.ctx, ast.Load):
            found |= {dotted(node)} & READS
        if isinstance(node, ast.Attribute) and node.attr in ("st_mtime", "st_mtime_ns", "st_ctime"):
            found.add("st_mtime")
        if isinstance(node, ast.Call) and dotted(node.func) in MADE_FROM_NOW:
            said = [arg.value for arg in node.args if isinstance(arg, ast.Constant)]
            found |= {dotted(node.func)} if {"now", "today"} & set(map(str, said)) else set()
        if (
            isinstance(node, ast.Constant)
            and isinstance(node.value, str)
            and "SELECT" in node.value
        ):
            found |= {word for word in IN_SQL if word in node.value.lower()}
    return found


def found_in(folders: tuple[str, ...]) -> set[tuple[str, str]]:
    return {
        (path.relative_to(ROOT).as_posix(), what)
        for folder in folders
        for path in sorted((ROOT / folder).rglob("*.py"))
        for what in wall_clocks(ast.parse(path.read_text()))
    }


@pytest.mark.parametrize(
    ("code", "read"),
    [
        ("from datetime import datetime\ndatetime.now()", "datetime.datetime.now"),
        ("import datetime as d\nd.datetime.utcnow()", "datetime.datetime.utcnow"),
        ("from datetime import date as day\nday.today()", "datetime.date.today"),
        ("from time import time as t\nt()", "time.time"),
        ("import time\nfield(default_factory=time.time)", "time.time"),
        ("import pandas as pd\npd.Timestamp.now('UTC')", "pandas.Timestamp.now"),
        ("import pandas as pd\npd.Timestamp('now')", "pandas.Timestamp"),
        ("import numpy as np\nnp.datetime64('today')", "numpy.datetime64"),
        ("from infra.clock import real_clock\nx = real_clock", "infra.clock.real_clock"),
        ("'SELECT * FROM t WHERE at < now()'", "now()"),
        ("path.stat().st_mtime", "st_mtime"),
    ],
)
def test_the_search_sees_every_way_to_ask_for_the_time(code, read):
    assert wall_clocks(ast.parse(code)) == {read}


def test_the_search_lets_durations_and_clocks_that_were_handed_in_pass():
    code = "import time\nfrom datetime import datetime\ntime.monotonic()\nclock.now()\ndatetime(2026, 3, 1)"
    assert wall_clocks(ast.parse(code)) == set()


def test_every_reading_of_the_wall_clock_has_a_reason():
    found = found_in(FOLDERS)
    assert not found - set(ALLOWED), "new: pass a clock in, or say here why not"
    assert not set(ALLOWED) - found, "no longer there: take it off the list"


def test_nothing_on_the_simulated_path_reads_the_wall_clock():
    on_path = {(path, what) for path, what in found_in(FOLDERS) if path.startswith(PATH)}
    assert {path for path, _ in on_path} == {"pipelines/world/crowd.py", "pipelines/world/live.py"}
    assert all((ROOT / part).exists() for part in PATH if part != "pipelines/loop")


@pytest.fixture(scope="module")
def lines(tmp_path_factory):
    """The same line under two wall clocks, at the same time."""
    runs = []
    for years, zone in ((0, "UTC"), (7, "Pacific/Kiritimati")):
        home = tmp_path_factory.mktemp("home")
        command = ["tests.simulated_line", str(home), str(years), str(free_port())]
        settings = {k: v for k, v in os.environ.items() if not k.startswith("SHORTLIST_")}
        runs.append(
            subprocess.Popen(
                [sys.executable, "-m", *command],
                env={**settings, "TZ": zone, "OMP_NUM_THREADS": "1"},
                cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            )
        )  # fmt: skip
    told = []
    for run in runs:
        out, err = run.communicate(timeout=LONG_S)
        assert run.returncode == 0, err[-3000:]
        told.append(json.loads(out.splitlines()[-1]))
    return told


@pytest.mark.timeout(LONG_S)
def test_two_wall_clocks_make_the_same_bytes(lines):
    """World, ingest, features, popular bundle, a day through the real API, and features of that day."""
    first, second = lines
    assert second["year"] == first["year"] + 7, "the clocks did differ"
    assert first["slates"] > 30
    assert {name for name in first if first[name] != second[name]} == {"year"}
    assert set(first) == {
        "log", "lake", "offline", "bundle", "bundle files", "what was logged", "lake of the day",
        "offline of the day", "names", "slates", "year",
    }  # fmt: skip


def test_no_answer_and_no_file_of_such_a_day_tells_the_truth(lines):
    names = set(lines[0]["names"])
    assert names >= {"likes", "history", "missing", "rung", "reason", "features", "session_events"}
    assert leaks(names) == []
