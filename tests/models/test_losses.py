import numpy as np
import torch

from models.losses import log_expected_count, sampled_softmax


def test_log_q_recovers_the_full_sum() -> None:
    # The correction is right if, over many batches, the sum over columns of exp(score) / q has
    # the sum over the whole catalogue as its mean; without it, it has not.
    rng = np.random.default_rng(0)
    n_items, batch, uniform = 40, 16, 8
    share = rng.zipf(1.5, n_items).astype(float)
    share /= share.sum()
    scores = rng.normal(size=n_items)
    full = np.exp(scores).sum()
    p = torch.tensor(share)
    sums, plain = [], []
    for _ in range(4000):
        columns = np.r_[rng.choice(n_items, batch, p=share), rng.integers(0, n_items, uniform)]
        log_q = log_expected_count(p, torch.tensor(columns), batch, uniform).numpy()
        sums.append(np.exp(scores[columns] - log_q).sum())
        plain.append(np.exp(scores[columns]).sum() * n_items / len(columns))
    assert abs(np.mean(sums) / full - 1) < 0.02
    assert abs(np.mean(plain) / full - 1) > 0.1


def test_equal_to_the_mean_cross_entropy_written_out() -> None:
    generator = torch.Generator().manual_seed(1)
    logits = torch.randn(5, 9, generator=generator)
    log_q = torch.randn(9, generator=generator)
    z = (logits - log_q).double().numpy()
    by_hand = np.mean([np.log(np.exp(z[r]).sum()) - z[r, r] for r in range(5)])
    assert abs(sampled_softmax(logits, log_q).item() - by_hand) < 1e-5


def test_an_item_that_nobody_took_is_not_among_the_uniform_draws() -> None:
    share = torch.tensor([0.75, 0.25, 0.0])
    got = log_expected_count(share, torch.tensor([0, 1]), batch=4, uniform=6)
    np.testing.assert_allclose(got.exp().numpy(), [4 * 0.75 + 6 / 2, 4 * 0.25 + 6 / 2], rtol=1e-6)
