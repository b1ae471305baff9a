import numpy as np
import pytest

from features.definitions import FEATURE_NAMES
from features.errors import ContractError
from models import ranker
from models.ranker import Ranker, RankerSettings

F = len(FEATURE_NAMES)
POPULARITY = FEATURE_NAMES.index("item_positives_30d")


def rows(seed: int = 1, groups: int = 60, size: int = 15) -> tuple[np.ndarray, ...]:
    """In each group the item with the highest popularity is the one that was wanted."""
    rng = np.random.default_rng(seed)
    features = rng.uniform(0, 5, (groups * size, F)).astype(np.float32)
    best = features[:, POPULARITY].reshape(groups, size).argmax(axis=1)
    labels = np.zeros((groups, size), dtype=np.int8)
    labels[np.arange(groups), best] = 1
    return features, labels.ravel(), np.full(groups, size)


SMALL = RankerSettings(trees=40, leaves=7, min_rows_in_leaf=5, feature_share=1.0)


def test_what_was_wanted_is_ranked_first_on_new_groups() -> None:
    trained = ranker.fit(*rows(groups=300), seed=1, settings=SMALL)
    features, labels, _ = rows(seed=2)
    first = trained.score(features).reshape(60, 15).argmax(axis=1)
    assert (labels.reshape(60, 15)[np.arange(60), first] == 1).mean() > 0.8


def test_same_seed_same_trees() -> None:
    one, again = (ranker.fit(*rows(), seed=4, settings=SMALL) for _ in range(2))
    assert one.text == again.text


def test_text_and_back_changes_no_score_and_a_batch_equals_single_rows() -> None:
    trained = ranker.fit(*rows(), seed=1, settings=SMALL)
    features = rows(seed=3)[0][:9]
    back = Ranker.from_text(trained.text)
    np.testing.assert_array_equal(trained.score(features), back.score(features))
    single = [back.score(row[None])[0] for row in features]
    np.testing.assert_array_equal(back.score(features), single)


def test_other_columns_are_refused() -> None:
    text = ranker.fit(*rows(), seed=1, settings=SMALL).text
    swapped = text.replace(
        "account_age_days purchase_frequency_90d", "purchase_frequency_90d account_age_days"
    )
    with pytest.raises(
        ContractError, match=r"ranker.txt: trained on .*first difference.*train again"
    ):
        Ranker.from_text(swapped)


def test_what_is_not_a_model_is_refused() -> None:
    with pytest.raises(ContractError, match=r"ranker.txt: not a LightGBM model"):
        Ranker.from_text("hello")
