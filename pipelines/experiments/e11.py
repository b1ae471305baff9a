"""E-11: a join that looks ahead is the best model offline and the worst with users.

Interview: Offline AUC jumped to nearly one overnight. What do you look at first?
    At the join. A training row that was read as of the end of the label's day, or as the newest
    there is, already counts the click that it should predict. The trees spend their gain on
    "was this item taken", which is always no when serving, and learn little else: the model
    does not only fail to gain, it loses against the honest one. Score it on rows as they were known
    at the moment; what is left is the model.
    Trade-off: exact joins need the time at which each row became known, which many tables never
    kept; logging the features that were served costs storage and is exact by construction.
    Shown by: tests/pipelines/experiments/test_e11.py::test_the_leak_wins_offline_and_loses_with_users
"""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from datetime import date
from functools import partial

from features.definitions import BATCH_VIEWS
from features.point_in_time import Leak
from pipelines.experiments.card import Card, Claim, Direction, Measured, Setting, Tier
from pipelines.experiments.groups import NAMES, columns_by_group
from pipelines.experiments.line import Line, gain_shares, lived, offline, trained_line
from pipelines.experiments.world import FAMILIES
from pipelines.ranker_rows import Rows

PRESET = "leaky_features"
"""Items rise and fall within days, so that knowing tomorrow's counts is worth something."""

DAYS = 2
"""That each model serves."""

JOINS: dict[str, Leak] = {"known": "none", "day_end": "day-end", "latest": "latest"}
"""What each query may see: what was known then, the end of its day, the newest there is."""

EXPIRED = "expired"
"""As `known`, but the nightly job has not run since the night before the training window: rows grow
older than their TTL, and Feast answers null, which becomes the default without a word."""

VARIANTS = (*JOINS, EXPIRED)

CARD = Card(
    number="E-11",
    title="A join that looks ahead",
    question="Offline AUC went up by a tenth and clicks went down. What happened?",
    sentence=(
        "The training rows had seen the answer: offline that is the best model there ever was, on rows "
        "as they were known it is a worse one, and users click less."
    ),
    varied=(
        "how training and test rows are joined: as known at the moment, as of the end of the label's "
        "day, the newest there is; and as known where the nightly job had stopped, so that rows outlive "
        f"their TTL. World preset {PRESET}; split by time in all"
    ),
    measured=(
        "AUC and nDCG@10 on the logged slates of the test window, by each variant's own join and by what "
        "was known; expected clicks per slate by the truth when each serves the same "
        f"{DAYS} days from the same morning; share of the trees' gain by group of columns"
    ),
    claims=(
        Claim(
            "own_auc_gain_latest",
            "joined with the newest rows, AUC by its own evaluation rises",
            Direction.more,
            0.05,
            (0.10, 0.45),
            "pilot world: +0.11, one seed; here history lists leak as well",
        ),
        Claim(
            "own_auc_gain_day_end",
            "joined as of the end of the label's day, it rises too",
            Direction.more,
            0.05,
            (0.10, 0.45),
            "as above",
        ),
        Claim(
            "true_gain_latest",
            "served, the model of the newest rows earns fewer clicks than the honest one",
            Direction.less,
            0.02,
            (-0.60, -0.05),
            "pilot world: -11 %, one seed",
        ),
        Claim(
            "true_gain_day_end",
            "so does the one of the day's end",
            Direction.less,
            0.02,
            (-0.60, -0.05),
            "as above",
        ),
        Claim(
            "known_auc_gain_latest",
            "scored on rows as they were known, the leaky model is below the honest one",
            Direction.less,
            0.01,
            (-0.20, -0.01),
            "reasoned: the columns that it relies on say nothing there",
        ),
        Claim(
            "cross_gain_added_latest",
            "the trees spend on the user's own history what they should spend on everything else",
            Direction.more,
            0.2,
            (0.2, 0.95),
            "reasoned: a clicked item stands in the history that was read after the click",
        ),
        Claim(
            "true_gain_expired",
            "rows that outlived their TTL cost clicks, and nothing said so",
            Direction.less,
            0.005,
            (-0.10, -0.005),
            "reasoned: most training rows then hold defaults where serving has values",
        ),
    ),
    observed="own_ndcg_gain_latest",
    true="true_gain_latest",
    change_our_mind=(
        "a world in which the columns that leak are as good when serving as they looked in training"
    ),
    tier=Tier.L,
    families=FAMILIES,
    scale="small",
)


def measure(setting: Setting, seed: int) -> Measured:
    """One line, a ranker per join, the same days for all."""
    with trained_line(setting, seed, preset=PRESET) as line:
        return compared(line, DAYS)


def compared(line: Line, days: int) -> Measured:
    """Every variant by its own evaluation, on rows as known, and with users."""
    rows = {name: joined(line, name) for name in VARIANTS}
    _, known = rows["known"]
    values: dict[str, float] = {}
    shares: dict[str, dict[str, float]] = {}
    for name, (teaching, own) in rows.items():
        trained = line.fit(teaching)
        values |= {f"own_{what}_{name}": v for what, v in offline(trained, own).items()}
        values |= {f"known_{what}_{name}": v for what, v in offline(trained, known).items()}
        served = lived(line, partial(line.shop, trained), days)
        values |= {f"clicks_{name}": served.expected, f"counted_{name}": served.clicked}
        shares[name] = gain_shares(trained, columns_by_group())
    for name in VARIANTS[1:]:
        values |= {
            f"own_auc_gain_{name}": values[f"own_auc_{name}"] - values["own_auc_known"],
            f"own_ndcg_gain_{name}": values[f"own_ndcg_{name}"] / values["own_ndcg_known"] - 1,
            f"known_auc_gain_{name}": values[f"known_auc_{name}"] - values["known_auc_known"],
            f"true_gain_{name}": values[f"clicks_{name}"] / values["clicks_known"] - 1,
            f"cross_gain_added_{name}": shares[name]["cross"] - shares["known"]["cross"],
        }
    return Measured(values, curves={n: [s[group] for group in NAMES] for n, s in shares.items()})


def joined(line: Line, variant: str) -> tuple[Rows, Rows]:
    """Rows to learn from and rows of its own evaluation."""
    leak = JOINS.get(variant, "none")
    with nights_missing(line) if variant == EXPIRED else nullcontext():
        return line.teaching(leak), line.testing(leak)


@contextmanager
def nights_missing(line: Line) -> Iterator[None]:
    """While it lasts, batch rows end with the night before the training window."""
    last, aside = line.split.ranker_from.date(), line.workspace.root / "aside"
    moved = {
        path: aside / view / path.name
        for view in BATCH_VIEWS
        for path in (line.workspace.offline / view).glob("*.parquet")
        if date.fromisoformat(path.stem) >= last
    }
    assert moved, "the nightly job ran before the window only; nothing would be missing"
    for path, place in moved.items():
        place.parent.mkdir(parents=True, exist_ok=True)
        path.rename(place)
    try:
        yield
    finally:
        for path, place in moved.items():
            place.rename(path)
