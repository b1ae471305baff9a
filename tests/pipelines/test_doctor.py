import socket

import pytest

from infra.settings import Settings
from pipelines import doctor


def findings(settings: Settings) -> dict[str, doctor.Finding]:
    return {finding.name: finding for finding in doctor.examine(settings)}


def test_every_trouble_has_a_remedy(tmp_path):
    found = findings(Settings(home=tmp_path, data_dir=tmp_path / "none"))
    assert list(found) == [
        "Python",
        "Java",
        "OpenMP",
        "Cores",
        "Memory",
        "Disk",
        "Port",
        "Public data",
    ]
    assert all(bool(finding.remedy) == (finding.verdict != "ok") for finding in found.values())
    assert found["Public data"].verdict == "note"
    assert "SHORTLIST_DATA_DIR" in found["Public data"].remedy


def test_no_java_is_a_note_because_duckdb_computes_the_features(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("JAVA_HOME", raising=False)
    assert doctor.java_version() is None
    assert doctor._java(None).verdict == "note"
    assert "DuckDB" in doctor._java(None).remedy


@pytest.mark.parametrize(
    ("version", "verdict"), [((3, 10), "fail"), ((3, 11), "ok"), ((3, 14), "fail")]
)
def test_python_must_be_one_that_the_locks_are_for(version, verdict):
    assert doctor._python(version).verdict == verdict


def test_a_taken_port_is_named():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        found = doctor._port("127.0.0.1", port)
    assert found.verdict == "note"
    assert str(port) in found.seen
    assert "SHORTLIST_PORT" in found.remedy
