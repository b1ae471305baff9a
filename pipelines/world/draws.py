"""Random numbers without a generator: each uniform is a pure function of what it is drawn for.

    uniform(seed, "click", user, session, page, item)

So every policy meets the same users with the same luck, whatever it shows, and whoever asks first;
another slate for the same visit is the same call with other items: a counterfactual twin.

A key folds its parts one by one through the finaliser of splitmix64, which turns any two keys that
differ in one bit into two unrelated 64-bit words. Text is folded by its CRC-32, never by `hash()`,
which differs between processes.

Source: Steele, Lea, Flood: Fast splittable pseudorandom number generators, OOPSLA 2014.
    Deviation: used as a hash of a key, not as a stream.
"""

import zlib
from typing import Any

import numpy as np
from scipy.special import ndtri

GOLDEN = np.uint64(0x9E3779B97F4A7C15)
FIRST, SECOND = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
HIGH_BITS = np.uint64(11)
"""A float64 holds 53 of 64 bits."""


def key(*parts: Any) -> np.ndarray:
    """Fold ints, words and arrays of ints into uint64 keys; arrays broadcast.

    Interview: Why not a seeded generator?
        It is read in order: one slate more for one user moves every draw that follows, so two
        policies meet different luck and their difference drowns in it. A draw that depends on
        nothing but what it decides is the same under every policy, in every process and order,
        and a comparison is paired down to the single click.
        Trade-off: a hash per draw costs more than the next number of a stream, and two draws
        under one key are one draw, so each decision needs a name of its own.
        Shown by: tests/pipelines/test_world_draws.py::test_pairing_removes_most_of_the_noise
    """
    folded = np.zeros(1, np.uint64)
    with np.errstate(over="ignore"):
        for part in parts:
            folded = _mix((folded ^ _word(part)) + GOLDEN)
    return folded if any(np.ndim(part) for part in parts) else folded[0]


def uniform(*parts: Any) -> np.ndarray:
    """Uniform in (0, 1), one per key; never exactly 0 or 1, so that its logarithm exists."""
    bits = (key(*parts) >> HIGH_BITS).astype(np.float64)
    drawn: np.ndarray = (bits + 0.5) * 2.0**-53
    return drawn


def normal(*parts: Any) -> np.ndarray:
    """Standard normal, one per key."""
    drawn: np.ndarray = ndtri(uniform(*parts))
    return drawn


def exponential(*parts: Any) -> np.ndarray:
    """Exponential of mean 1, one per key."""
    drawn: np.ndarray = -np.log(uniform(*parts))
    return drawn


def _word(part: Any) -> np.ndarray:
    if isinstance(part, str):
        return np.array([zlib.crc32(part.encode())], np.uint64)
    return np.asarray(part).astype(np.uint64)


def _mix(word: np.ndarray) -> np.ndarray:
    word = (word ^ (word >> np.uint64(30))) * FIRST
    word = (word ^ (word >> np.uint64(27))) * SECOND
    mixed: np.ndarray = word ^ (word >> np.uint64(31))
    return mixed
