"""Did the model read, when it served, what it is trained on? Row by row, feature by feature.

In: the slates of the log with the features that were read (monitoring/shown.py), and the same values
computed again from the offline store, point in time, by whoever can open it (pipelines/skew.py).
Out: of each feature how many values are equal, which are explained, and what the rest looks like.

    equal     integers exactly, floats within FLOAT_TOLERANCE of the larger one
    behind    what was known a little earlier: a row was on its way. Its age is told
    restated  what the row said when it was written: events that arrived later have changed it since
    skewed    neither. This is what blocks a promotion

Throughout: R rows, one per shown item; K items of one slate; F features.
"""

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any

import numpy as np

from features.definitions import Feature
from features.feature_set import FeatureSet
from infra.event_log import Reader, RecordsGone

FLOAT_TOLERANCE = 1e-6
"""Relative. The model reads 32-bit floats, whose own step is a tenth of this."""

LIMIT = 0.001
"""Share of a feature's values that may be skewed; beyond it, what was trained is not what is served."""

ENOUGH = 100
"""Requests without which there is no verdict: one odd user of fifty would be one."""

BEHIND_MAX = {
    "seconds": timedelta(minutes=10),
    "hourly": timedelta(hours=1),
    "daily": timedelta(hours=6),
}
"""By tier: how long what has become known may be on its way to the model. A push takes a second, an
hourly run some minutes; a nightly one that was repaired by breakfast has harmed nobody."""

EQUAL, BEHIND, RESTATED, SKEWED = range(4)
VERDICTS = ("equal", "behind", "restated", "skewed")

READ_AT_ONCE = 500

TIMES = (2, 3)
"""Multiples that a repeated count is looked for at."""


@dataclass(frozen=True, slots=True)
class Slate:
    """One logged request whose features were logged with it."""

    request_id: str
    at: datetime  # UTC
    user_id: str
    context: Mapping[str, str]
    bundle: str
    item_ids: tuple[str, ...]  # (K,)
    features: np.ndarray  # (K, F) float32; NaN where the log has null


@dataclass(frozen=True, slots=True)
class Rows:
    """Values of one bundle's features, both ways, and where each row comes from."""

    features: FeatureSet
    served: np.ndarray  # (R, F)
    again: np.ndarray  # (R, F) computed again, as known at the moment of the request
    verdict: np.ndarray  # (R, F) int8, codes of VERDICTS
    behind_s: np.ndarray  # (R, F) age of what was read instead; 0 where not behind
    request_ids: Sequence[str]  # (R,)
    item_ids: Sequence[str]  # (R,)


@dataclass(frozen=True, slots=True)
class Finding:
    """One feature."""

    rows: int
    equal: int
    behind: int
    restated: int
    skewed: int
    worst: float  # largest difference among the skewed
    restated_most: float  # and among the restated
    behind_s_max: float
    looks_like: str | None  # what most of the skewed values have in common
    example: Mapping[str, Any] | None  # request_id, item_id, served, recomputed

    @property
    def share(self) -> float:
        """Of the values that are skewed."""
        return self.skewed / self.rows if self.rows else 0.0


def read_slates(
    log: Reader,
    newest: int,
    since: datetime | None = None,
    until: datetime | None = None,
) -> list[Slate]:
    """The newest slates with features, oldest first.

    Args:
        log: its topic `served` is read, from the end backwards.
        newest: at most so many.
        since: served at or after this moment; None = from the beginning.
        until: served before this moment; None = to the end.
    """
    found = [
        slate
        for partition in range(log.partitions)
        for slate in _of_partition(log, partition, newest, since, until)
    ]
    return sorted(found, key=lambda slate: (slate.at, slate.request_id))[-newest:]


def _of_partition(
    log: Reader, partition: int, newest: int, since: datetime | None, until: datetime | None
) -> list[Slate]:
    found: list[Slate] = []
    end = log.end_offset("served", partition)
    while end > 0 and len(found) < newest:
        begin = max(end - READ_AT_ONCE, 0)
        records = _between(log, partition, begin, end)
        slates = [slate for record in records if (slate := slate_of(record)) is not None]
        found += [s for s in slates if (not since or s.at >= since) and (not until or s.at < until)]
        if not records or (since and slates and slates[0].at < since):
            break
        end = begin
    return found


