"""The logged past: what a platform with a simple policy showed, and what came of it.

The policy draws each slate without replacement, half of the chance by clicks so far, half evenly
over what is launched. So popularity is nowhere written down: it emerges from tastes, quality and
being shown, and the even half lets a model learn what popularity alone would never show.
"""

import json
from dataclasses import dataclass

import numpy as np
import pandas as pd

from pipelines.world.behaviour import Reaction, attraction, examination, react
from pipelines.world.planning import Plan, plan_day
from pipelines.world.population import DAY_US, SCALES, SECOND_US, to_us
from pipelines.world.truth import Truth

SLATE = 10
EXPLORED = 0.5
"""Share of the policy's chance that is spread evenly."""

CLICKS_KEPT = 0.9
"""Of yesterday's click counts: what was popular a month ago counts little."""

DRAWS = 4 * SLATE
"""Draws per slate, of which the first SLATE distinct ones are shown."""

WEEKEND = 1.2
"""Saturdays and Sundays have more visits."""

DELAYS_S = (900.0, 8 * 3600.0, 3 * 86_400.0)
DELAY_SHARES = (0.35, 0.5, 0.15)
"""Mean seconds from cart to purchase, exponential: soon, later that day, days later."""

SESSION_ENDS_US = 1800 * SECOND_US
"""What follows a click later than this belongs to no session."""


@dataclass(frozen=True, slots=True)
class Shown:
    """The slates of one day and the reaction; (S, K) unless a plan's."""

    plan: Plan
    item_ix: np.ndarray
    propensity: np.ndarray
    reaction: Reaction


def log_past(truth: Truth) -> tuple[pd.DataFrame, np.ndarray]:
    """Simulate the days up to the world's end.

    Returns:
        Events with columns of `features.schema.EVENTS`, by type and then time; and who clicked
        what, as user x N + item, sorted.
    """
    size = SCALES[truth.scale]
    rng = np.random.default_rng([truth.seed, 2])
    end_us = to_us(truth.end)
    heat = np.zeros(size.items)
    clicked, tables = np.empty(0, np.int64), []
    for number in range(size.days):
        day_us = end_us - (size.days - number) * DAY_US
        shown = _one_day(truth, heat, clicked, day_us, size.slates_a_day, rng)
        clicks = shown.reaction.click
        keys = shown.plan.user_ix[:, None] * size.items + shown.item_ix
        clicked = np.union1d(clicked, keys[clicks])
        heat = CLICKS_KEPT * heat + np.bincount(shown.item_ix[clicks], minlength=size.items)
        tables.append(_events(truth, shown, number, rng))
    events = pd.concat(tables, ignore_index=True)
    events = events[events["event_at"] < pd.Timestamp(truth.end)]
    return events.reset_index(drop=True), clicked


def policy(heat: np.ndarray, launched: np.ndarray) -> np.ndarray:
    """(N,) chance of each item to be drawn next."""
    popular = np.where(launched, heat + 1, 0.0)
    chance: np.ndarray = (1 - EXPLORED) * popular / popular.sum()
    return chance + EXPLORED * launched / launched.sum()


