"""The error tree: what a caller can tell apart, and nothing finer.

    RecommenderError
    ├── ContractError            data does not fit features/schema.py  -> 422, or the step stops
    ├── Unavailable              a dependency missed its budget        -> next rung of the ladder
    │   ├── FeaturesUnavailable
    │   ├── RetrievalUnavailable
    │   └── RankerUnavailable
    └── NotReady                 no model is loaded yet                -> 503

A message says what was seen, what was expected and what to do.
"""


class RecommenderError(Exception):
    """Anything this project raises on purpose."""


class ContractError(RecommenderError):
    """Data, a file or a setting does not fit; the message names field, value and remedy."""


class Unavailable(RecommenderError):
    """A dependency did not answer within its budget."""


class FeaturesUnavailable(Unavailable):
    """The online store did not answer in time."""


class RetrievalUnavailable(Unavailable):
    """No candidate source could answer."""


class RankerUnavailable(Unavailable):
    """The ranker is missing or did not answer in time."""


class NotReady(RecommenderError):
    """No bundle is loaded yet."""
