"""The parts of one running API, put together in one place and closed in the right order."""

import asyncio
from dataclasses import dataclass
from pathlib import Path

import structlog

from features.errors import NotReady
from infra.clock import Clock
from infra.event_log import Appender
from infra.settings import Settings
from infra.spool import Spool, open_appender
from infra.workspace import Workspace
from models.bundle import Bundle
from monitoring.metrics import Metrics
from serving.current import CurrentBundle, StoreReader
from serving.events import EventDoor
from serving.fallback import Fallback, LastLists, PopularInContext
from serving.fresh_items import FreshItems
from serving.moment import clock_of
from serving.outbox import Outbox
from serving.recommend import Recommender

WATCH_EVERY_S = 1.0

SLATES_SHARE = 0.75
"""How full the spool may be for slates: the rest is kept for events, which were promised."""


@dataclass(slots=True)
class Runtime:
    """What the routes use."""

    settings: Settings
    clock: Clock
    metrics: Metrics
    log: Appender
    current: CurrentBundle
    reader: StoreReader
    items: FreshItems
    recommender: Recommender
    events: EventDoor
    outbox: Outbox
    sample_users: Path
    """The file that names some users for the page."""

    started: bool = False
    """The first attempt to load everything is over, with or without success."""

    @classmethod
    def of(cls, settings: Settings, metrics: Metrics) -> "Runtime":
        """Everything that opens fast; `watch` loads the rest.

        Raises:
            ContractError: a simulated clock without a start.
            ValueError: the event log has another number of partitions.
        """
        workspace = Workspace.of(settings)
        log = open_appender(workspace, settings)
        slates: Appender = log
        if isinstance(log, Spool):
            slates = log.up_to(SLATES_SHARE)
            metrics.watch_spool(log.backlog, log.max_bytes)
        fallback = Fallback(LastLists(), PopularInContext())
        reader = StoreReader(workspace, settings.features_timeout_ms)
        current, clock = CurrentBundle(workspace.bundles, metrics), clock_of(settings)
        return cls(
            settings=settings,
            clock=clock,
            metrics=metrics,
            log=log,
            current=current,
            reader=reader,
            items=FreshItems(current, reader, workspace.items_mark, metrics, clock),
            recommender=Recommender(settings, reader, fallback, metrics),
            events=EventDoor(log, fallback, metrics),
            outbox=Outbox(slates, metrics, settings.feature_log_share),
            sample_users=workspace.sample_users,
        )

    @property
    def ready(self) -> bool:
        """A bundle answers, and the feature store is open or known not to be."""
        return self.started and self.current.bundle is not None

    def bundle(self) -> Bundle:
        """The bundle that answers this request.

        Raises:
            NotReady: none is loaded.
        """
        if self.current.bundle is None:
            raise NotReady(self.current.reason)
        return self.current.bundle

    async def watch(self) -> None:
        """Load the bundle and open the store, then look for changes until cancelled."""
        while True:
            try:
                await asyncio.to_thread(self.current.refresh)
                await asyncio.to_thread(self.reader.open)
                self.started = True  # the bundle's own item features will do for a moment
                await asyncio.to_thread(self.items.refresh)
            except (
                Exception
            ) as error:  # a full disk, a mistake of ours: the next second tries again
                structlog.get_logger().error("watch failed", exc_info=error)
            self.started = True
            await asyncio.sleep(WATCH_EVERY_S)

    def close(self) -> None:
        """Stop taking, write what waits, close the log last."""
        self.events.close()
        self.reader.close()
        self.outbox.close()
        self.log.close()
