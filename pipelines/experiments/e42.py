"""E-42: delete my data, store by store: what is found afterwards, and how long it took."""

import contextlib
import io
import tempfile
from pathlib import Path

from infra.workspace import Workspace
from pipelines.experiments.card import Card, Claim, Direction, Measured, Setting, Tier
from pipelines.forget_drill import PLACES, Drilled, drill

LIMIT_S = 30.0
"""A request is answered while somebody waits, in a shop of this size."""

CARD = Card(
    number="E-42",
    title="Delete my data",
    question="A user asks to be deleted. What is left after you have deleted the row in Redis?",
    sentence=(
        "Nearly everything: the next rebuild brings the row back, and lake, log, states and tables "
        "never lost it. Deletion is a list that every reader honours and a rewrite of what can be "
        "rewritten, shown by a search for the bytes after everything that could bring them back."
    ),
    varied="deleting the online rows alone, against forget-user",
    measured=(
        "occurrences of the id, by bytes, in online store, offline view, bundle and training tables, "
        "states, and log: while they are a user, after each deletion, and after replay, second ingest, "
        "backfill, next bundle and rollback; seconds by step"
    ),
    claims=(
        Claim(
            "share_removed",
            "forget-user leaves nothing that replay, backfill, next bundle or rollback brings back",
            Direction.more,
            1.0,
            (1.0, 1.0),
            "what the command promises; one trace refutes it",
        ),
        Claim(
            "naive_share_left",
            "deleting the online rows alone leaves most of it after a rebuild",
            Direction.more,
            0.5,
            (0.6, 1.0),
            "a guess: all stores but one are untouched, and that one is filled again",
        ),
        Claim(
            "seconds_to_spare",
            f"it is done within {LIMIT_S:.0f} s",
            Direction.more,
            1.0,
            (25.0, LIMIT_S),
            "a trial at this size took less than a second; the files are rewritten whole, so it grows "
            "with them",
        ),
    ),
    observed="left_naive",
    true="left_forgotten",
    change_our_mind="one trace after any of the ways back, or minutes where a person waits",
    tier=Tier.S,
    families=("shop",),
)


def measure(setting: Setting, seed: int) -> Measured:
    """One drill on the embedded stores; counts depend on the seed, seconds on the machine too."""
    told = contextlib.redirect_stdout(io.StringIO())  # what the features' step prints
    with tempfile.TemporaryDirectory(prefix="shortlist-e42-") as home, told:
        return measured(drill(Workspace(Path(home), setting.family), seed))


def measured(found: Drilled) -> Measured:
    """The card's numbers of one drill."""
    before, naive = sum(found.before.values()), sum(found.naive.values())
    later = sum(found.after.values()) + sum(found.later.values())
    values: dict[str, float] = {
        "left_naive": naive,
        "left_forgotten": later,
        "naive_share_left": naive / before,
        "share_removed": 1 - later / before,
        "seconds": found.seconds,
        "seconds_to_spare": LIMIT_S - found.seconds,
        "rows_of_others_changed": found.others,
    }
    for place in (*PLACES, "other"):
        values |= {
            f"before_{place}": found.before[place],
            f"naive_{place}": found.naive[place],
            f"forgotten_{place}": found.after[place] + found.later[place],
        }
    steps = found.receipt["seconds_by_step"]
    return Measured(values | {f"seconds_{step}": spent for step, spent in steps.items()})
