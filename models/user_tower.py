"""The user tower as serving runs it: a few NumPy lines over exported arrays.

Throughout: N is the catalogue, D the embedding, T a history (newest first), H the hidden width.
The arrays are trained in models/two_tower.py; a test ties both to 1e-5.
"""

from dataclasses import dataclass, fields

import numpy as np
from safetensors.numpy import load as load_arrays
from safetensors.numpy import save as save_arrays

from features.errors import ContractError


@dataclass(frozen=True, slots=True)
class UserTower:
    """What turns a history into a unit vector.

    Attributes:
        item_inputs: (N, D) how each item looks when it is part of a history.
        place_logit: (T,) weight of the newest, second newest, ... positive, before softmax.
        hidden_weight: (H, 2D), hidden_bias: (H,)
        out_weight: (D, H), out_bias: (D,)

    Interview: Why does the user tower read items and not a user id?
        A user id knows the past of the last training run. A tower over the newest items moves
        with the next click, serves users who signed up a minute ago, and needs no table that
        grows with the users.
        Trade-off: what happened before the kept history is lost to it; the batch features and the
        ranker carry that.
        Shown by: tests/models/test_user_tower.py::test_one_more_click_changes_the_top_of_the_list
    """

    item_inputs: np.ndarray
    place_logit: np.ndarray
    hidden_weight: np.ndarray
    hidden_bias: np.ndarray
    out_weight: np.ndarray
    out_bias: np.ndarray

    def encode(self, history_ix: np.ndarray) -> np.ndarray | None:
        """Unit vector (D,) of a history; None where no item of it is known.

        Args:
            history_ix: (T,) rows of the catalogue, newest first; -1 = not in the catalogue.
        """
        known = history_ix[history_ix >= 0][: len(self.place_logit)]
        if len(known) == 0:
            return None
        items = self.item_inputs[known]  # (T, D)
        logit = self.place_logit[: len(known)]
        weight = np.exp(logit - logit.max())
        recent = (weight / weight.sum()) @ items  # (D,)
        pooled = np.concatenate([recent, items.mean(axis=0)])  # (2D,)
        hidden = np.maximum(self.hidden_weight @ pooled + self.hidden_bias, 0.0)
        out = recent + self.out_weight @ hidden + self.out_bias
        return (out / max(float(np.linalg.norm(out)), 1e-9)).astype(np.float32)

    def to_bytes(self) -> bytes:
        """The arrays as safetensors: data only, so that loading it cannot run code."""
        return save_arrays(
            {f.name: np.ascontiguousarray(getattr(self, f.name)) for f in fields(self)}
        )

    @classmethod
    def from_bytes(cls, data: bytes, file: str) -> "UserTower":
        """Inverse of `to_bytes`.

        Raises:
            ContractError: an array is missing or its width does not fit the others.
        """
        arrays = load_arrays(data)
        expected = {f.name for f in fields(cls)}
        if set(arrays) != expected:
            raise ContractError(
                f"{file}: holds the arrays {sorted(arrays)}, expected {sorted(expected)}; "
                "train and publish again"
            )
        tower = cls(**arrays)
        d, h = tower.item_inputs.shape[1], tower.hidden_weight.shape[0]
        if tower.hidden_weight.shape != (h, 2 * d) or tower.out_weight.shape != (d, h):
            raise ContractError(
                f"{file}: layers of shape {tower.hidden_weight.shape} and "
                f"{tower.out_weight.shape}, expected {(h, 2 * d)} and {(d, h)} "
                f"for embeddings of width {d}; train and publish again"
            )
        return tower
