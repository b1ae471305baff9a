"""Every served feature computed again as training would compute it, and compared value by value.

    log, topic `served`                        offline store, lake, the bundle that served
        |  the newest slates with features          |  user and item rows known at that moment
        v                                           v
    (R, F) as read                    (R, F) by the same `assemble`
                 `-> monitoring/skew.py: equal, behind, restated or skewed <-'

Who reads a value a second before its successor is pushed has read a good value: where a slate differs,
it is computed once more from what was known a little earlier (pipelines/skew_earlier.py).

What can be computed again, as measured: all of it where the search is exact. Where it is not, the index is
built from the bundle's own vectors, on one thread, which should give the same lists. What cannot:
a price that the catalogue has replaced since, for it keeps no history; and `position`, 0 for both.

python -m pipelines.skew [--requests 1000] [--until 2026-03-02T02:00:00+00:00]
"""

import argparse
import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np

from features.definitions import HOURLY_LAG
from features.errors import ContractError, NotReady
from infra.clients import open_feast
from infra.event_log import open_log
from infra.reports import write_json
from infra.settings import Settings
from infra.workspace import Workspace
from models.bundle import load, version_path
from models.versions import published
from monitoring.skew import (
    ENOUGH,
    EQUAL,
    LIMIT,
    SKEWED,
    Finding,
    Rows,
    Slate,
    compare,
    equal,
    over,
    read_slates,
    told,
)
from pipelines.build_features import build_features
from pipelines.days import feature_days, known_day, split_of
from pipelines.increments import newest
from pipelines.ingest import Log, ingest_log
from pipelines.materialize import apply_views
from pipelines.past import read_past
from pipelines.recompute import Known, again, candidates
from pipelines.skew_earlier import Case, Written, explain, items_known, users_known

REQUESTS = 10_000
MONITORED, MONITORED_LIMIT = 1_000, 0.01
"""Newest slates that the monitor compares before it trains, and the share that may be skewed: of so
few, two that met a row in the middle of its repair would be beyond the usual limit."""

TOGETHER = 2_000
"""Slates joined at once: a join of a few thousand rows costs little more than one of a few hundred."""

Tell = Callable[[int], None]
"""Called with how many slates more are done."""


def bring_up(workspace: Workspace, log: Log, slates: Sequence[Slate], engine: str) -> None:
    """Take the log into the lake, and compute what training would read of the slates' days."""
    if slates:
        ingest_log(workspace, log)
        make_offline(workspace, slates, engine)


def make_offline(workspace: Workspace, slates: Sequence[Slate], engine: str) -> None:
    """Features from two days before the first slate on, so that it finds rows of every age.

    The days that training asks for stay among them, and the hours up to the newest one there, or
    who comes next would find them gone.
    """
    begin, until = slates[0].at.date() - timedelta(days=2), slates[-1].at
    last = known_day(until)
    own = {begin + timedelta(days=n) for n in range((last - begin).days + 1)}
    trained_on = {day for day in feature_days(split_of(workspace), until) if day <= last}
    days = sorted(own | trained_on)
    hour = newest(workspace.offline, "item_hourly")
    until = until if hour is None else max(until, hour + HOURLY_LAG)
    build_features(workspace, days, engine, until=until, hourly=hour is not None)
    apply_views(open_feast(workspace), workspace.offline)


def skew(
    workspace: Workspace,
    slates: Sequence[Slate],
    limit: float = LIMIT,
    tell: Tell = lambda slates: None,
) -> dict[str, Any]:
    """Compare logged slates with what the offline store says of them; the gate reads the outcome.

    Args:
        workspace: its lake and offline store reach to the newest slate.
        slates: from `read_slates`, oldest first.
        limit: share of a feature's values that may be skewed.
        tell: called as slates are done.

    Returns:
        requests, rows, bundles, skipped: why -> slates; features: column -> Finding; over: columns
        beyond the limit; blocked; because; served: {first, last}; limit.

    Raises:
        NotReady: no slate can be compared.
    """
    there = set(published(workspace.bundles))
    kept = [slate for slate in slates if slate.bundle in there]
    skipped = Counter("its bundle is gone" for slate in slates if slate.bundle not in there)
    if not kept:
        raise NotReady(
            f"data set '{workspace.name}' has no slate that was logged with its features"
            + (f" ({len(slates)} of bundles that are gone)" if slates else "")
            + "; serve some requests with a ranked bundle first"
        )
    categories = read_past(workspace).vocabulary["category"]
    written, parts = Written(workspace), list[Rows]()
    for first in range(0, len(kept), TOGETHER):
        some = kept[first : first + TOGETHER]
        cases = _cases(workspace, written, categories, some, tell)
        parts += [_rows(list(own)) for _, own in groupby(cases, lambda case: case.case.bundle.id)]
    findings = compare(parts)
    beyond = over(findings, limit)
    enough = len(kept) >= ENOUGH
    found = {
        "requests": len(kept),
        "rows": sum(len(part.served) for part in parts),
        "bundles": dict(Counter(slate.bundle for slate in kept)),
        "skipped": dict(skipped),
        "features": told(findings),
        "over": beyond,
        "blocked": bool(beyond) and enough,
        "because": _because(findings, beyond, len(kept), limit),
        "served": {"first": kept[0].at.isoformat(), "last": kept[-1].at.isoformat()},
        "limit": limit,
    }
    write_json(report_path(workspace), found)
    return found


