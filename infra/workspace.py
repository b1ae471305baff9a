"""Where each data set keeps its state: one folder below `home`, the same shape for all."""

from dataclasses import dataclass
from pathlib import Path

from infra.settings import Settings


@dataclass(frozen=True, slots=True)
class Workspace:
    """Paths of one data set. Nothing is created here; who writes, makes the folder."""

    home: Path
    name: str

    @classmethod
    def of(cls, settings: Settings) -> "Workspace":
        """The workspace that the settings name."""
        return cls(settings.home, settings.dataset)

    @property
    def root(self) -> Path:
        """All of this data set, except the world's truth, which lies elsewhere on purpose."""
        return self.home / "datasets" / self.name

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
    def bundles(self) -> Path:
        """versions/<id>/ and the pointer `current`."""
        return self.root / "bundles"

    @property
    def event_log(self) -> Path:
        """The embedded event log."""
        return self.root / "log" / "events.sqlite"

    @property
    def state(self) -> Path:
        """The stream worker's state and offsets, one file per partition."""
        return self.root / "state"

    @property
    def monitoring(self) -> Path:
        """Drift reports."""
        return self.root / "monitoring"

    @property
    def reports(self) -> Path:
        """What the commands measured, as JSON."""
        return self.home / "reports"

    @property
    def tracking_uri(self) -> str:
        """MLflow's database."""
        return f"sqlite:///{self.home / 'mlflow.db'}"
