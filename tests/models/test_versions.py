import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from features.errors import ContractError
from models import bundle as bundles
from models.bundle import current, load, point_to, publish, rollback, version_path
from models.staging import write
from tests.worlds import tiny_parts

PROJECT = Path(__file__).resolve().parents[2]

KILLED = """
import os, signal, sys
from pathlib import Path
from models.versions import point_to, publish
staging, root, fatal = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
done = 0
def after(step):
    global done
    if done == fatal:
        print(step, flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
    done += 1
point_to(root, publish(staging, root, after), after)
print("finished", flush=True)
"""


@pytest.fixture(scope="module")
def staged(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    old, new = tmp_path_factory.mktemp("old"), tmp_path_factory.mktemp("new")
    write(old, tiny_parts(n_items=9, n_users=6))
    write(new, tiny_parts(n_items=9, n_users=6, seed=8))
    return old, new


def test_publish_then_point_then_load(tmp_path: Path, staged: tuple[Path, Path]) -> None:
    assert current(tmp_path) is None
    bundle_id = publish(staged[0], tmp_path)
    assert current(tmp_path) is None  # published is not yet promoted
    point_to(tmp_path, bundle_id)
    assert current(tmp_path) == bundle_id
    assert load(version_path(tmp_path, bundle_id)).id == bundle_id
    assert publish(staged[0], tmp_path) == bundle_id  # the same content again changes nothing


def test_a_kill_at_any_step_leaves_a_whole_bundle(
    tmp_path: Path, staged: tuple[Path, Path]
) -> None:
    old_id, new_id = (json.loads((s / "manifest.json").read_text())["id"] for s in staged)
    steps: list[str] = []
    for fatal in range(40):
        root = tmp_path / str(fatal)
        point_to(root, publish(staged[0], root))
        run = subprocess.run(
            [sys.executable, "-c", KILLED, str(staged[1]), str(root), str(fatal)],
            cwd=PROJECT,
            env={**os.environ, "PYTHONPATH": str(PROJECT)},
            capture_output=True,
            text=True,
            timeout=60,
        )
        found = current(root)
        assert found in (old_id, new_id)
        assert load(version_path(root, found)).id == found
        if run.returncode == 0:
            assert run.stdout.strip() == "finished"
            assert found == new_id
            break
        assert run.returncode == -signal.SIGKILL, run.stderr
        steps.append(run.stdout.strip())
        # And nothing the crash left behind stands in the way of the next attempt.
        point_to(root, publish(staged[1], root))
        assert load(version_path(root, current(root) or "")).id == new_id
        assert not list((root / "versions").glob(".part-*"))
    files = len(json.loads((staged[1] / "manifest.json").read_text())["files"])
    assert len(steps) == files + 5
    assert {"part made", "manifest written", "renamed", "pointer written", "pointer swapped"} < set(
        steps
    )


def test_rollback_goes_back_and_twice_is_forth_again(
    tmp_path: Path, staged: tuple[Path, Path]
) -> None:
    one, two = (publish(folder, tmp_path) for folder in staged)
    point_to(tmp_path, one)
    with pytest.raises(ContractError, match=r"no earlier bundle is known.*publish a second bundle"):
        rollback(tmp_path)
    point_to(tmp_path, two)
    point_to(tmp_path, two)  # pointing twice must not forget what was before
    assert rollback(tmp_path) == one == current(tmp_path)
    assert rollback(tmp_path) == two == current(tmp_path)


@pytest.mark.parametrize("name", ["../../etc", "", "0123", "0123456789abcdeg", "a/../b"])
def test_a_bundle_id_is_never_a_path(tmp_path: Path, name: str) -> None:
    with pytest.raises(ContractError, match="expected 16 hex digits"):
        point_to(tmp_path, name)


def test_an_unknown_version_lists_the_known_ones(tmp_path: Path, staged: tuple[Path, Path]) -> None:
    known = publish(staged[0], tmp_path)
    with pytest.raises(ContractError, match=rf"no such bundle; published are \['{known}'\]"):
        point_to(tmp_path, "0" * 16)


def test_a_version_that_is_a_link_is_refused(tmp_path: Path, staged: tuple[Path, Path]) -> None:
    known = publish(staged[0], tmp_path)
    (tmp_path / "versions" / ("0" * 16)).symlink_to(tmp_path / "versions" / known)
    with pytest.raises(ContractError, match="no such bundle"):
        point_to(tmp_path, "0" * 16)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "not a pointer"),
        ("[]", "not a pointer"),
        ('{"current": "../x", "previous": null}', r"names '\.\./x', expected 16 hex digits"),
    ],
)
def test_a_damaged_pointer_is_named(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "current").write_text(content)
    with pytest.raises(ContractError, match=message):
        current(tmp_path)


def test_a_staged_bundle_that_was_changed_is_not_published(
    tmp_path: Path, staged: tuple[Path, Path]
) -> None:
    write(tmp_path / "staging", tiny_parts(n_items=9, n_users=6))
    with (tmp_path / "staging" / "popular.npy").open("ab") as file:
        file.write(b"x")
    with pytest.raises(ContractError, match=r"popular.npy: .*bytes with sha256.*publish again"):
        publish(tmp_path / "staging", tmp_path / "root")
    assert not list((tmp_path / "root").glob("versions/[0-9a-f]*"))
    assert bundles.current(tmp_path / "root") is None
