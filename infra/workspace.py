"""Where each data set keeps its state: one folder below `home`, the same shape for all."""

from dataclasses import dataclass
from pathlib import Path

from infra.settings import Settings


@dataclass(frozen=True, slots=True)
class Services:
    """Addresses of the servers that hold what the embedded mode keeps in SQLite files."""

    kafka: str
    redis: str
    mlflow: str
    redis_password_file: Path | None = None


@dataclass(frozen=True, slots=True)
class Workspace:
    """Places of one data set. Nothing is created here; who writes, makes the folder."""

    home: Path
    name: str
    services: Services | None = None
    """None = embedded: event log, online store and tracking are files of this workspace."""

    spool_folder: Path | None = None

    @classmethod
    def of(cls, settings: Settings) -> "Workspace":
        """The workspace that the settings name, in the mode that they name."""
        services = Services(
            settings.kafka, settings.redis, settings.mlflow, settings.redis_password_file
        )
        return cls(
            settings.home,
            settings.dataset,
            services if settings.mode == "services" else None,
            settings.spool,
        )

    @property
    def root(self) -> Path:
        """All of this data set, except the world's truth, which lies elsewhere on purpose."""
        return self.home / "datasets" / self.name

    @property
    def lock(self) -> Path:
        """Held by who changes lake, features or models; beside the folder, which may be replaced."""
        return self.home / "datasets" / f".{self.name}.lock"

    @property
    def lake(self) -> Path:
        """events/event_date=YYYY-MM-DD/part.parquet, items.parquet, users.parquet, dataset.json."""
        return self.root / "lake"

    @property
    def quarantine(self) -> Path:
        """Rows that did not fit, with row number, column and reason."""
        return self.root / "quarantine"

    @property
    def offline(self) -> Path:
        """One Parquet file per feature view, read by Feast."""
        return self.root / "offline"

    @property
    def feast(self) -> Path:
        """Feast's registry and, embedded, its online store."""
        return self.root / "feast"

    @property
    def training(self) -> Path:
        """Models and tables on their way into a bundle."""
        return self.root / "training"

    @property
    def items_mark(self) -> Path:
        """Rewritten after item rows were written online; serving watches it."""
        return self.feast / "items.json"

    @property
    def online_mark(self) -> Path:
        """As of when each batch view is online; goes with the rows when they are cleared."""
        return self.feast / "online.json"

    @property
    def bundles(self) -> Path:
        """versions/<id>/ and the pointer `current`."""
        return self.root / "bundles"

    @property
    def event_log(self) -> Path:
        """The embedded event log."""
        return self.root / "log" / "events.sqlite"

    @property
    def spool(self) -> Path:
        """Mode services: one file per API process, of what the relay has not delivered yet."""
        return self.spool_folder or self.root / "spool"

    @property
    def state(self) -> Path:
        """The stream worker's state and offsets, one file per partition."""
        return self.root / "state"

    @property
    def forgotten(self) -> Path:
        """Salted hashes of users who asked to be forgotten; keep it with every backup."""
        return self.root / "forgotten.json"

    @property
    def receipts(self) -> Path:
        """What was removed of whom, when; without ids."""
        return self.root / "receipts"

    @property
    def sample_users(self) -> Path:
        """Users with a long history, for the page; no bundle names a user."""
        return self.root / "sample_users.json"

    @property
    def monitoring(self) -> Path:
        """Drift reports, and what the last quality check found."""
        return self.root / "monitoring"

    @property
    def reports(self) -> Path:
        """What the commands measured, as JSON."""
        return self.home / "reports"

    @property
    def tracking_uri(self) -> str:
        """MLflow's server, or its database."""
        return self.services.mlflow if self.services else f"sqlite:///{self.home / 'mlflow.db'}"
