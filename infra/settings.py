"""Addresses, budgets and places: the one thing that changes between a laptop and a cluster.

Every field can be set by an environment variable `SHORTLIST_<FIELD>`. Hyper-parameters are not
here: they sit beside their model.
"""

from datetime import datetime
from pathlib import Path
from typing import Literal

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

PROJECT = Path(__file__).resolve().parents[1]


class Settings(BaseSettings):
    """Built once in `main()` or `create_app()` and passed down; there is no global one."""

    model_config = SettingsConfigDict(
        env_prefix="SHORTLIST_", frozen=True, extra="forbid", use_attribute_docstrings=True
    )

    home: Path = PROJECT / "var"
    """Where all state lives: lake, features, bundles, logs, reports."""

    data_dir: Path = PROJECT.parent / "shared" / "data"
    """Folder with the public data sets (completejourney/, trivago/, ml-100k/)."""

    dataset: str = Field(default="world", pattern=r"^[a-z0-9][a-z0-9._-]{0,63}$")
    """Which data set's lake, features and bundles are used."""

    mode: Literal["embedded", "services"] = "embedded"
    """embedded = SQLite for event log, online store and tracking; services = Kafka, Redis, MLflow."""

    kafka: str = "127.0.0.1:9092"
    """Where the broker listens (mode services)."""

    redis: str = "127.0.0.1:6379"
    """Where Redis listens (mode services)."""

    redis_password_file: Path | None = None
    """File with the password of Redis; none when unset."""

    mlflow: str = "http://127.0.0.1:5000"
    """Where the MLflow server listens (mode services)."""

    spool: Path | None = None
    """Folder of the API's spool files (mode services); in the workspace when unset."""

    spool_mb: int = Field(default=256, ge=1)
    """How much an API process may keep for a broker that is away; beyond it events get 429."""

    metrics_port: int | None = Field(default=None, ge=1, le=65535)
    """Port of a worker's Prometheus metrics (stream, relay, monitor); none when unset."""

    host: str = "127.0.0.1"
    """Address the API listens on; loopback unless told otherwise."""

    port: int = Field(default=8000, ge=1, le=65535)
    """Port the API listens on."""

    admin_port: int = Field(default=8001, ge=1, le=65535)
    """Port of the admin process, which listens on `host` too."""

    admin_token_file: Path | None = None
    """File with the admin token; secrets/admin-token below `home` when unset, made when missing."""

    clock: Literal["real", "simulated"] = "real"
    """simulated: starts at `clock_start`, and callers move it on with X-Simulated-Now."""

    clock_start: datetime | None = None
    """Where a simulated clock starts (UTC)."""

    clock_runs: bool = True
    """A simulated clock runs on between two callers; False = it stands until it is moved."""

    deadline_ms: int = Field(default=100, ge=1, le=1000)
    """Time a recommendation may take when the caller names none."""

    features_timeout_ms: int = Field(default=40, ge=1, le=1000)
    """Slice of the deadline that the online store may use."""

    experiment: str | None = None
    """Name of the running A/B test of the full line against popularity; none when unset."""

    experiment_salt: str = "shortlist"
    """Salt of the hash that splits users into arms."""

    feature_log_share: float = Field(default=1.0, ge=0, le=1)
    """Share of requests whose exact features and scores are logged for monitoring."""

    partitions: int = Field(default=4, ge=1, le=256)
    """Partitions of the event log, by murmur2(user_id); stored with the state."""

    group_session_ms: int = Field(default=10_000, ge=6_000)
    """A stream worker not heard of for this long is taken for dead, and its partitions are given away."""

    worker: str | None = None
    """Name that a stream worker keeps over restarts, so that its partitions wait for it for a session;
    no two that run may share one. None: a new member at each start."""

    scale: Literal["tiny", "small", "full"] = "small"
    """How much `bootstrap` makes and how long the monitor trains."""

    engine: Literal["auto", "spark", "duckdb"] = "auto"
    """What computes the monitor's batch features; auto = Spark where Java 17 is there."""

    monitor_every_s: int = Field(default=60, ge=1)
    """The monitor looks whether there is something to do this often."""

    drift_every_s: int = Field(default=600, ge=1)
    """It compares what was served with the bundle's reference no more often than this."""

    retrain_pause_s: int = Field(default=3600, ge=0)
    """It leaves this much between the end of a training and the next one that drift asks for."""

    def environment(self) -> dict[str, str]:
        """The same settings as environment variables, for a child process."""
        values = self.model_dump(mode="json", exclude_none=True)
        return {f"SHORTLIST_{name.upper()}": str(value) for name, value in values.items()}
