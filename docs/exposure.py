"""Whose taste the offline table shows: the users', or that of the policy that wrote the log.

    python -m docs.exposure          (after `shortlist run`; reads lake and staged bundle, changes nothing)

The same lists as `shortlist evaluate` makes, judged thrice on the test window: by everything that was
taken, each taking weighted by one over the propensity with which it was shown, and by what was taken
from slates that were drawn evenly. Weighted recall@10: the share of the (weighted) takings that a
user's list holds; the interval resamples users.
"""

import numpy as np
import pandas as pd

from infra.clients import open_feast
from infra.settings import Settings
from infra.workspace import Workspace
from models.bundle import load
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
    taken["ix"] = taken["item_id"].map(staged.catalogue.index)
    print(head_table(shown, taken, staged.catalogue.item_ids, always))
    print(judged_table(asked, lists, taken.dropna(subset=["ix"])))


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
    asked: list[Asked], lists: dict[str, list[np.ndarray]], taken: pd.DataFrame
) -> str:
    """Model x the three ways to judge."""
    row_of = {a.query.user_id: row for row, a in enumerate(asked)}
    taken = taken[taken["user_id"].isin(list(row_of))]
    own = [set(a.own_ix.tolist()) for a in asked]
    user = taken["user_id"].map(row_of).to_numpy()
    ix = taken["ix"].to_numpy(dtype=np.int64)
    new = np.array([item not in own[row] for row, item in zip(user, ix, strict=True)])
    user, ix = user[new], ix[new]
    even = (taken["source"] == "random").to_numpy()[new]
    weight = 1 / taken["propensity"].to_numpy()[new]
    ways = {"all takings": np.ones(len(ix)), "over propensity": weight, "even slates": even * 1.0}
    drawn = np.random.default_rng(SEED).multinomial(
        len(asked), np.full(len(asked), 1 / len(asked)), RESAMPLES
    )
    head = [
        f"{name} ({(w > 0).sum()}; worth {w.sum() ** 2 / (w**2).sum():.0f})"
        for name, w in ways.items()
    ]
    rows = ["", f"| recall@{K} | {' | '.join(head)} |", "|---|" + "---|" * len(ways)]
    for name, of_users in lists.items():
        hit = np.array([item in of_users[row][:K] for row, item in zip(user, ix, strict=True)])
        cells = []
        for w in ways.values():
            hits, due = (np.bincount(user, part, len(asked)) for part in (hit * w, w))
            low, high = np.percentile((drawn @ hits) / (drawn @ due), [2.5, 97.5])
            cells.append(f"{hits.sum() / due.sum():.3f} ({low:.3f} … {high:.3f})")
        rows.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(rows)


if __name__ == "__main__":
    main()
