"""`shortlist forget-user`: take one user out of everything, for good, and say in writing what was done.

    1. the list of the forgotten (infra/forgotten.py), on the disk before anything is removed
    2. states of the stream worker, fenced, and the seeds
    3. lake, offline views, training tables, reports, quarantine
    4. the log: overwritten where it is our file, hidden where it is Kafka's
    5. the online store, and again what a batch in flight brought back meanwhile

From step 1 on no reader of the log sees them, so ingest, stream, replay and backfill bring nothing
back, and no bundle names a user, so neither does a rollback. The id stays blocked: a new event of it
is not stored, and nobody is told, since whoever may ask could find out who was deleted. Who wants to
come back comes under a new id.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any

from infra.erase import erase_online, erase_records
from infra.forgotten import Forgotten
from infra.kafka_log import retention_ms
from infra.reports import write_json
from infra.workspace import Workspace
from pipelines.forget_places import from_states, from_tables, from_texts, in_kafka

SETTLE_S = 1.0
"""A batch that a worker read before step 1 is folded, stored and pushed within this."""

LOOKS = 5
"""How often the states and the online store are looked at again, at most."""


def forget(
    workspace: Workspace, user_id: str, partitions: int, at: datetime, settle_s: float = SETTLE_S
) -> dict[str, Any]:
    """Remove a user and write the receipt.

    Args:
        workspace: whose lock the caller holds.
        user_id: as the events spell it.
        partitions: of the event log.
        at: when they asked, UTC; for the receipt.
        settle_s: how long workers may need for a batch in flight.

    Returns:
        The receipt, without the id: `user` (a salted hash), `at`, `found`, `since` (when they were
        forgotten first), `removed` {place: rows}, `hidden` {topic: records}, `remains` [{where,
        what, until}], `returned` (rows that a batch in flight brought back, removed too), `seconds`,
        and by step.

    Raises:
        sqlite3.OperationalError, RedisError, OSError: a store does not answer. The list has them by
            then; calling again goes on from there.

    Interview: How do you prove that a user is gone?
        By looking for their id where nobody promised that it is not: the bytes of every file,
        Parquet decoded, every key and value of the online store; then replaying the log, computing
        the features again, publishing the next bundle and rolling back, and looking again. A row
        that a query no longer finds may still lie in a free page, so SQLite files are written anew.
        Trade-off: that rewrite reads and writes whole files, so the time grows with them; a
        nightly job for all requests of the day costs the same once.
        Shown by: tests/pipelines/test_forget.py::test_nothing_is_left_and_nothing_comes_back
    """
    begun = time.monotonic()
    forgotten = Forgotten(workspace.forgotten)
    since = forgotten.since(user_id)
    if since is None:
        forgotten.add(user_id, at)
    spent: dict[str, float] = {}
    removed, hidden = dict[str, int](), dict[str, int]()
    with _timed(spent, "states"):
        removed["states"] = from_states(workspace, user_id, partitions)
    with _timed(spent, "tables"):
        for folder in (workspace.lake, workspace.offline, workspace.training):
            _count(removed, folder.name, from_tables(folder, user_id))
        removed["texts"] = from_texts(workspace, user_id)
    with _timed(spent, "log"):
        if workspace.services is None:
            _count(removed, "log", erase_records(workspace.event_log, user_id))
        else:
            hidden = in_kafka(workspace, user_id, partitions)
            for spool in sorted(workspace.spool.glob("*.sqlite")):
                _count(removed, "spool", erase_records(spool, user_id))
    with _timed(spent, "online"):
        removed["online"] = erase_online(workspace, user_id)
    returned = _again(workspace, user_id, partitions, settle_s)
    found = bool(since or hidden or any(removed.values()))
    name = forgotten.name_of(user_id)
    if not found:
        forgotten.drop(user_id)  # a slip of the pen must not keep a stranger out
    receipt = {
        "dataset": workspace.name,
        "user": name,
        "at": at.isoformat(timespec="seconds"),
        "found": found,
        "since": since or (at.isoformat(timespec="seconds") if found else None),
        "removed": {place: rows for place, rows in removed.items() if rows},
        "hidden": hidden,
        "returned": returned,
        "remains": _remains(workspace, hidden) if found else [],
        "seconds": round(time.monotonic() - begun, 3),
        "seconds_by_step": spent,
    }
    write_json(workspace.receipts / f"{at:%Y%m%dT%H%M%S.%f}-{name[:8]}.json", receipt)
    return receipt


def _count(removed: dict[str, int], place: str, found: dict[str, int]) -> None:
    for part, rows in found.items():
        removed[f"{place}/{part}"] = removed.get(f"{place}/{part}", 0) + rows


@contextmanager
def _timed(spent: dict[str, float], step: str) -> Iterator[None]:
    since = time.monotonic()
    yield
    spent[step] = round(time.monotonic() - since, 3)


def _again(workspace: Workspace, user_id: str, partitions: int, settle_s: float) -> int:
    """Rows that a batch or a request in flight brought back; none at the last look."""
    returned = 0
    for _ in range(LOOKS):
        time.sleep(settle_s)
        more = from_states(workspace, user_id, partitions) + erase_online(workspace, user_id)
        if workspace.services is None:
            late = erase_records(workspace.event_log, user_id, rewrite=False)
            more += sum(late.values())
        returned += more
        if not more:
            break
    return returned


def _remains(workspace: Workspace, hidden: dict[str, int]) -> list[dict[str, str]]:
    """What is not gone yet, and what takes it."""
    told = [
        {
            "where": "bundles published before",
            "what": "weights and counts that their events went into; no id, no row of their history",
            "until": "the next training and refresh; older versions until they are removed",
        },
        {
            "where": "memory of running API processes",
            "what": "the last list they were shown, by id, for when features are away",
            "until": "a restart, or a day",
        },
        {
            "where": "forgotten.json",
            "what": "a salted hash of the id, so that nothing brings it back",
            "until": "the data set is removed; a restored backup needs it",
        },
        {
            "where": "backups and copies made before",
            "what": "whatever was copied",
            "until": "they expire; after a restore, run this command again",
        },
    ]
    if workspace.services is None:
        return told
    count = sum(hidden.values())
    kafka = {
        "where": f"Kafka, topics {workspace.name}.*",
        "what": f"{count} records, which no reader of ours shows any more",
        "until": _retention(workspace),
    }
    redis = {
        "where": "Redis' own append-only file or snapshot, where it writes one",
        "what": "the removed keys",
        "until": "Redis rewrites it (BGREWRITEAOF, BGSAVE)",
    }
    return ([kafka] if count else []) + [redis, *told]


def _retention(workspace: Workspace) -> str:
    assert workspace.services is not None
    kept = retention_ms(workspace.services.kafka, f"{workspace.name}.events")
    if kept is None:
        return "the broker's retention takes them; it did not say how long that is"
    if kept < 0:
        return "for ever: the topic has no retention (set SHORTLIST_KAFKA_RETENTION_HOURS)"
    return f"retention takes them, {kept / 3_600_000:.0f} h after they were written"
