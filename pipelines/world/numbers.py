"""Between chances and logits."""

import numpy as np


def sigmoid(logits: np.ndarray) -> np.ndarray:
    """Logits to chances."""
    chance: np.ndarray = 1 / (1 + np.exp(-logits))
    return chance


def logit(chance: np.ndarray) -> np.ndarray:
    """Chances strictly between 0 and 1 to logits."""
    logits: np.ndarray = np.log(chance / (1 - chance))
    return logits
