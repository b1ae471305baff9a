"""The loop's other half, for as long as the shop is open: fresh features, a model, its record.

Each round, every `settings.monitor_every_s`:

    hours      a new hour's item features are known -> compute, materialize
    features   a new day's rows are known, or the online store lost its own -> compute, materialize
    train      no trained bundle yet, or what is served drifted -> check the newest batches, compare what
               was served with what is trained on (skew), train, evaluate, gate, promote
    track      MLflow has what was published, and its alias follows the pointer

A part that fails is logged with its reason, counted, and tried again; nothing ends the loop but a
signal. Everything heavy runs in a process of its own (pipelines/step_process.py), so the monitor
stays small, and telling it to end also ends the step.

python -m pipelines.monitor [--once]
"""

import argparse
import json
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path

import structlog
from prometheus_client import start_http_server

from infra.clock import Clock, real_clock
from infra.logging import configure
from infra.reports import write_json
from infra.settings import Settings
from infra.workspace import Workspace
from models.manifest import is_trained, read_manifest
from models.versions import current, version_path
from monitoring.loop_metrics import LoopMetrics
from monitoring.policy import Decision, held
from pipelines.days import known_day, known_hour
from pipelines.lock import Busy, only_one
from pipelines.step_process import Runner, Stopped
from pipelines.tracking import waiting

SEED = 0
"""Of every training; what differs between two is the data."""

RECORD_AGAIN_S = 1800.0
"""The registry is compared with the pointer this often although nothing moved: it may be a new one."""


@dataclass(frozen=True, slots=True)
class Memory:
    """What outlives the process: `monitoring/loop.json`. Times are ISO 8601 in UTC."""

    features_day: str | None = None
    """The newest day whose rows are in the online store."""

    features_hour: str | None = None
    """The newest hour, likewise."""

    data_until: str | None = None
    """The newest positive event that the lake holds."""

    trained_at: str | None = None
    """When the last training ended."""

    outcome: str | None = None
    because: str | None = None
    champion: str | None = None
    """The last trained bundle that was promoted here."""


