"""From reactions to what arrives: events with their moments, and all that can go wrong on the way.

Phones retry (duplicates), come back online hours later (late), have wrong clocks (skew), and
trackers break (incident). `event_at` is what the user's clock says, `seen_at` when it arrives.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from pipelines.world.behaviour import Reaction
from pipelines.world.draws import exponential, uniform
from pipelines.world.planning import Visits
from pipelines.world.population import DAY_US, SECOND_US
from pipelines.world.timeline import strength
from pipelines.world.truth import Truth

SESSION_ENDS_US = 1800 * SECOND_US
"""What follows a slate later than this belongs to no session."""

CART_S, RATING_S = 60.0, 2 * 86_400.0
"""Mean seconds from click to cart, and from purchase to rating; exponential."""

LATE_S = 6 * 3600.0
"""Mean lateness of what is late, exponential."""

MOST_SKEW_S = 120.0

KINDS = ("click", "cart", "purchase", "rating")


@dataclass(frozen=True, slots=True)
class Happenings:
    """What users did after S slates, one row per event that arrives; (E,) each."""

    slate: np.ndarray  # row of the visits
    place: np.ndarray  # 0-based
    kind: np.ndarray  # into KINDS
    event_us: np.ndarray  # as the user's clock says
    seen_us: np.ndarray  # when it arrives
    value: np.ndarray  # money of a purchase, stars of a rating, else NaN


def happenings(truth: Truth, visits: Visits, item_ix: np.ndarray, reaction: Reaction) -> Happenings:
    """Events of S slates, by kind, then by slate and place; duplicates directly follow."""
    slate, place = np.nonzero(reaction.click)
    luck, item = visits.luck[slate], item_ix[slate, place]

    def after(moment_us: np.ndarray, what: str, mean_s: float) -> np.ndarray:
        return moment_us + _whole_ms(exponential(luck, what, item) * mean_s)

    click_us = after(visits.at_us[slate] + (1 + 2 * (place + 1)) * SECOND_US, "click at", 5.0)
    cart_us = after(click_us, "cart at", CART_S)
    wait_us = _whole_ms(reaction.delay_s[slate, place])
    bought_us = np.maximum(cart_us + SECOND_US, click_us + wait_us)
    rated_us = after(bought_us, "rated at", RATING_S)
    none, stars = np.full(len(slate), np.nan), reaction.stars[slate, place]
    kinds = [
        (np.ones(len(slate), bool), click_us, none),
        (reaction.cart[slate, place], cart_us, none),
        (reaction.purchase[slate, place], bought_us, truth.items.price[item]),
        (stars > 0, rated_us, stars.astype(float)),
    ]
    kind = np.concatenate([np.full(did.sum(), number) for number, (did, _, _) in enumerate(kinds)])
    row = np.concatenate([np.flatnonzero(did) for did, _, _ in kinds])
    at_us = np.concatenate([moment[did] for did, moment, _ in kinds])
    value = np.concatenate([worth[did] for did, _, worth in kinds])
    return _transported(
        truth, visits, item, Happenings(slate[row], place[row], kind, at_us, at_us, value), row
    )


def table(
    truth: Truth,
    visits: Visits,
    item_ix: np.ndarray,
    happened: Happenings,
    request_ids: Sequence[str],
) -> pd.DataFrame:
    """Events with columns of `features.schema.EVENTS`."""
    requests = np.array(request_ids, object)
    slate, place = happened.slate, happened.place
    names = np.array(KINDS, object)[happened.kind]
    soon = happened.event_us - visits.at_us[slate] < SESSION_ENDS_US
    sessions = session_ids(truth, visits)[slate]
    return pd.DataFrame(
        {
            "event_id": [
                event_id(request, number, kind)
                for request, number, kind in zip(requests[slate], place, names, strict=True)
            ],
            "event_type": names,
            "user_id": truth.users.ids.astype(object)[visits.user_ix[slate]],
            "item_id": truth.items.ids.astype(object)[item_ix[slate, place]],
            "session_id": np.where(soon, sessions, None),
            "request_id": requests[slate],
            "position": place + 1,
            "event_at": moments(happened.event_us),
            "seen_at": moments(happened.seen_us),
            "value": happened.value,
            "context": contexts(truth, visits)[slate],
        }
    )


def event_id(request_id: str, place: int, kind: str) -> str:
    """The idempotency key of what was done at a place (0-based) of a slate."""
    return f"{request_id}:{place + 1}:{kind}"


def session_ids(truth: Truth, visits: Visits) -> np.ndarray:
    """(S,) str: a user's sessions have names of their own."""
    pairs = zip(visits.user_ix.tolist(), visits.session.tolist(), strict=True)
    return np.array([f"s{truth.seed}-{user}-{session}" for user, session in pairs], object)


def contexts(truth: Truth, visits: Visits) -> np.ndarray:
    """(S,) JSON of device and location; few distinct ones."""
    places = truth.users.location[visits.user_ix].tolist()
    pairs = list(zip(visits.device.tolist(), places, strict=True))
    texts = {pair: json.dumps({"device": pair[0], "location": pair[1]}) for pair in set(pairs)}
    return np.array([texts[pair] for pair in pairs], object)


def moments(at_us: np.ndarray) -> pd.DatetimeIndex:
    """µs since 1970 as pandas has them."""
    return pd.to_datetime(at_us, unit="us", utc=True).as_unit("us")


def _transported(
    truth: Truth, visits: Visits, item: np.ndarray, sent: Happenings, row: np.ndarray
) -> Happenings:
    """What the way to the platform makes of events; `row` says which click each belongs to."""
    config, who = truth.config, visits.user_ix[sent.slate]
    luck = (visits.luck[sent.slate], "way", item[row], sent.kind)

    def struck(mechanism: Any, share: float) -> np.ndarray:
        on = config.on(mechanism) if mechanism else True
        return (uniform(*luck, mechanism or "lost") < share) & on

    has_skew = (uniform(config.seed, "skewed", who) < config.skewed) & config.on("skew")
    skew_s = np.where(has_skew, (2 * uniform(config.seed, "skew", who) - 1) * MOST_SKEW_S, 0.0)
    late_s = np.where(struck("late", config.late), exponential(*luck, "by") * LATE_S, 0.0)
    lost = uniform(*luck, "lost") < _lost(truth, sent.seen_us)
    copies = np.where(lost, 0, 1 + struck("duplicates", config.duplicates))
    whole = np.repeat(np.arange(len(row)), copies)
    return Happenings(
        sent.slate[whole],
        sent.place[whole],
        sent.kind[whole],
        (sent.event_us + _whole_ms(skew_s))[whole],
        (sent.seen_us + _whole_ms(late_s))[whole],
        sent.value[whole],
    )


def _lost(truth: Truth, at_us: np.ndarray) -> np.ndarray:
    """Share of events that the tracker loses at each moment."""
    if not any(shift.kind == "incident" for shift in truth.config.shifts):
        return np.zeros(len(at_us))
    days = at_us // DAY_US
    shares = {day: strength(truth, "incident", int(day) * DAY_US) for day in np.unique(days)}
    return np.array([shares[day] for day in days])


def _whole_ms(seconds: np.ndarray) -> np.ndarray:
    """µs in whole milliseconds: libraries' logarithms differ in the last digit, these do not."""
    return (seconds * 1000).astype(np.int64) * 1000
