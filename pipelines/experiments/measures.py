"""What a ranking is worth, by clicks and by truth; exact where the truth allows it.

Throughout: S slates, K places, R impressions.
"""

import numpy as np
from scipy import stats

from models.metrics import Judged, ndcg
from pipelines.experiments.log import Log


def expected_auc(score: np.ndarray, chance: np.ndarray) -> float:
    """AUC that a score reaches on endlessly many draws of these impressions.

    Args:
        score: (R,) larger = thought to be likelier.
        chance: (R,) true chance of a click, not all 0 and not all 1.

    Returns:
        Chance that a click scores higher than a non-click, ties by half. No click is drawn, so
        there is no noise of labels in it; `score = chance` gives the best that any model can reach.

    Interview: Is an AUC of 0.80 good?
        Nobody can say without the ceiling. Clicks are draws: even the model that knows every
        chance cannot say which draw came up, and a model that knows only the place gets most of the
        way, because places differ more than items do. Compare a challenger with the champion on
        the same slates, and quote the range between chance and ceiling beside any absolute number.
        Trade-off: the ceiling is known only where the truth is; elsewhere one has the champion.
        Shown by: tests/pipelines/experiments/test_e04.py::test_place_alone_beats_all_that_items_tell

    Examples:
        >>> expected_auc(np.array([1.0, 0.0]), np.array([0.5, 0.0]))  # 0.5 / 0.75 + half of the rest
        0.8333333333333334
    """
    order = np.argsort(score, kind="stable")
    score, chance = score[order], chance[order]
    starts = np.flatnonzero(np.r_[True, score[1:] != score[:-1]])
    clicked = np.add.reduceat(chance, starts)  # per distinct score
    passed = np.add.reduceat(1 - chance, starts)
    below = np.cumsum(passed) - passed
    return float((clicked * (below + passed / 2)).sum() / (clicked.sum() * passed.sum()))


def click_ndcg(click: np.ndarray, score: np.ndarray) -> np.ndarray:
    """nDCG@K of the slate re-ordered by `score`, for each slate with a click.

    Args:
        click: (S, K) bool, as logged, in the order shown.
        score: (S, K) larger goes first; ties keep the order shown.

    Returns:
        (slates with a click,) as `models.metrics.ndcg` has it: relevant is what was clicked.
    """
    some = click.any(axis=1)
    order = best_first(score[some])
    return ndcg(Judged(np.take_along_axis(click[some], order, axis=1), click[some].sum(axis=1)))


def true_ndcg(attraction: np.ndarray, score: np.ndarray) -> np.ndarray:
    """(S,) discounted true attraction of the slate re-ordered by `score`, over that of the best order."""
    discount = 1 / np.log2(np.arange(attraction.shape[1]) + 2)
    given = np.take_along_axis(attraction, best_first(score), axis=1) @ discount
    return np.asarray(given / (-np.sort(-attraction, axis=1) @ discount))


def telling(log: Log) -> np.ndarray:
    """(K,) how much the chance of a click at each place rises with true attraction; the first is 1.

    Where looking is all that places do, this is the chance of being looked at; clicks that come
    without being wanted (trust) lower it. It is what an estimator of position bias should find.
    """
    slopes = [
        np.cov(log.attraction[:, k], log.chance[:, k])[0, 1] / log.attraction[:, k].var(ddof=1)
        for k in range(log.item_ix.shape[1])
    ]
    return np.array(slopes) / slopes[0]


def best_first(score: np.ndarray) -> np.ndarray:
    """(S, K) columns in falling order of score; ties keep theirs."""
    return np.argsort(-score, axis=1, kind="stable")


def by_user(values: np.ndarray, user_ix: np.ndarray) -> np.ndarray:
    """Mean per user of what is known per slate: (S,), (S,) -> (U,), for intervals over users."""
    _, who = np.unique(user_ix, return_inverse=True)
    return np.bincount(who, values) / np.bincount(who)


def rank_correlation(one: np.ndarray, other: np.ndarray) -> float:
    """Spearman's: whether two metrics put the same contenders in the same order."""
    return float(stats.spearmanr(one, other).statistic)


def ece(predicted: np.ndarray, true: np.ndarray, bins: int = 10) -> float:
    """Mean distance of predicted from true chance over bins of equal size by prediction.

    Examples:
        >>> round(ece(np.array([0.1, 0.3]), np.array([0.2, 0.2]), bins=2), 3)
        0.1
    """
    parts = np.array_split(np.argsort(predicted, kind="stable"), bins)
    gaps = [
        abs(predicted[part].mean() - true[part].mean()) * len(part) for part in parts if len(part)
    ]
    return float(sum(gaps) / len(predicted))


def lists_kept(one: np.ndarray, other: np.ndarray) -> float:
    """Share of the lists, (S, K) each, that are the same to the last place."""
    return float((one == other).all(axis=1).mean())