def _between(log: Reader, partition: int, begin: int, end: int) -> list[Mapping[str, Any]]:
    """Values of the records [begin, end) that the log still has."""
    values: list[Mapping[str, Any]] = []
    while begin < end:
        try:
            records = log.read("served", partition, begin, end - begin)
        except RecordsGone as gone:  # retention took the oldest ones
            begin += gone.count
            continue
        if not records:
            break
        values += [record.value for record in records if record.offset < end]
        begin = records[-1].offset + 1
    return values


def slate_of(record: Mapping[str, Any]) -> Slate | None:
    """A record of the topic `served`; None where it says too little to be computed again.

    That is a slate that no ranker scored, one that was not sampled, or one from before the context
    was logged beside the features.
    """
    if not record["features"] or "context" not in record:
        return None
    return Slate(
        request_id=record["request_id"],
        at=datetime.fromisoformat(record["served_at"]),
        user_id=record["user_id"],
        context=record["context"],
        bundle=record["bundle"],
        item_ids=tuple(record["item_ids"]),
        features=np.array(record["features"], dtype=np.float64).astype(np.float32),
    )


def equal(features: FeatureSet, served: np.ndarray, again: np.ndarray) -> np.ndarray:
    """(R, F) bool: which values are the same number, by the rule of their dtype.

    A missing value equals a missing value and nothing else.
    """
    tolerance = np.array([FLOAT_TOLERANCE * (f.dtype == "float") for f in features.features])
    one, other = served.astype(np.float64), again.astype(np.float64)
    size = np.maximum(np.abs(one), np.abs(other))
    near = np.abs(one - other) <= tolerance * size
    return np.where(np.isnan(one) | np.isnan(other), np.isnan(one) & np.isnan(other), near)


def compare(parts: Sequence[Rows]) -> dict[str, Finding]:
    """Column -> what was found of it, over the rows of all bundles.

    Interview: Your offline metrics are fine and the click rate fell. What do you check first?
        Whether the model reads online what it was trained on. Serving logs the exact values it
        used; a job computes the same rows again as training would, and compares value by value. A
        drift report cannot stand in for it: another user's values have an ordinary distribution
        and are wrong in nearly every row.
        Trade-off: every logged row is as wide as the model's input, so it is sampled, and a value
        that changes rightly after it was read (a late event, a row on its way) has to be told
        apart from a wrong one, or the alarm is never quiet.
        Shown by: tests/monitoring/test_skew.py::test_another_users_values_are_found_where_drift_is_silent
    """
    by_name: dict[str, list[tuple[Rows, int]]] = {}
    for part in parts:
        for place, name in enumerate(part.features.names):
            by_name.setdefault(name, []).append((part, place))
    return {name: _finding(found) for name, found in by_name.items()}


def over(findings: Mapping[str, Finding], limit: float = LIMIT) -> list[str]:
    """Features of which more than `limit` of the values are skewed, the worst first."""
    beyond = [name for name, finding in findings.items() if finding.share > limit]
    return sorted(beyond, key=lambda name: (-findings[name].share, name))


def told(findings: Mapping[str, Finding]) -> dict[str, dict[str, Any]]:
    """As reports have it."""
    return {name: {**asdict(f), "share": f.share} for name, f in findings.items()}


def _finding(found: Sequence[tuple[Rows, int]]) -> Finding:
    counts = Counter[int]()
    worst, restated, behind_s, example = 0.0, 0.0, 0.0, None
    looks = Counter[str]()
    for part, place in found:
        verdict = part.verdict[:, place]
        counts.update(verdict.tolist())
        behind_s = max(behind_s, float(part.behind_s[verdict == BEHIND, place].max(initial=0.0)))
        gaps = np.nan_to_num(
            np.abs(part.served[:, place].astype(np.float64) - part.again[:, place])
        )
        restated = max(restated, float(gaps[verdict == RESTATED].max(initial=0.0)))
        wrong = np.flatnonzero(verdict == SKEWED)
        if not len(wrong):
            continue
        looks.update(_kinds(part, place, wrong))
        gap = gaps[wrong]
        if example is None or gap.max() > worst:
            example = _example(part, place, int(wrong[gap.argmax()]))
        worst = max(worst, float(gap.max()))
    return Finding(
        rows=sum(counts.values()),
        **{name: counts[code] for code, name in enumerate(VERDICTS)},
        worst=worst,
        restated_most=restated,
        behind_s_max=behind_s,
        looks_like=_most(looks, counts[SKEWED]),
        example=example,
    )


