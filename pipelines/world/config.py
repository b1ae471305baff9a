"""Every number of a world in one place, each with its range and its reason, and the named presets.

Parameters are chosen by the facts that `shortlist world-check` measures, never by what any model
gains. What a preset changes is all that it says; the rest is the base. A mechanism is switched off
by its name, alone, so that a claim can be shown with it and without.
"""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic.fields import FieldInfo

from features.errors import ContractError

FamilyName = Literal["position", "trust", "cascade"]
FAMILIES: tuple[str, ...] = get_args(FamilyName)
DEFAULT_FAMILY: FamilyName = "trust"
"""Of the demo: clicks that rank alone brings about are the trap that most real logs hold."""

Mechanism = Literal[
    "accidents", "arrivals", "bots", "churn", "duplicates", "habits", "hits", "intent", "late",
    "latency", "lifecycle", "minority", "novelty", "price", "satiation", "season", "skew", "trust",
    "walk",
]  # fmt: skip
MECHANISMS: tuple[str, ...] = get_args(Mechanism)

ShiftKind = Literal["covariate", "concept", "incident", "novelty"]


class _Frozen(BaseModel):
    model_config = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True
    )


class Shift(_Frozen):
    """Something that changes on a day; the ground truth that a monitor can be scored against.

    covariate: users of another segment come. concept: users' tastes turn to other categories.
    incident: the tracker loses what users do. novelty: everything is clicked more, for a while.
    """

    kind: ShiftKind
    """covariate, concept, incident or novelty, as above."""

    start_day: int = Field(ge=-400, le=400)
    """Days after the end of the logged past; 0 is the first day that users meet the platform."""

    size: float = Field(ge=0, le=5)
    """Share of the visits (covariate), of the users (concept), of the events (incident), all at most
    1; logits (novelty)."""

    ramp_days: float = Field(default=0.0, ge=0, le=400)
    """Days until it is there in full; 0 = at once."""

    days: float | None = Field(default=None, gt=0, le=400)
    """How long it lasts; None = for good."""

    @model_validator(mode="after")
    def _possible(self) -> Shift:
        if self.kind != "novelty" and self.size > 1:
            raise ValueError(
                f"size of a {self.kind} shift is {self.size:g}; allowed: 0 … 1, a share"
            )
        if self.days is not None and self.ramp_days > self.days:
            raise ValueError(
                f"ramp_days is {self.ramp_days:g}; allowed: 0 … {self.days:g}, the days it lasts"
            )
        return self