def standing(workspace: Workspace, columns: Sequence[str]) -> str | None:
    """Why the newest comparison stands against a model that reads `columns`; None = it does not.

    It stands until there is a newer one: who mended the cause serves on and compares again. A model
    that reads none of the skewed features may pass, for it is one way of mending.

    Interview: Offline the challenger wins clearly. Why may it still not go live?
        Because offline it read other values than it will read online. While a feature is skewed, its
        evaluation is about a model that nobody will be served, however good the interval looks; so
        the gate asks for parity first and for the better metric second.
        Trade-off: the champion suffers from the same skew and stays; sometimes a new model that
        leans on that feature less would already be better, and then somebody has to say --force.
        Shown by: tests/pipelines/loop/test_skew.py::test_a_skewed_feature_blocks_whom_it_concerns
    """
    path = report_path(workspace)
    if not path.exists():
        return None
    found = json.loads(path.read_text())
    named = [name for name in found["over"] if name in columns]
    if not found["blocked"] or not named:
        return None
    return (
        f"{', '.join(named)} skewed: {found['because']}, up to {found['served']['last']}; mend it, serve "
        "on, and run `shortlist skew --since` the moment it was mended"
    )


def report_path(workspace: Workspace) -> Path:
    """The newest comparison, which the gate reads."""
    return workspace.monitoring / "skew.json"


@dataclass(frozen=True, slots=True)
class Done:
    """A slate and the values of the first answer, before other versions were tried."""

    case: Case
    values: np.ndarray  # (K, F)


def _cases(
    workspace: Workspace,
    written: Written,
    categories: Sequence[str],
    slates: Sequence[Slate],
    tell: Tell,
) -> list[Done]:
    """Some slates, compared by the joins that training makes; what differs, explained if it can be."""
    store, at = open_feast(workspace), [slate.at for slate in slates]
    users = users_known(store, slates, at, categories)
    items = items_known(store, slates, at)
    bundles = {
        name: load(version_path(workspace.bundles, name)) for name in {s.bundle for s in slates}
    }
    done = []
    for slate, user, rows in zip(slates, users, items, strict=True):
        bundle, known = bundles[slate.bundle], Known(user, rows)
        features = bundle.catalogue.features
        if (width := slate.features.shape[1]) != len(features.names):
            raise ContractError(
                f"bundle {bundle.id} reads {len(features.names)} features, its slate "
                f"{slate.request_id} logs {width}; the log belongs to another data set"
            )
        found = candidates(bundle, slate, known)
        values = again(bundle, slate, known, found)
        same = equal(features, slate.features, values)
        verdict = np.where(same, EQUAL, SKEWED).astype(np.int8)
        case = Case(slate, bundle, known, found, values, verdict, np.zeros(same.shape))
        done.append(Done(case, values))
        tell(int(same.all()))
    odd = [one.case for one in done if (one.case.verdict == SKEWED).any()]
    explain(workspace, written, store, categories, odd)
    tell(len(odd))
    return done


def _rows(done: Sequence[Done]) -> Rows:
    """Slates of one bundle as rows."""
    slates = [one.case.slate for one in done]
    return Rows(
        features=done[0].case.bundle.catalogue.features,
        served=np.vstack([slate.features for slate in slates]),
        again=np.vstack([one.values for one in done]),
        verdict=np.vstack([one.case.verdict for one in done]),
        behind_s=np.vstack([one.case.behind_s for one in done]),
        request_ids=[slate.request_id for slate in slates for _ in slate.item_ids],
        item_ids=[item_id for slate in slates for item_id in slate.item_ids],
    )


def _because(
    findings: Mapping[str, Finding], beyond: Sequence[str], requests: int, limit: float
) -> str:
    """The verdict in a sentence."""
    if not beyond:
        return f"no feature is skewed in more than {limit:.2%} of its values"
    worst = findings[beyond[0]]
    others = f" and {len(beyond) - 1} more" if len(beyond) > 1 else ""
    kind = f", {worst.looks_like}" if worst.looks_like else ""
    told = f"{beyond[0]}{others} served other than trained ({worst.share:.1%} of its values{kind})"
    return told if requests >= ENOUGH else f"{told}; {requests} requests are too few to block"


def main() -> None:
    """Command line of this step, after a refresh; prints the verdict as one line of JSON."""
    parser = argparse.ArgumentParser(prog="python -m pipelines.skew", description=__doc__)
    parser.add_argument("--requests", type=int, default=MONITORED)
    parser.add_argument("--until", type=datetime.fromisoformat, default=None)
    asked = parser.parse_args()
    settings = Settings()
    workspace = Workspace.of(settings)
    with closing(open_log(workspace, settings.partitions)) as log:
        slates = read_slates(log, asked.requests, until=asked.until)
    try:
        found = skew(workspace, slates, MONITORED_LIMIT)
        print(json.dumps({name: found[name] for name in ("blocked", "because", "requests")}))
    except NotReady as nothing:
        print(json.dumps({"blocked": False, "because": str(nothing), "requests": 0}))


if __name__ == "__main__":
    main()