class Monitor:
    """One data set's loop.

    Interview: Why does the monitor start processes instead of calling functions?
        Spark's Java, torch and a frame of all events take hundreds of megabytes each and give
        little back while their process lives. One after the other in processes of their own, the
        peak is the largest of them and not their sum, and a step that hangs can be ended.
        Trade-off: seconds of imports per step, and results pass through files.
        Shown by: tests/pipelines/test_step_process.py::test_a_steps_memory_ends_with_it
    """

    def __init__(self, settings: Settings, clock: Clock = real_clock) -> None:
        """Nothing is opened here; each round opens what it needs, so that it survives its loss."""
        self.settings, self.clock = settings, clock
        self.workspace = Workspace.of(settings)
        self.metrics = LoopMetrics()
        self.runner = Runner(settings.environment())
        self.memory = recall(self.workspace)
        self._drift_checked = self._train_again = self._recorded_at = -float("inf")  # monotonic s
        self._failed_trainings = 0
        self._recorded: str | None = None
        self._log = structlog.get_logger()

    def run(self) -> None:
        """Rounds until told to stop."""
        self._log.info("monitor starts", dataset=self.workspace.name, **asdict(self.memory))
        while not self.runner.stopped.is_set():
            self.round()
            self.runner.stopped.wait(self.settings.monitor_every_s)

    def round(self) -> bool:
        """Look once at everything; False when a part of it failed."""
        now = self.clock()
        fine = [
            self._attempt("features", self._keep_fresh, now),
            self._attempt("hours", self._keep_hourly, now),
            self._attempt("online", self._keep_filled, now),
            self._attempt("train", self._keep_trained, now),
            self._attempt("track", self._keep_recorded, now),
        ]
        self._measure()
        return all(fine)

    def _attempt(self, step: str, part: Callable[[datetime], None], now: datetime) -> bool:
        if self.runner.stopped.is_set():
            return True
        try:
            part(now)
        except Stopped as told:
            self._log.info("stopped", step=step, because=str(told))
        except Busy as told:
            self._log.info("waits", step=step, because=str(told))
        except Exception as error:  # a server away, a disk full, a mistake of ours: the next round
            self.metrics.failures.labels(step).inc()
            self._log.error("failed", step=step, because=f"{type(error).__name__}: {error}")
            return False
        return True

    def _keep_fresh(self, now: datetime) -> None:
        """Once a day, and at the first start: serving takes no batch row older than two days."""
        if self.memory.features_day != known_day(now).isoformat():
            with only_one(self.workspace, "the monitor: features of a new day") as held_open:
                self._refresh(now, held_open)

    def _keep_hourly(self, now: datetime) -> None:
        """Once an hour, as soon as its rows are known; a new day brings its own."""
        hour = known_hour(now).isoformat()
        if self.memory.features_day is None or self.memory.features_hour == hour:
            return
        with only_one(self.workspace, "the monitor: features of a new hour") as held_open:
            told = self.runner.run("pipelines.refresh_hours", ["--now", now.isoformat()], held_open)
        self._remember(features_hour=hour)
        self._log.info("hourly features", hour=hour, **told)

    def _keep_filled(self, now: datetime) -> None:
        """Fill the online store again where its batch rows are gone."""
        from pipelines.online_probe import batch_rows_gone

        if not batch_rows_gone(self.workspace, now):
            return
        self._log.warning("online rows gone", remedy="materialize")
        with only_one(self.workspace, "the monitor: materialize") as held_open:
            moment = ["--now", now.isoformat(), "--only-online"]
            self.runner.run("pipelines.refresh", moment, held_open)

    def _keep_trained(self, now: datetime) -> None:
        if time.monotonic() < self._train_again:
            return
        pause = timedelta(seconds=self.settings.retrain_pause_s)
        decision = held(self._wanted(now), _moment(self.memory.trained_at), now, pause)
        if decision.because:
            self._log.info("training", retrain=decision.retrain, because=decision.because)
        if not decision.retrain:
            return
        try:
            self._train(now, decision.because)
        except (Stopped, Busy):
            raise
        except Exception:
            self.metrics.trainings.labels("failed").inc()
            self._failed_trainings += 1
            self._train_again = time.monotonic() + patience_s(
                self._failed_trainings, self.settings.monitor_every_s, pause.total_seconds()
            )
            raise
        self._failed_trainings = 0

    def _wanted(self, now: datetime) -> Decision:
        """Whether there is a reason to train; an empty one where nobody looked."""
        champion = current(self.workspace.bundles)
        if champion is None or not self._is_trained(champion):
            if self.memory.champion is None:
                return Decision(True, "no trained bundle yet")
            return Decision(
                False, f"rolled back from {self.memory.champion} to a popular list: that is kept"
            )
        if time.monotonic() - self._drift_checked < self.settings.drift_every_s:
            return Decision(False, "")
        checked = self.runner.run("pipelines.check_drift")
        self._drift_checked = time.monotonic()
        if checked["drift"]:
            self.metrics.drift_share.set(checked["drift"]["share"])
        return Decision(**checked["decision"])

    def _train(self, now: datetime, because: str) -> None:
        """From the log to the gate's word."""
        since = time.monotonic()
        dials = ["--scale", self.settings.scale, "--seed", str(SEED)]
        with only_one(self.workspace, f"the monitor: training, {because}") as held_open:
            if self._refreshed_at != now:
                self._refresh(now, held_open)
            checked = self.runner.run(
                "pipelines.check_quality", ["--now", now.isoformat()], held_open
            )
            if not checked["passed"]:
                self._block(checked["because"])
                return
            self._attempt("skew", lambda now: self._compare(now, held_open), now)
            self.runner.run(
                "pipelines.train_retrieval", ["--dataset", self.workspace.name, *dials], held_open
            )
            moment = ["--now", now.isoformat(), "--because", because]
            told = self.runner.run("pipelines.challenge", [*dials, *moment], held_open)
        seconds = time.monotonic() - since
        outcome = "promoted" if told["promoted"] else "refused"
        self.metrics.trainings.labels(outcome).inc()
        self.metrics.training_seconds.set(seconds)
        new = told["bundle"] if told["promoted"] and self._is_trained(told["bundle"]) else None
        self._remember(
            trained_at=self.clock().isoformat(),
            outcome=outcome,
            because=because,
            champion=new or self.memory.champion,
        )
        self._log.info(
            "trained", bundle=told["bundle"], verdict=told["verdict"], seconds=round(seconds, 1)
        )

    def _block(self, because: str) -> None:
        """Learn nothing from a batch in doubt; look again after a while."""
        self.metrics.trainings.labels("blocked").inc()
        self._train_again = time.monotonic() + self.settings.drift_every_s
        self._remember(outcome="blocked", because=because)
        self._log.error("training blocked", because=because)

    def _compare(self, now: datetime, held_open: int) -> None:
        """What was served since the champion came, with what is trained on; the gate reads it."""
        told = self.runner.run("pipelines.skew", ["--until", now.isoformat()], held_open)
        log = self._log.warning if told["blocked"] else self._log.info
        log("skew", because=told["because"], requests=told["requests"])

    _refreshed_at: datetime | None = None

    def _refresh(self, now: datetime, held_open: int) -> None:
        """The log's news into the lake, features, online store."""
        arguments = ["--now", now.isoformat(), "--engine", self.settings.engine]
        told = self.runner.run("pipelines.refresh", arguments, held_open)
        self._refreshed_at = now
        self._remember(
            features_day=known_day(now).isoformat(),
            features_hour=known_hour(now).isoformat(),
            data_until=told["data_until"],
        )
        self._log.info("features", day=self.memory.features_day, **told)

    def _keep_recorded(self, now: datetime) -> None:
        pointer = current(self.workspace.bundles)
        settled = pointer == self._recorded and not waiting(self.workspace)
        if pointer is None or (settled and time.monotonic() - self._recorded_at < RECORD_AGAIN_S):
            return
        told = self.runner.run("pipelines.tracking")
        self._recorded, self._recorded_at = told["champion"], time.monotonic()
        self._log.info("recorded", **told)

    def _is_trained(self, bundle_id: str) -> bool:
        return is_trained(read_manifest(version_path(self.workspace.bundles, bundle_id)))

    def _remember(self, **changes: str | None) -> None:
        self.memory = replace(self.memory, **changes)
        write_json(memory_path(self.workspace), asdict(self.memory))

    def _measure(self) -> None:
        now = self.clock()
        champion = current(self.workspace.bundles)
        self.metrics.trained.set(champion is not None and self._is_trained(champion))
        if until := _moment(self.memory.data_until):
            self.metrics.data_age_seconds.set((now - until).total_seconds())
        self.metrics.checked_at.set(now.timestamp())