class WorldConfig(_Frozen):
    """One world, whole: equal configurations give equal bytes."""

    family: FamilyName = DEFAULT_FAMILY
    """Click model and shape of utility: position (linear), trust (saturating), cascade (tree)."""

    preset: str = "base"
    """Name under which the deviations from the base are known."""

    scale: str = "small"
    """Name under which the sizes are known."""

    seed: int = Field(default=0, ge=0, lt=2**32)
    """Of everything random."""

    switched_off: tuple[Mechanism, ...] = ()
    """Mechanisms that do not work in this world."""

    shifts: tuple[Shift, ...] = ()
    """What changes, and when."""

    # Sizes.
    users: int = Field(default=2_000, ge=1, le=1_000_000)
    """Who has joined or will have joined by the end of the logged past."""

    items: int = Field(default=1_000, ge=1, le=1_000_000)
    """Catalogue at the end of the logged past."""

    days: int = Field(default=28, ge=1, le=400)
    """Length of the logged past."""

    slates_a_day: int = Field(default=1_200, ge=1, le=1_000_000)
    """Expected on a mean day of the logged past."""

    slots: int = Field(default=10, ge=1, le=100)
    """Places of a slate of the logging policy."""

    horizon_days: int = Field(default=60, ge=0, le=400)
    """Days after the logged past for which users' arrivals and items' launches are laid down."""

    # Items.
    appeal_quality: float = Field(default=0.5, ge=-1, le=1)
    """Correlation of what attracts a click with what satisfies afterwards; 1 = no clickbait."""

    mislabelled: float = Field(default=0.08, ge=0, le=1)
    """Share of items whose kind is told wrongly: content features are noisy."""

    launches: float = Field(default=0.006, ge=0, le=0.2)
    """Of the catalogue per day; shops renew between 0.5 % and 3 % a day."""

    half_life_days: float = Field(default=25.0, gt=0, le=1_000)
    """Median over the categories, of the charm that a new item has beyond its lasting appeal."""

    charm: float = Field(default=1.2, ge=0, le=5)
    """Logits that a new item has on top on its first day."""

    hits: float = Field(default=0.004, ge=0, le=1)
    """Chance per item and week to become a hit: bursts that no feature announces."""

    hit_size: float = Field(default=1.3, ge=0, le=5)
    """Logits on the first day of a hit."""

    hit_days: float = Field(default=5.0, gt=0, le=100)
    """Days in which a hit falls to 1/e."""

    stock: float | None = Field(default=None, gt=0, le=1_000_000)
    """Mean units per item that all users share; None = never sold out, users do not interfere."""

    season_size: float = Field(default=0.3, ge=0, le=5)
    """Logits between a category's mean and its best month."""

    # Users.
    activity_sigma: float = Field(default=1.2, ge=0, le=3)
    """Of the log-normal activity: the top tenth must make 40 % of the sessions or more."""

    generosity_sigma: float = Field(default=0.45, ge=0, le=3)
    """Logits by which users differ in how readily they click: a fifth of the variance or more."""

    taste_alpha: float = Field(default=3.0, gt=0, le=100)
    """Dirichlet weight of the two to four liked categories; small = one favourite."""

    minority: float = Field(default=0.1, ge=0, le=1)
    """Share of users whose tastes lie where few others' do."""

    trust_mean: float = Field(default=0.5, ge=0, le=1)
    """Mean of users' trust in the ranking: how far the place alone invites a click."""

    bots: float = Field(default=0.005, ge=0, le=1)
    """Share of accounts that are scripts; published shares lie between 0 and 5 %."""

    arrivals: float = Field(default=0.008, ge=0, le=1)
    """New users per day, of all: they make up for churn."""

    churn: float = Field(default=0.008, ge=0, le=1)
    """Chance per day to leave for good at medium satisfaction."""

    churn_slope: float = Field(default=6.0, ge=0, le=100)
    """How fast that chance falls with satisfaction (per unit of 0 … 1, in the exponent)."""

    return_slope: float = Field(default=1.5, ge=0, le=20)
    """How much satisfaction brings people back sooner (as above)."""

    walk_sigma: float = Field(default=0.02, ge=0, le=1)
    """Daily step of the taste walk; a month turns a style by some fifteen degrees."""

    # Sessions.
    pages_mean: float = Field(default=3.4, ge=1, le=50)
    """Pages of a session, geometric; published means lie between 3 and 6."""

    weekend: float = Field(default=1.14, gt=0, le=5)
    """Visits on Saturday and Sunday over other days; published cycles are 10-20 %."""

    intent_switch: float = Field(default=0.15, ge=0, le=1)
    """Chance per page that the session turns to another category."""

    intent_boost: float = Field(default=2.2, ge=0, le=10)
    """Logits for what the session is about; the others lose a third of it."""

    latency_median_ms: float = Field(default=90.0, ge=0, le=60_000)
    """Of the logging platform; log-normal with sigma 0.5."""

    latency_loss: float = Field(default=0.06, ge=0, le=10)
    """Abandonment per second beyond 200 ms: 30 % more of 300 ms costs half a percent."""

    # Response.
    satiation: float = Field(default=0.45, ge=0, le=10)
    """Logits lost per examined exposure of the same item within the last days, on average."""

    sameness: float = Field(default=0.8, ge=0, le=10)
    """Logits lost when all that was examined lately was of the item's kind."""

    satiation_days: float = Field(default=5.0, gt=0, le=1_000)
    """Days in which boredom falls to 1/e."""

    clicked_again: float = Field(default=2.3, ge=0, le=20)
    """Logits lost for what was clicked before: a tenth of the odds is left."""

    novelty: float = Field(default=0.15, ge=0, le=5)
    """Logits for an item that is new to the shop's shelves, times the user's liking of news."""

    novelty_days: float = Field(default=5.0, gt=0, le=100)
    """Days in which the novelty of a change of the platform falls to 1/e; published: 3-7."""

    accidents: float = Field(default=0.003, ge=0, le=1)
    """Chance that a looked-at place is touched by mistake on a phone."""

    cart_rate: float = Field(default=0.26, ge=0, le=1)
    """Chance of a cart after a click that satisfies wholly."""

    purchase_rate: float = Field(default=0.27, ge=0, le=1)
    """Chance of a purchase after a cart: 2-5 % of clicks end in one."""

    rating_rate: float = Field(default=0.4, ge=0, le=1)
    """Of purchases, how many are rated."""

    return_rate: float = Field(default=0.3, ge=0, le=1)
    """Chance that a purchase that did not satisfy at all is sent back."""

    dislike_rate: float = Field(default=0.01, ge=0, le=1)
    """Chance of an explicit dislike after a click that did not satisfy at all."""

    # Transport.
    duplicates: float = Field(default=0.002, ge=0, le=1)
    """Share of events that arrive twice: clients retry."""

    late: float = Field(default=0.01, ge=0, le=1)
    """Share of events that arrive hours later: phones were offline."""

    skewed: float = Field(default=0.01, ge=0, le=1)
    """Share of users whose clock is off by up to two minutes."""

    # The logging policy.
    explored: float = Field(default=0.52, ge=0, le=1)
    """Mean share of a place's chance that is spread evenly over what is on sale."""

    randomised: float = Field(default=0.05, ge=0, le=1)
    """Share of slates drawn evenly throughout: the slice that position bias is estimated from."""

    @model_validator(mode="after")
    def _slots_fit(self) -> WorldConfig:
        if self.slots > self.items:
            raise ValueError(f"slots is {self.slots}; allowed: 1 … {self.items}, the items")
        return self

    def on(self, mechanism: Mechanism) -> bool:
        """Whether a mechanism works in this world."""
        return mechanism not in self.switched_off

    def without(self, *mechanisms: Mechanism) -> WorldConfig:
        """The same world with mechanisms switched off."""
        return self.but(switched_off=tuple(sorted({*self.switched_off, *mechanisms})))

    def but(self, **changes: Any) -> WorldConfig:
        """The same world with other values, checked again."""
        return _checked({**self.model_dump(), **changes})


