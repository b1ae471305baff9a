"""Draws by key: uniform, unrelated, and the same in every order and process."""

import subprocess
import sys

import numpy as np
import pytest
from scipy import stats

from pipelines.world.draws import exponential, key, normal, uniform

N = 20_000


@pytest.mark.parametrize(
    "parts",
    [
        (0, "click", np.arange(N)),
        (np.arange(N), "click", 7),
        (3, np.arange(N) // 100, np.arange(N) % 100),
        (2**31, "look", np.arange(N) * 1_000_003),
    ],
    ids=["last part counts", "first part counts", "two parts count", "wide steps"],
)
def test_draws_are_uniform_whatever_part_of_the_key_counts(parts):
    drawn = uniform(*parts)
    assert drawn.shape == (N,)
    assert (drawn > 0).all()
    assert (drawn < 1).all()
    assert stats.kstest(drawn, "uniform").pvalue > 0.001


def test_neighbouring_keys_and_other_names_are_unrelated():
    drawn = uniform(1, "click", np.arange(N))
    for other in (
        np.roll(drawn, 1),
        uniform(1, "look", np.arange(N)),
        uniform(2, "click", np.arange(N)),
    ):
        assert abs(np.corrcoef(drawn, other)[0, 1]) < 4 / np.sqrt(N)


def test_one_bit_of_the_key_turns_half_of_the_bits():
    words = key(np.arange(N, dtype=np.uint64), 5)
    for bit in (0, 1, 17, 40, 63):
        turned = key(np.arange(N, dtype=np.uint64) ^ (np.uint64(1) << np.uint64(bit)), 5)
        changed = np.unpackbits((words ^ turned).view(np.uint8)).mean()
        assert changed == pytest.approx(0.5, abs=0.005)


def test_no_two_keys_of_a_day_are_one():
    users, pages = np.arange(300)[:, None], np.arange(100)[None, :]
    assert len(np.unique(key(0, "page", users, pages))) == 30_000


def test_the_parts_have_places():
    assert key(1, 2) != key(2, 1)
    assert key(1) != key(1, 0)


def test_one_key_is_a_word_and_many_are_an_array():
    assert np.ndim(key(1, "a", 2)) == 0
    assert key(1, "a", np.array([2]))[0] == key(1, "a", 2)


def test_normal_and_exponential_draws_have_their_laws():
    assert stats.kstest(normal(0, "n", np.arange(N)), "norm").pvalue > 0.001
    assert stats.kstest(exponential(0, "e", np.arange(N)), "expon").pvalue > 0.001


def test_every_process_draws_the_same():
    script = "from pipelines.world.draws import key; print(int(key(7, 'click', 3)))"
    told = {
        subprocess.run(
            [sys.executable, "-c", script], env={"PYTHONHASHSEED": seed, "PYTHONPATH": ":".join(sys.path)},
            capture_output=True, text=True, check=True,
        ).stdout
        for seed in ("1", "2")
    }  # fmt: skip
    assert told == {f"{int(key(7, 'click', 3))}\n"}


def test_pairing_removes_most_of_the_noise():
    """Two policies one click in twenty apart: their difference, with shared luck and without."""
    users = np.arange(400)
    chance_a, chance_b = 0.30, 0.31

    def difference(trial, stream_b):
        a = uniform(trial, 0, "click", users) < chance_a
        b = uniform(trial, stream_b, "click", users) < chance_b
        return b.mean() - a.mean()

    paired = np.std([difference(trial, 0) for trial in range(200)])
    apart = np.std([difference(trial, 1) for trial in range(200)])
    assert paired < 0.3 * apart
