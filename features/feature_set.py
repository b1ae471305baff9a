"""The columns of one model: which features, in which versions, in which order.

What is trained now reads CURRENT; a published bundle goes on reading the set it was trained on, for
as long as the definitions still compute every version in it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from features.definitions import (
    BY_COLUMN,
    FEATURES,
    ITEM_VIEWS,
    PAIR_VIEWS,
    USER_VIEWS,
    Feature,
)
from features.errors import ContractError

Places = slice | np.ndarray


@dataclass(frozen=True, slots=True)
class FeatureSet:
    """Features in the order of a model's columns.

    Interview: You change how a feature is computed. What happens to the models that read it?
        Nothing: the change is a new version with a column of its own, and the old one stays
        computed beside it. Each bundle names the versions it was trained on, so the old model
        reads the old column until it is replaced, and a rollback still finds what it needs.
        Trade-off: two columns for a while, and somebody has to delete the old one; lineage names
        the bundles that still read it.
        Shown by: tests/pipelines/test_versions.py::test_an_old_bundle_reads_on_while_the_new_is_served
    """

    features: tuple[Feature, ...]
    names: tuple[str, ...]  # columns
    place: dict[str, int]  # column -> its place
    user: tuple[Feature, ...]  # of views with one row per user, in this order
    item: tuple[Feature, ...]
    pair: tuple[Feature, ...]  # of a user in a category
    user_places: Places = field(compare=False)  # where the three groups stand among the columns
    item_places: Places = field(compare=False)
    pair_places: Places = field(compare=False)

    @classmethod
    def of(cls, features: Sequence[Feature]) -> "FeatureSet":
        """The set in the order given."""
        names = tuple(feature.column for feature in features)
        groups = [
            [place for place, feature in enumerate(features) if feature.view in views]
            for views in (USER_VIEWS, ITEM_VIEWS, PAIR_VIEWS)
        ]
        user, item, pair = (tuple(features[place] for place in group) for group in groups)
        return cls(
            tuple(features),
            names,
            {name: place for place, name in enumerate(names)},
            user,
            item,
            pair,
            *(_places(group) for group in groups),
        )

    @classmethod
    def told(cls, rows: Sequence[Mapping[str, Any]], where: str) -> "FeatureSet":
        """The set that a bundle names; inverse of `told_as`.

        Raises:
            ContractError: a feature or a version of it that is not computed any more.
        """
        features = []
        for place, row in enumerate(rows, start=1):
            version = row.get("version", 1)
            column = row["name"] if version == 1 else f"{row['name']}_v{version}"
            feature = BY_COLUMN.get(column)
            if feature is None or told_as(feature) != {**row, "version": version}:
                expected = "nothing of that name" if feature is None else told_as(feature)
                raise ContractError(
                    f"{where}: column {place} is {dict(row)}, the definitions have {expected}; "
                    "keep that version among the retired ones, or train and publish again"
                )
            features.append(feature)
        return cls.of(features)


def told_as(feature: Feature) -> dict[str, Any]:
    """A feature as a bundle stores and checks it."""
    return {
        "name": feature.name,
        "version": feature.version,
        "dtype": feature.dtype,
        "default": feature.default,
        "view": feature.view,
    }


def _places(places: list[int]) -> Places:
    """A slice where they lie side by side, which copies faster."""
    if places and places == list(range(places[0], places[0] + len(places))):
        return slice(places[0], places[0] + len(places))
    return np.array(places, dtype=np.int64)


CURRENT = FeatureSet.of(FEATURES)
"""What a model that is trained now reads."""
