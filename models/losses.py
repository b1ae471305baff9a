"""Losses of the retrieval model.

Throughout: B is the batch, V the columns a row is compared with; row i's positive is column i.
"""

import torch
from torch import Tensor


def sampled_softmax(logits: Tensor, log_q: Tensor) -> Tensor:
    """Mean cross-entropy over sampled columns, corrected for how often each is sampled.

    Args:
        logits: (B, V) user-item scores; the first B columns are the batch's own positives, the
            rest further negatives.
        log_q: (V,) natural log of how often each column's item is expected among the V columns.

    Returns:
        Scalar loss in nats.

    Source:
        Yi et al., RecSys 2019; uniform negatives beside the batch after Yang et al., WWW 2020.
        Deviation: log_q comes from training counts, not from a streaming estimator, and one q
        covers the mixture of both kinds of columns.

    Interview: Why subtract log q from the logits of a two-tower model?
        In-batch negatives arrive in proportion to popularity, so popular items are pushed down
        once per appearance. Subtracting log q turns the sum over the batch into an unbiased
        estimate of the sum over the whole catalogue.
        Trade-off: q must be estimated; for rare items the correction is noisy.
        Shown by: tests/models/test_losses.py::test_log_q_recovers_the_full_sum
        Asked next: And without it? tests/models/test_two_tower.py holds a world that fails then.

    Examples:
        >>> round(sampled_softmax(torch.zeros(2, 2), torch.zeros(2)).item(), 4)  # ln 2
        0.6931
    """
    corrected = logits - log_q
    return torch.nn.functional.cross_entropy(corrected, torch.arange(len(logits)))


def log_expected_count(share: Tensor, item_ix: Tensor, batch: int, uniform: int) -> Tensor:
    """log_q of `sampled_softmax`: ln(B p_i + U / n), for a batch beside U uniform draws.

    Args:
        share: (N,) p, each item's share of the training positives; 0 = never drawn.
        item_ix: (V,) the items of the columns.
        batch: B, columns drawn in proportion to p.
        uniform: U, columns drawn uniformly among the n items with p > 0.
    """
    n = int((share > 0).sum())
    return torch.log(batch * share[item_ix] + uniform / max(n, 1))
