"""What answers right now: the current bundle and the opened feature store, both replaced in place.

A request takes the bundle once, at its start, and keeps it to the end; a swap is one assignment.
"""

import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import structlog

from features.errors import ContractError, FeaturesUnavailable
from features.request import UserRow, context_of, user_state
from features.store import OnlineStore
from infra.clients import open_feast
from infra.workspace import Workspace
from models.bundle import Bundle, current, load, version_path
from models.funnel import recommend
from monitoring.metrics import Metrics
from serving.deadline import BoundedPool

from features.repo.views import stored_views  # isort: skip  # imports Feast: after infra.clients

READERS, READS_WAITING = 4, 12
"""A read holds the interpreter lock for most of its time: more threads would not read faster."""

WARM_UP_SLATES = 5


class CurrentBundle:
    """Follows the pointer of the bundles folder.

    Interview: How does a running server take a new model without a gap and without a mixture?
        It polls one small file. When the id in it changes, it loads that version beside the old
        one, checks every hash, answers a few requests with it for itself, and only then replaces
        one reference. Requests under way finish with the bundle they began with.
        Trade-off: both versions are in memory for a moment, and a second passes before the swap;
        in return publishing needs no access to the servers.
        Shown by: tests/serving/test_current.py::test_a_new_bundle_answers_without_a_restart
    """

    def __init__(self, root: Path, metrics: Metrics) -> None:
        self._root, self._metrics = root, metrics
        self.bundle: Bundle | None = None
        self.reason = "no bundle has been promoted yet: run `shortlist run` or `shortlist promote`"
        self._refused: str | None = None

    def refresh(self) -> bool:
        """Load what the pointer names, if that is new; True after a swap. Blocks for its time.

        A bundle that does not load is refused once, with its reason; the old one goes on.
        """
        started = time.perf_counter()
        wanted: str | None = None
        try:
            wanted = current(self._root)
            if wanted is None or wanted in (self._refused, self.bundle and self.bundle.id):
                return False
            bundle = load(version_path(self._root, wanted))
            warm_up(bundle)
        except ContractError as error:
            self._refused = wanted  # versions never change: what was refused stays refused
            if str(error) != self.reason:
                self._metrics.bundle_refused.inc()
                structlog.get_logger().error("bundle refused", reason=str(error))
            self.reason = str(error)
            return False
        self.bundle, self.reason, self._refused = bundle, "", None
        self._metrics.bundle.info({"id": bundle.id, "dataset": bundle.info.name})
        structlog.get_logger().info(
            "bundle loaded", bundle=bundle.id, seconds=round(time.perf_counter() - started, 3)
        )
        return True


def warm_up(bundle: Bundle) -> None:
    """Answer a few requests, so that the first user does not pay for first calls.

    Raises:
        ContractError: the bundle loads but cannot answer.
    """
    now = datetime.now(UTC)  # any moment will do: nothing of this is shown or kept
    some = bundle.catalogue.item_ids[bundle.popular[:3]].tolist()
    at = [int((now - timedelta(days=day)).timestamp() * 1e6) for day in range(len(some))]
    row = replace(UserRow.unknown(), history_items=some, history_at=at)
    try:
        for _ in range(WARM_UP_SLATES):
            user = user_state(row, bundle.catalogue)
            recommend(bundle, user, context_of(now, {}, bundle.catalogue), 10)
    except Exception as error:  # whatever it is, this bundle must not meet a user
        raise ContractError(
            f"bundle {bundle.id}: loads but cannot answer ({error!r}); roll back or publish again"
        ) from error


class StoreReader:
    """Reads users from the online store, in a pool with a deadline.

    A store on a server may be away when this starts and at any time later: reads fail in time
    meanwhile, and succeed again when it is back, without anybody's doing.
    """

    def __init__(self, workspace: Workspace, timeout_ms: float) -> None:
        """Make the pool; `open` opens the store.

        Args:
            workspace: where the store is.
            timeout_ms: limit of one call to a server; longer than a caller waits makes no sense.
        """
        self._workspace, self._timeout_ms = workspace, timeout_ms
        self._pool = BoundedPool(
            "features", threads=READERS, waiting=READS_WAITING, error=FeaturesUnavailable
        )
        self.store: OnlineStore | None = None
        self.reason = "the feature store is not open yet"

    def open(self) -> None:
        """Open the store if it is not; blocks for its time, and a failure is kept as the reason.

        The views are those of the code: a registry that is lost, spoiled, or says that a view is
        being materialized keeps nobody from reading the rows.
        """
        if self.store is not None:
            return
        try:
            store = open_feast(self._workspace, self._timeout_ms / 1000)
            self.store = OnlineStore(store, stored_views(self._workspace.offline))
        except Exception as error:  # nothing here must keep the API from answering
            if not self._workspace.feast.exists():  # this process only reads, and came first
                self.reason = "the feature store is not made yet"
                return
            reason = f"the feature store cannot be opened ({type(error).__name__})"
            if reason != self.reason:
                structlog.get_logger().error("feature store not open", exc_info=error)
            self.reason = reason

    async def read(self, user_id: str, bundle: Bundle, now: datetime, timeout_ms: float) -> UserRow:
        """The user's row.

        Raises:
            FeaturesUnavailable: the store is not open, too late, or too busy.
        """
        if self.store is None:
            raise FeaturesUnavailable(f"features: {self.reason}")
        categories = bundle.catalogue.vocabulary["category"]
        return await self._pool.call(timeout_ms, self.store.read_user, user_id, categories, now)

    def close(self) -> None:
        """Take no more reads."""
        self._pool.close()
