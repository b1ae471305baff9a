"""Whose taste the offline table shows: the users', or that of the policy that wrote the log.

    python -m docs.exposure          (after `shortlist run`; reads lake and staged bundle, changes nothing)

The same lists as `shortlist evaluate` makes, judged by four sets of takings of the test window: what
was taken; what would have been taken if all items were alike and only the place counted; what was
taken, each over the propensity with which it was shown; and what was taken from slates drawn evenly.
recall@10 is the share of these (weighted) takings that users' lists hold; the interval resamples users.
"""

import numpy as np
import pandas as pd

from infra.clients import open_feast
from infra.settings import Settings
from infra.workspace import Workspace
from models.bundle import Bundle, load
from pipelines.asked import Asked, users_asked
from pipelines.days import split_of
from pipelines.evaluate import K, _always_popular, _models, _unseen
from pipelines.lake import read_events
from pipelines.past import read_past

RESAMPLES, SEED = 1000, 0
HEAD = 0.01
"""Share of the catalogue that counts as its head: most positives before the test."""


def main() -> None:
    """Print two tables."""
    workspace = Workspace.of(Settings())
    past, split = read_past(workspace), split_of(workspace)
    staged = load(workspace.training / "bundle")
    asked = users_asked(workspace, past, open_feast(workspace), staged, split, SEED)
    always = _always_popular(past.before(split.test_from)["item_id"], staged)
    models = _models(staged, always, SEED)
    lists = {name: [_unseen(staged, a, of(a)) for a in asked] for name, of in models.items()}

    columns = ["event_type", "request_id", "position", "item_id", "source", "propensity"]
    events = read_events(workspace.lake, split.test_from, None, columns=[*columns, "user_id"])
    shown = events[events["event_type"] == "impression"]
    taken = events[events["event_type"].isin(past.info.positive_types)]
    taken = taken.drop_duplicates(["user_id", "item_id"])[["user_id", "item_id", "request_id"]]
    taken = taken.merge(shown[[*columns[1:]]], on=["request_id", "item_id"])
    print(head_table(shown, taken, staged.catalogue.item_ids, always))
    by_policy = shown[shown["source"] != "random"]
    at_place = taken["position"].value_counts() / shown["position"].value_counts()
    # Shown again and again, an item is taken at least once the more often.
    missed = by_policy.assign(logs=np.log1p(-by_policy["position"].map(at_place)))
    alike = missed.groupby(["user_id", "item_id"], as_index=False)["logs"].sum()
    ways = {
        "taken": taken.assign(weight=1.0),
        "if items were alike": alike.assign(weight=-np.expm1(alike["logs"])),
        "taken, over propensity": taken.assign(weight=1 / taken["propensity"]),
        "taken from even slates": taken[taken["source"] == "random"].assign(weight=1.0),
    }
    print(judged_table(asked, lists, {n: new(w, asked, staged) for n, w in ways.items()}))


def new(takings: pd.DataFrame, asked: list[Asked], staged: Bundle) -> pd.DataFrame:
    """Of test users, of items that they had not taken before: what the table of models counts."""
    row_of = {a.query.user_id: row for row, a in enumerate(asked)}
    takings = takings.assign(
        row=takings["user_id"].map(row_of), ix=takings["item_id"].map(staged.catalogue.index)
    ).dropna(subset=["row", "ix"])
    takings = takings.astype({"row": np.int64, "ix": np.int64})
    pairs = zip(takings["row"], takings["ix"], strict=True)
    return takings[[ix not in asked[row].own_ix for row, ix in pairs]]


def head_table(
    shown: pd.DataFrame, taken: pd.DataFrame, item_ids: np.ndarray, always: np.ndarray
) -> str:
    """What the head of the catalogue gets, on slates of the policy and on even ones."""
    head = set(item_ids[always[: max(1, round(HEAD * len(always)))]])
    rows = ["", "| slates | head's share of what was shown | of what was taken | takings per look "
            "at the head over those at the rest, place for place |", "|---|---|---|---|"]  # fmt: skip
    for name, even in (("of the policy", False), ("even", True)):
        here, took = (part[(part["source"] == "random") == even] for part in (shown, taken))
        at_place = took["position"].value_counts() / here["position"].value_counts()
        due = here["position"].map(at_place)
        is_head, took_head = here["item_id"].isin(head), took["item_id"].isin(head)
        ratio = (took_head.sum() / due[is_head].sum()) / ((~took_head).sum() / due[~is_head].sum())
        rows.append(
            f"| {name} ({len(took)} takings) | {is_head.mean():.1%} | {took_head.mean():.1%} "
            f"| {ratio:.2f} |"
        )
    return "\n".join(rows)


def judged_table(
    asked: list[Asked], lists: dict[str, list[np.ndarray]], ways: dict[str, pd.DataFrame]
) -> str:
    """Model x the ways to judge."""
    n = len(asked)
    drawn = np.random.default_rng(SEED).multinomial(n, np.full(n, 1 / n), RESAMPLES)
    head = [
        f"{name} ({len(way):,}, worth {_worth(way['weight']):,.0f})" for name, way in ways.items()
    ]
    rows = ["", f"| recall@{K} | {' | '.join(head)} |", "|---|" + "---|" * len(ways)]
    for name, of_users in lists.items():
        cells = []
        for way in ways.values():
            pairs = zip(way["row"], way["ix"], strict=True)
            hit = np.array([ix in of_users[row][:K] for row, ix in pairs])
            hits, due = (
                np.bincount(way["row"], w, n) for w in (hit * way["weight"], way["weight"])
            )
            low, high = np.percentile((drawn @ hits) / (drawn @ due), [2.5, 97.5])
            cells.append(f"{hits.sum() / due.sum():.3f} ({low:.3f} … {high:.3f})")
        rows.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(rows)


def _worth(weight: pd.Series) -> float:
    """As many equal takings would tell as much."""
    return float(weight.sum() ** 2 / (weight**2).sum())


if __name__ == "__main__":
    main()
