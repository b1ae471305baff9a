"""What the API takes and gives. Everything a caller may send is bounded here."""

from datetime import datetime, timedelta
from typing import Annotated, Any

from pydantic import (
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    StringConstraints,
    Tag,
    field_validator,
)

from features.schema import EVENT_TYPES, MAX_ID_LENGTH
from monitoring.assignment import Arm

MAX_K = 100
MAX_EVENTS = 500
"""Events in one request: with the body limit, far more than a page or an app collects."""

MAX_POSITION = 10_000
FUTURE_SLACK = timedelta(minutes=5)
"""Phones' clocks are wrong by minutes; more is a mistake, and would top every list for long."""

POSTED_TYPES = tuple(kind for kind in EVENT_TYPES if kind != "impression")

Id = Annotated[
    str,
    StringConstraints(min_length=1, max_length=MAX_ID_LENGTH, pattern=r"^[^\x00-\x1f\x7f]*$"),
]
"""An id of the outside world: any text without control characters."""


class _Strict(BaseModel):
    """An unknown field is a caller's mistake, and is told so instead of being ignored."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class ContextIn(_Strict):
    """What the request itself knows."""

    device: Id | None = None
    location: Id | None = None

    def known(self) -> dict[str, str]:
        """Only what was said."""
        return {key: value for key, value in self.model_dump().items() if value is not None}


class RecommendationIn(_Strict):
    """Ask for one slate."""

    user_id: Id
    k: int = Field(default=10, ge=1, le=MAX_K, strict=True)
    """Length of the list."""

    context: ContextIn = ContextIn()
    arm: Arm | None = None
    """Look at one arm's list, whatever the experiment says. A look is no visit and is not logged."""


class EventIn(_Strict):
    """One thing that a user did. Impressions are not posted: serving knows what it showed."""

    event_id: Id
    """The idempotency key: the same event sent twice counts once."""

    event_type: str
    user_id: Id
    item_id: Id
    session_id: Id | None = None
    request_id: Id | None = None
    """The slate in which it happened."""

    position: int | None = Field(default=None, ge=1, le=MAX_POSITION, strict=True)
    event_at: AwareDatetime | None = None
    """When it happened; the server's clock if absent."""

    value: float | None = Field(default=None, ge=0, allow_inf_nan=False, strict=True)
    """Money of a purchase, stars of a rating."""

    context: ContextIn = ContextIn()

    @field_validator("event_type")
    @classmethod
    def _posted(cls, value: str) -> str:
        if value == "impression":
            raise ValueError("impressions are written by the server for every slate it returns")
        if value not in POSTED_TYPES:
            raise ValueError(f"expected one of {', '.join(POSTED_TYPES)}")
        return value

    @field_validator("event_at")
    @classmethod
    def _in_range(cls, value: datetime | None) -> datetime | None:
        # By the year: converting 0001-01-01 of an eastern zone to UTC would overflow.
        if value is not None and not 1970 < value.year < 9999:
            raise ValueError("expected a year from 1971 to 9998; is a clock unset?")
        return value


class EventsIn(_Strict):
    """Several events; all are accepted or none."""

    events: list[EventIn] = Field(min_length=1, max_length=MAX_EVENTS)


ONE, MANY = "one event", "many events"
"""Tags that pydantic puts into the location of an error; no caller has a field of such a name."""


def _one_or_many(body: Any) -> str:
    return MANY if isinstance(body, dict) and "events" in body else ONE


PostedEvents = Annotated[
    Annotated[EventIn, Tag(ONE)] | Annotated[EventsIn, Tag(MANY)], Discriminator(_one_or_many)
]


class ItemOut(BaseModel):
    """One place of a slate."""

    model_config = ConfigDict(extra="forbid")

    item_id: str
    title: str
    category: str | None
    price: float | None
    score: float
    position: int
    source: str
    reason: str


class SlateOut(BaseModel):
    """A slate, and how it came about."""

    model_config = ConfigDict(extra="forbid")

    request_id: str
    user_id: str
    bundle: str
    rung: int
    degraded: list[str]
    reasons: list[str]
    arms: dict[str, str]
    timings_ms: dict[str, float]
    items: list[ItemOut]


class PastOut(BaseModel):
    """One positive of a user."""

    model_config = ConfigDict(extra="forbid")

    item_id: str
    title: str | None
    event_at: datetime
    age_s: float


class PersonOut(BaseModel):
    """What is known about one user now."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    user_id: str
    bundle: str
    features: dict[str, dict[str, int | float]]
    """Value by view and name; those of a missing view are the defaults that a model would get."""

    categories: dict[str, dict[str, int | float]]
    """The view `user_category_daily`, for each category that the user has a row of."""

    history: list[PastOut]
    """Newest first."""

    age_s: dict[str, float]
    """By view: how old its values are."""

    missing: list[str]
    """Views without a row that is young enough."""


class AcceptedOut(BaseModel):
    """The events are on the disk."""

    accepted: int


class Problem(BaseModel):
    """What is wrong with one field."""

    field: str
    message: str


class ProblemsOut(BaseModel):
    """The body of every 4xx and 5xx."""

    detail: list[Problem]
