"""A real MLflow server: records and registry on SQLite, no artifacts, no jobs, no telemetry."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from infra.local.process import child, free_port, wait_for_port

START_SECONDS = 120.0
"""Its first start migrates an empty database, for a quarter of a minute on an idle machine."""

ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_MODEL_CATALOG_URI": "",
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
    "GIT_PYTHON_REFRESH": "quiet",
}
"""Part of `command`; named here for whoever starts the server in another way."""


def command(
    folder: Path, host: str, port: int, allowed_hosts: Sequence[str] = ("localhost", "127.0.0.1")
) -> list[str]:
    """The command that runs it.

    Args:
        folder: gets mlflow.db; made when missing.
        host: address to listen on.
        port: port to listen on.
        allowed_hosts: names by which clients may call it. A request that names another host is
            refused, so that a page in somebody's browser cannot reach it by a name of its own.

    Interview: What of a model registry may be reachable, and from where?
        The records, from the pipelines, by name: artifacts are not served, jobs are not run, and
        a request with a foreign Host header is refused. A registry that hands out files and runs
        jobs without asking who calls has been a way into the machine more than once.
        Trade-off: a model's files travel by the volume that pipelines and serving share, and not
        by the registry.
        Shown by: tests/infra/test_local_mlflow.py::test_a_foreign_host_header_is_refused
    """
    folder.mkdir(parents=True, exist_ok=True)
    names = [name for allowed in allowed_hosts for name in _with_port(allowed, port)]
    return [
        "/usr/bin/env",
        *(f"{name}={value}" for name, value in ENVIRONMENT.items()),
        *(sys.executable, "-m", "mlflow", "server"),
        *("--backend-store-uri", f"sqlite:///{folder.resolve() / 'mlflow.db'}"),
        *("--no-serve-artifacts", "--default-artifact-root", (folder / "artifacts").absolute().as_uri()),
        *("--host", host, "--port", str(port), "--workers", "1"),
        *("--allowed-hosts", ",".join(names)),
    ]  # fmt: skip


@contextmanager
def server(folder: Path) -> Iterator[str]:
    """A server that listens; yields its http address, and stops it at the end. For tests."""
    port, log = free_port(), folder / "mlflow.log"
    with child(command(folder, "127.0.0.1", port), log) as process:
        wait_for_port("127.0.0.1", port, process, log, START_SECONDS)
        yield f"http://127.0.0.1:{port}"


def _with_port(host: str, port: int) -> list[str]:
    """A Host header carries the port unless it is the usual one; `name:*` says it all itself."""
    return [host] if ":" in host else [host, f"{host}:{port}"]
