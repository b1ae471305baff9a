"""`python -m infra.docker.mlflow`: becomes the MLflow server of docker-compose.yml."""

import os
from pathlib import Path

from infra.local.mlflow import command

NAMES = ("mlflow", "localhost", "127.0.0.1", "localhost:*", "127.0.0.1:*")
"""Its container's, and the host's at whatever port is published there."""

if __name__ == "__main__":
    argv = command(Path("/var/lib/mlflow"), "0.0.0.0", 5000, NAMES)
    os.execv(argv[0], argv)