def draw_slates(
    chance: np.ndarray, slates: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Draw lists without replacement, and the propensity of each place.

    Drawing with replacement and skipping repeats is drawing without, so the chance of an item at a
    place, given what stands above it, is p / (1 - sum of p above).

    Args:
        chance: (N,) sums to one; at least SLATE items have some.
        slates: S.
        rng: the only randomness.

    Returns:
        (S, SLATE) item_ix and (S, SLATE) propensity.

    Interview: Why log the propensity of what was shown?
        It is the only way to ask later what another policy would have earned: weigh each logged
        click by how likely each policy was to show it. It cannot be rebuilt afterwards, because
        the policy changes with every click.
        Trade-off: it needs a policy that draws; a list sorted by score shows with probability 0
        or 1, and 0 cannot be weighed up.
        Shown by: tests/pipelines/test_world_history.py::test_propensities_are_the_shares_that_are_drawn
    """
    draws = rng.choice(len(chance), (slates, DRAWS), p=chance)
    fresh = _first_occurrence(draws)
    enough = fresh.sum(axis=1) >= SLATE
    taken = fresh & (np.cumsum(fresh, axis=1) <= SLATE)
    item_ix = np.empty((slates, SLATE), np.int64)
    item_ix[enough] = draws[enough][taken[enough]].reshape(-1, SLATE)
    for row in np.flatnonzero(~enough):  # rare, unless one item takes nearly all of the chance
        item_ix[row] = _completed(draws[row][fresh[row]], chance, rng)
    p = chance[item_ix]
    above = np.cumsum(p, axis=1) - p
    return item_ix, p / (1 - above)


def _completed(drawn: np.ndarray, chance: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A slate that begins with `drawn`; the Gumbel trick draws the rest in one go."""
    left = chance.copy()
    left[drawn] = 0.0
    with np.errstate(divide="ignore"):  # log 0 = never
        keys = np.log(left) + rng.gumbel(size=len(left))
    return np.r_[drawn, np.argsort(-keys)[: SLATE - len(drawn)]]


def _first_occurrence(draws: np.ndarray) -> np.ndarray:
    """(S, D) bool: no earlier draw of the row is the same."""
    order = np.argsort(draws, axis=1, kind="stable")
    ordered = np.take_along_axis(draws, order, axis=1)
    first = np.ones_like(draws, bool)
    first[:, 1:] = ordered[:, 1:] != ordered[:, :-1]
    result = np.empty_like(first)
    np.put_along_axis(result, order, first, axis=1)
    return result


def _one_day(
    truth: Truth,
    heat: np.ndarray,
    clicked: np.ndarray,
    day_us: int,
    slates: int,
    rng: np.random.Generator,
) -> Shown:
    users, items = truth.users, truth.items
    weekday = (day_us // DAY_US + 3) % 7  # 1970 began on a Thursday
    slates = round(slates * (WEEKEND if weekday >= 5 else 1.0))
    here = users.activity * (users.joined_at < day_us)
    plan = plan_day(users, here, slates, day_us, rng)
    item_ix, propensity = draw_slates(policy(heat, items.launched_at < day_us), slates, rng)
    attracted = attraction(users, items, plan.user_ix, item_ix, plan.mood)
    known = np.isin(plan.user_ix[:, None] * len(items.ids) + item_ix, clicked)
    reaction = react(attracted, examination(plan.device, SLATE), known, rng)
    return Shown(plan, item_ix, propensity, reaction)


def _events(truth: Truth, shown: Shown, day: int, rng: np.random.Generator) -> pd.DataFrame:
    """Impressions, clicks, carts, purchases and ratings of one day."""
    did, shape = shown.reaction, shown.item_ix.shape
    place = np.arange(1, shape[1] + 1)
    at = np.broadcast_to(shown.plan.at_us[:, None], shape)
    click_at = at + ((1 + 2 * place + rng.exponential(5, shape)) * SECOND_US).astype(np.int64)
    cart_at = click_at + (rng.exponential(60, shape) * SECOND_US).astype(np.int64)
    mean = rng.choice(DELAYS_S, shape, p=DELAY_SHARES)
    bought_at = cart_at + (rng.exponential(mean) * SECOND_US).astype(np.int64)
    rated_at = bought_at + (rng.exponential(2 * 86_400, shape) * SECOND_US).astype(np.int64)
    price = truth.items.price[shown.item_ix]
    none = np.full(shape, np.nan)
    kinds = [
        ("impression", np.ones(shape, bool), at, none),
        ("click", did.click, click_at, none),
        ("cart", did.cart, cart_at, none),
        ("purchase", did.purchase, bought_at, price),
        ("rating", did.stars > 0, rated_at, did.stars.astype(float)),
    ]
    prefix = f"w{truth.seed}-{day:02d}"
    return pd.concat([_table(truth, shown, prefix, *kind) for kind in kinds], ignore_index=True)


def _table(
    truth: Truth,
    shown: Shown,
    prefix: str,
    event_type: str,
    where: np.ndarray,
    at_us: np.ndarray,
    value: np.ndarray,
) -> pd.DataFrame:
    """The events of one type, at the (slate, place) pairs where `where` holds."""
    plan, (slate, place) = shown.plan, np.nonzero(where)
    who = plan.user_ix[slate]
    requests = np.array([f"{prefix}-{n:05d}" for n in range(len(plan.at_us))], object)
    sessions = pd.Series([f"{prefix}-s{n:05d}" for n in plan.session], dtype=object)
    is_impression = event_type == "impression"
    ending = "" if is_impression else f":{event_type}"
    soon = at_us[slate, place] - plan.at_us[slate] < SESSION_ENDS_US
    return pd.DataFrame(
        {
            "event_id": [
                f"{requests[s]}:{p + 1}{ending}" for s, p in zip(slate, place, strict=True)
            ],
            "event_type": event_type,
            "user_id": truth.users.ids.astype(object)[who],
            "item_id": truth.items.ids.astype(object)[shown.item_ix[slate, place]],
            "session_id": sessions.iloc[slate].reset_index(drop=True).where(soon, None),
            "request_id": requests[slate],
            "position": place + 1,
            "event_at": pd.to_datetime(at_us[slate, place], unit="us", utc=True).as_unit("us"),
            "value": value[slate, place],
            "context": _contexts(truth, plan)[slate],
            "propensity": np.where(is_impression, shown.propensity[slate, place], np.nan),
        }
    )


def _contexts(truth: Truth, plan: Plan) -> np.ndarray:
    """(S,) JSON of device and location; few distinct ones."""
    pairs = list(
        zip(plan.device.tolist(), truth.users.location[plan.user_ix].tolist(), strict=True)
    )
    texts = {pair: json.dumps({"device": pair[0], "location": pair[1]}) for pair in set(pairs)}
    return np.array([texts[pair] for pair in pairs], object)
