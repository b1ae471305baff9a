"""E-19: what each group of columns is worth, offline and with users.

Interview: Which features matter, and how do you know?
    Take a group away, train again, and see what is lost where it counts. The trees' own importance
    tells what they used, not what they would miss: what two groups both say is lost with neither.
    And the log and the users need not agree on the order, because the log paid for what its own
    ranking showed.
    Trade-off: a training per group, and groups that stand in for each other each look worthless
    alone; only taking both away would show it.
    Shown by: tests/pipelines/experiments/test_e19.py::test_a_group_that_is_held_still_is_never_split_on
"""

from collections.abc import Mapping
from functools import partial

import numpy as np

from pipelines.experiments.card import Card, Claim, Direction, Measured, Setting, Tier
from pipelines.experiments.groups import NAMES, columns_by_group
from pipelines.experiments.line import Line, gain_shares, lived, offline, trained_line, without
from pipelines.experiments.measures import rank_correlation
from pipelines.experiments.world import FAMILIES

DAYS = 2
"""That each model serves."""

WHOLE = "nothing"
"""Left out: the model with all groups."""

CARD = Card(
    number="E-19",
    title="What each group of features is worth",
    question="You may keep five of your six groups of features. Which one goes?",
    sentence=(
        "What joins a user with an item, their own history above all, is worth most; and the order that "
        "offline nDCG gives the groups is roughly the one that users give them."
    ),
    varied=(
        "which group the ranker learns without: user, item, cross (user x category, history, price), "
        "context, session, retrieval (scores, ranks, cosines); retrieval itself stays as it is"
    ),
    measured=(
        "share lost of nDCG@10 on the logged slates of the test window, and of expected clicks per slate "
        f"by the truth when each serves the same {DAYS} days; share of the whole model's gain by group"
    ),
    claims=(
        Claim(
            "true_lost_cross",
            "without what joins user and item, users click less",
            Direction.more,
            0.01,
            (0.01, 0.30),
            "He et al. 2014: the most important features are historical ones; size reasoned",
        ),
        Claim(
            "cross_minus_next",
            "no other group is missed as much",
            Direction.more,
            0.005,
            (0.005, 0.25),
            "as above; whether it holds with a two-tower beside it is not told",
        ),
        Claim(
            "order_agrees",
            "offline nDCG puts the six groups in the order of the truth, roughly (rank correlation)",
            Direction.more,
            0.3,
            (0.3, 1.0),
            "reasoned; against it: Booking.com, r = -0.1 between offline and online gains",
        ),
    ),
    observed="ndcg_lost_cross",
    true="true_lost_cross",
    change_our_mind=(
        "a world with as much in its history in which the model without it serves as well; or groups "
        "whose loss together is far from the sum of their losses"
    ),
    tier=Tier.L,
    families=FAMILIES,
    scale="small",
)


def measure(setting: Setting, seed: int) -> Measured:
    """One line, a ranker per group, the same days for all."""
    with trained_line(setting, seed) as line:
        return ablated(line)


def ablated(line: Line) -> Measured:
    """The whole model, and the model without each group."""
    teaching, testing, groups = line.teaching(), line.testing(), columns_by_group()
    models = {WHOLE: line.fit(teaching)}
    models |= {name: line.fit(without(teaching, columns)) for name, columns in groups.items()}
    ndcg = {name: offline(trained, testing)["ndcg"] for name, trained in models.items()}
    clicks = {
        name: lived(line, partial(line.shop, trained), DAYS).expected
        for name, trained in models.items()
    }
    return graded(ndcg, clicks, gain_shares(models[WHOLE], groups))


def graded(
    ndcg: Mapping[str, float], clicks: Mapping[str, float], shares: Mapping[str, float]
) -> Measured:
    """Shares lost without each group; all by name of the group, WHOLE is the model with all."""
    ndcg_lost, true_lost = ({g: 1 - of[g] / of[WHOLE] for g in NAMES} for of in (ndcg, clicks))
    next_best = max(lost for name, lost in true_lost.items() if name != "cross")
    orders = (np.array([lost[name] for name in NAMES]) for lost in (ndcg_lost, true_lost))
    values = {
        **{f"ndcg_without_{name}": value for name, value in ndcg.items()},
        **{f"clicks_without_{name}": value for name, value in clicks.items()},
        **{f"ndcg_lost_{name}": lost for name, lost in ndcg_lost.items()},
        **{f"true_lost_{name}": lost for name, lost in true_lost.items()},
        "cross_minus_next": true_lost["cross"] - next_best,
        "order_agrees": rank_correlation(*orders),
    }
    lines = {"ndcg_lost": ndcg_lost, "true_lost": true_lost, "gain_share": shares}
    return Measured(values, curves={n: [of[group] for group in NAMES] for n, of in lines.items()})