def patience_s(failures: int, every_s: float, at_most_s: float) -> float:
    """Seconds until a training that failed `failures` times in a row is tried again.

    Examples:
        >>> [patience_s(n, 60, 3600) for n in (1, 2, 3, 9)]
        [60, 120, 240, 3600]
    """
    return max(every_s, min(every_s * 2 ** (min(failures, 20) - 1), at_most_s))


def recall(workspace: Workspace) -> Memory:
    """What an earlier monitor knew; nothing where there was none, or its file is not one of ours."""
    try:
        return Memory(**json.loads(memory_path(workspace).read_text()))
    except (OSError, ValueError, TypeError):
        return Memory()


def memory_path(workspace: Workspace) -> Path:
    """Where `Memory` is kept."""
    return workspace.monitoring / "loop.json"


def _moment(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)


def watch(settings: Settings, once: bool = False) -> bool:
    """Run the monitor until SIGTERM or Ctrl-C; False when a single round failed."""
    configure()
    monitor = Monitor(settings)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: monitor.runner.stop())
    if settings.metrics_port is not None:
        start_http_server(
            settings.metrics_port, addr=settings.host, registry=monitor.metrics.registry
        )
    if once:
        return monitor.round()
    monitor.run()
    return True


def main() -> None:
    """`python -m pipelines.monitor`: the workspace that the settings name."""
    parser = argparse.ArgumentParser(prog="python -m pipelines.monitor", description=__doc__)
    parser.add_argument("--once", action="store_true", help="one round; exit 1 if a part failed")
    sys.exit(0 if watch(Settings(), parser.parse_args().once) else 1)


if __name__ == "__main__":
    main()