SCALES: dict[str, dict[str, int]] = {
    "tiny": {"users": 400, "items": 200, "days": 14, "slates_a_day": 300},
    "small": {"users": 2_000, "items": 1_000, "days": 28, "slates_a_day": 1_200},
    "full": {"users": 30_000, "items": 20_000, "days": 60, "slates_a_day": 5_000},
}

PRESETS: dict[str, dict[str, Any]] = {
    "base": {},
    "biased_logger": {"explored": 0.02, "randomised": 0.02},
    "leaky_features": {"hits": 0.05, "hit_size": 2.0, "half_life_days": 10.0},
    "intent_shift": {"intent_switch": 0.3, "intent_boost": 3.0},
    "high_churn": {"churn": 0.03, "churn_slope": 8.0},
    "satiation": {"satiation": 1.0, "sameness": 2.0},
    "clickbait": {"appeal_quality": -0.2},
    "covariate_drift": {"shifts": [{"kind": "covariate", "start_day": 3, "size": 0.5}]},
    "concept_drift": {"shifts": [{"kind": "concept", "start_day": 3, "size": 0.6}]},
    "season": {"season_size": 1.2},
    "incident": {"shifts": [{"kind": "incident", "start_day": 3, "size": 0.4, "days": 1}]},
    "novelty": {"shifts": [{"kind": "novelty", "start_day": 3, "size": 0.4}]},
    "heavy_users": {"activity_sigma": 1.8},
    "slow_backend": {"latency_median_ms": 600.0, "latency_loss": 0.3},
    "shared_stock": {"stock": 3.0},
    "bots": {"bots": 0.05},
    "minority": {"minority": 0.2},
}
"""What each named world changes; the claim that needs it is in docs/world.md."""


def configure(
    scale: str = "small",
    seed: int = 0,
    family: str = DEFAULT_FAMILY,
    preset: str = "base",
    **changes: Any,
) -> WorldConfig:
    """A world by names, with single values changed on top.

    Raises:
        ContractError: an unknown name, or a value that no world can have; the message names the
            field, what was given and what is allowed.
    """
    for what, name, known in (("scale", scale, SCALES), ("preset", preset, PRESETS)):
        if name not in known:
            raise ContractError(f"no {what} {name!r}; choose one of {', '.join(known)}")
    named = {"scale": scale, "seed": seed, "family": family, "preset": preset}
    return _checked({**SCALES[scale], **PRESETS[preset], **named, **changes})


def allowed(field: FieldInfo) -> str:
    """The range of a parameter as text, such as `0 … 1` or `> 0 … 100`."""
    bounds = {
        name: getattr(rule, name)
        for rule in field.metadata
        for name in ("ge", "gt", "le", "lt")
        if getattr(rule, name, None) is not None
    }
    low = bounds.get("ge", f"> {bounds['gt']:,}" if "gt" in bounds else None)
    high = bounds.get("le", f"< {bounds['lt']:,}" if "lt" in bounds else None)
    if low is None:
        return "–"
    parts = [f"{bound:,}" if isinstance(bound, int | float) else bound for bound in (low, high)]
    return f"{parts[0]} …" if high is None else f"{parts[0]} … {parts[1]}"


def _checked(values: Mapping[str, Any]) -> WorldConfig:
    try:
        return WorldConfig.model_validate(dict(values))
    except ValidationError as error:
        first = error.errors()[0]
    name = ".".join(map(str, first["loc"]))
    if first["type"] == "value_error":  # a rule between fields says itself what is allowed
        said = first["msg"].removeprefix("Value error, ")
        raise ContractError(f"world parameter {f'{name}: {said}' if name else said}")
    # `shifts.0.size` is the field `size` of a shift.
    fields = (Shift if name.startswith("shifts.") else WorldConfig).model_fields
    last = str(first["loc"][-1])
    if first["type"] == "extra_forbidden":
        near = [f"did you mean {field}?" for field in get_close_matches(last, fields, 1)]
        hint = near[0] if near else "docs/world.md lists them"
        raise ContractError(f"no world parameter {name!r}; {hint}")
    rule = allowed(fields[last]) if last in fields else "–"
    said = f"allowed: {rule}" if rule != "–" else first["msg"]
    if first["type"] == "missing":
        raise ContractError(f"world parameter {name} is missing; {said}")
    raise ContractError(f"world parameter {name} is {first['input']!r}; {said}")
