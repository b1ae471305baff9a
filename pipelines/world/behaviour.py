"""How users react to a list: the model of the world, and nothing that a learner may see.

    P(click) = examination(position) x attraction(user, item)
    attraction = CURIOSITY + APPEAL x taste match x price fit x quality x mood

and BOREDOM times that for what the user has clicked before. Taste match saturates (tanh of the
category's share times a sigmoid of the style), price fit is a bell around the user's level, quality
a sigmoid; all are needed at once. One code for the logged past and for visits over HTTP.

Axis letters: S slates, K list length, U users, N items.

Interview: Your model learns data that you simulated. Is that not circular?
    It is, if the world is a dot product with a logistic on top: then a two-tower model is the
    world's own formula and wins by construction. Here factors saturate and multiply, three of
    them have no feature at all, and a linear model of the logit cannot say them.
    Trade-off: a strange formula is still one formula; a claim is worth more in several worlds.
    Shown by: tests/pipelines/test_world_behaviour.py::test_attraction_is_no_sum_of_a_taste_and_a_price_effect
"""

from dataclasses import dataclass

import numpy as np

from pipelines.world.truth import Items, Users

CURIOSITY = 0.02
"""Chance that an examined item without any appeal is clicked."""

APPEAL = 0.77
"""Added where taste, price and quality are all perfect; the mood moves it by the factors below."""

BOREDOM = 0.1
"""Factor once the user has clicked the item: nobody browses for what they know."""

MOOD_BOOST, MOOD_CUT = 1.25, 0.85
"""Factors on the appeal of the category that the session is about, and of the others."""

TASTE_SLOPE, STYLE_SLOPE, QUALITY_SLOPE = 3.0, 1.2, 2.5
STYLE_EASE, QUALITY_EASE = 0.5, 0.8
"""How far below average style or quality may lie and still please half as much as the best."""

PRICE_WIDTH = 1.0
"""Half an e-fold of price away from the user's level already costs a third."""

DECAY = {"desktop": 0.75, "tablet": 0.8, "mobile": 0.85}
"""Examination falls as position ** -decay; small screens show less at once."""

OTHER_DECAY = 0.8

CART_AT_BEST, PURCHASE_AT_BEST = 0.2, 0.5
"""Chance of a cart after a click, and of a purchase after a cart, for a perfect item."""

RATING_SHARE = 0.4
"""Of purchases, how many are rated."""


@dataclass(frozen=True, slots=True)
class Reaction:
    """What happened on S slates of K places; each is (S, K) bool, stars (S, K) int, 0 = no rating."""

    click: np.ndarray
    cart: np.ndarray
    purchase: np.ndarray
    stars: np.ndarray


def attraction(
    users: Users, items: Items, user_ix: np.ndarray, item_ix: np.ndarray, mood: np.ndarray | None
) -> np.ndarray:
    """Chance that an examined item is clicked by who has never clicked it.

    Args:
        users: the population.
        items: the catalogue.
        user_ix: (S,) rows of `users`.
        item_ix: (S, K) rows of `items`.
        mood: (S,) category of the visit; None = averaged out, as for a user at no moment.

    Returns:
        (S, K) probabilities.
    """
    category = items.category[item_ix]  # (S, K)
    taste = users.taste[user_ix[:, None], category]
    fit = np.einsum("sd,skd->sk", users.style[user_ix], items.style[item_ix])
    match = np.tanh(TASTE_SLOPE * taste) * _sigmoid(STYLE_SLOPE * (fit + STYLE_EASE))
    distance = items.price_level[item_ix] - users.budget_level[user_ix][:, None]
    price_fit = np.exp(-((distance / PRICE_WIDTH) ** 2) / 2)
    quality = _sigmoid(QUALITY_SLOPE * (items.quality[item_ix] + QUALITY_EASE))
    appeal = APPEAL * match * price_fit * quality
    if mood is not None:
        appeal = appeal * np.where(category == mood[:, None], MOOD_BOOST, MOOD_CUT)
    probability: np.ndarray = CURIOSITY + appeal
    return probability


def examination(device: np.ndarray, length: int) -> np.ndarray:
    """Chance that each place is looked at: (S,) devices -> (S, length)."""
    decay = np.array([DECAY.get(str(name), OTHER_DECAY) for name in device])
    return np.arange(1, length + 1)[None, :] ** -decay[:, None]


def react(
    attracted: np.ndarray, examined: np.ndarray, known: np.ndarray, rng: np.random.Generator
) -> Reaction:
    """Draw clicks and what follows them.

    Args:
        attracted: (S, K) from `attraction`.
        examined: (S, K) from `examination`.
        known: (S, K) True where the user has clicked the item before.
        rng: six draws per place, so that equal seeds give equal worlds.

    Returns:
        A purchase implies a cart, a cart implies a click, stars imply a purchase.
    """
    draws = rng.random((5, *attracted.shape))
    wanted = attracted * np.where(known, BOREDOM, 1.0)
    click = draws[0] < examined * wanted
    cart = click & (draws[1] < CART_AT_BEST * np.sqrt(attracted))
    purchase = cart & (draws[2] < PURCHASE_AT_BEST)
    rated = purchase & (draws[3] < RATING_SHARE)
    stars = np.clip(np.rint(1 + 4 * attracted + 2 * draws[4] - 0.5), 1, 5).astype(int)
    return Reaction(click, cart, purchase, np.where(rated, stars, 0))


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))
