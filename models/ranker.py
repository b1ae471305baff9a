"""The ranker: gradient-boosted trees over the feature table, stored as LightGBM's text format.

Throughout: R is the training rows, G the groups (slates), C the candidates, F features.
"""

import sys
from dataclasses import dataclass

import numpy as np

from features.errors import ContractError
from features.feature_set import CURRENT, FeatureSet

# LightGBM looks for scikit-learn on import, to wrap itself for it. Nothing here uses the wrappers,
# and where it is installed that look costs a second and a half of every start of the API.
_hide = "sklearn" not in sys.modules
if _hide:
    sys.modules["sklearn"] = None  # type: ignore[assignment]  # Python's own mark for "not there"
import lightgbm as lgb  # noqa: E402  # after the mark

if _hide:
    del sys.modules["sklearn"]


@dataclass(frozen=True, slots=True)
class RankerSettings:
    """Chosen on real purchases before `test_from`, with a test window of their own inside them.

    There binary, lambdarank and xendcg differed by less than the seed did, and trees with more
    leaves lost: a few thousand queries with a handful of positives each are soon learned by heart.
    """

    objective: str = "binary"  # on logged slates its score is a probability
    trees: int = 100
    learning_rate: float = 0.05
    leaves: int = 15
    min_rows_in_leaf: int = 100
    feature_share: float = 0.7  # per tree


@dataclass(frozen=True, slots=True)
class Ranker:
    """A trained booster; `text` is what the bundle stores."""

    booster: lgb.Booster
    text: str

    def score(self, features: np.ndarray) -> np.ndarray:
        """(C,) larger is better; one thread, because starting threads costs more than the trees."""
        return np.asarray(self.booster.predict(features, num_threads=1), dtype=np.float64)

    @classmethod
    def from_text(
        cls, text: str, file: str = "ranker.txt", columns: FeatureSet = CURRENT
    ) -> "Ranker":
        """Inverse of `text`.

        Raises:
            ContractError: not a LightGBM model, or trained on other columns than those given.
        """
        try:
            booster = lgb.Booster(model_str=text)
        except lgb.basic.LightGBMError as error:
            raise ContractError(f"{file}: not a LightGBM model ({error}); train again") from error
        names = tuple(booster.feature_name())
        if names != columns.names:
            differs = [
                pair for pair in zip(names, columns.names, strict=False) if pair[0] != pair[1]
            ]
            raise ContractError(
                f"{file}: trained on {len(names)} columns, first difference {differs[:1]}, "
                f"expected the {len(columns.names)} of its bundle; train again"
            )
        return cls(booster, text)


def fit(
    features: np.ndarray,
    labels: np.ndarray,
    group_sizes: np.ndarray,
    seed: int,
    settings: RankerSettings | None = None,
    columns: FeatureSet = CURRENT,
) -> Ranker:
    """Train on groups of rows, one group per query.

    Args:
        features: (R, F) float32 in the order of `columns`, rows of a group together.
        labels: (R,) 1 = wanted, 0 = not.
        group_sizes: (G,) rows per group, summing to R.
        seed: of every random choice.
        settings: defaults are the measured ones.
        columns: what the features are; what is current unless named.
    """
    settings = settings or RankerSettings()
    assert group_sizes.sum() == len(features) == len(labels)
    rows = lgb.Dataset(
        features,
        label=labels,
        group=group_sizes,
        feature_name=list(columns.names),
        categorical_feature=[f.column for f in columns.features if f.dtype == "category"],
        free_raw_data=True,
    )
    booster = lgb.train(_parameters(settings, seed), rows, num_boost_round=settings.trees)
    return Ranker.from_text(booster.model_to_string(), columns=columns)


def _parameters(settings: RankerSettings, seed: int) -> dict[str, object]:
    return {
        "objective": settings.objective,
        "learning_rate": settings.learning_rate,
        "num_leaves": settings.leaves,
        "min_data_in_leaf": settings.min_rows_in_leaf,
        "feature_fraction": settings.feature_share,
        "seed": seed,
        "deterministic": True,  # with force_row_wise and a fixed number of threads: same bits
        "force_row_wise": True,
        "num_threads": 1,  # two would spin against any neighbour on a small machine
        "verbosity": -1,
    }