def _example(part: Rows, place: int, row: int) -> dict[str, Any]:
    served, again = (float(side[row, place]) for side in (part.served, part.again))
    return {
        "request_id": part.request_ids[row],
        "item_id": part.item_ids[row],
        "served": None if np.isnan(served) else served,
        "recomputed": None if np.isnan(again) else again,
    }


def _most(looks: Counter[str], skewed: int) -> str | None:
    """The kind that explains most of the skewed values, if it explains more than half of them."""
    for kind, rows in looks.most_common(1):
        return kind if rows > skewed / 2 else None
    return None


def _kinds(part: Rows, place: int, wrong: np.ndarray) -> Counter[str]:
    """Kind of mistake -> how many of the wrong rows it would explain; a row may fit several."""
    served, again = part.served[wrong, place], part.again[wrong, place]
    fits = {
        name: int(explains.sum())
        for name, explains in _explanations(part, place, wrong, served, again)
    }
    # Of equals the first counts, so that the order of the explanations is one of preference.
    return Counter(dict(sorted(fits.items(), key=lambda fit: -fit[1])[:1]))


def _explanations(
    part: Rows, place: int, wrong: np.ndarray, served: np.ndarray, again: np.ndarray
) -> Iterator[tuple[str, np.ndarray]]:
    """(what it looks like, (wrong rows,) bool), the most telling first."""
    is_old = part.behind_s[wrong, place] > 0
    yield "stale: from a row that had been replaced long before", is_old
    feature = part.features.features[place]
    default = np.float32(feature.default)
    if default != 0:
        yield (
            f"missing served as 0 instead of {feature.default:g}",
            (served == 0) & (again == default),
        )
    for other, window in siblings(part.features, feature):
        yield f"looks like window {window}", served == part.again[wrong, other]
    for times in TIMES:
        yield f"counted {_WORDS[times]}", (again != 0) & (served == times * again)
    step, rows = _step(served - again)
    yield f"always {step:+g}", rows & ~is_old  # ages of yesterday are all a day short
    yield "null as default", np.isnan(served) | ((served == default) & (again != default))


_WORDS = {2: "twice", 3: "three times"}


def _step(difference: np.ndarray) -> tuple[float, np.ndarray]:
    """The commonest difference, and where it occurs; modulo a day, for the hour of one."""
    known = difference[np.isfinite(difference)]
    if not len(known):
        return 0.0, np.zeros(len(difference), dtype=bool)
    values, counts = np.unique(known, return_counts=True)
    step = float(values[counts.argmax()])
    # A clock that is two hours ahead reads -22 in the evening.
    return step, (difference == step) | (difference == step - 24) | (difference == step + 24)


def siblings(features: FeatureSet, feature: Feature) -> list[tuple[int, str]]:
    """Places of the features that differ from this one by their window only, and those windows.

    Examples:
        >>> from features.feature_set import CURRENT
        >>> week = CURRENT.features[CURRENT.place["positives_7d"]]
        >>> [(CURRENT.names[place], window) for place, window in siblings(CURRENT, week)]
        [('positives_24h', '24 h'), ('positives_30d', '30 d')]
    """
    own = _WINDOW.fullmatch(feature.name)
    if own is None:
        return []
    found = [
        (place, match)
        for place, other in enumerate(features.features)
        if other.name != feature.name and (match := _WINDOW.fullmatch(other.name))
    ]
    same = [(place, match) for place, match in found if match["stem"] == own["stem"]]
    windows = [(place, f"{int(match['size'])} {match['unit']}") for place, match in same]
    return sorted(
        windows, key=lambda window: (window[1].split()[1] != "h", int(window[1].split()[0]))
    )


_WINDOW = re.compile(r"(?P<stem>.+)_(?P<size>\d+)(?P<unit>[hd])")
