"""How users react to a list: the model of the world, and nothing that a learner may see.

    logit(attraction) = utility(taste, style, price, appeal)             by family
                      + generosity + intent + charm + hit + season + novelty
                      - boredom x (looks at this item, looks at its kind) - clicked before
    P(click)          = examination x chance                             by family

Attraction decides the click, satisfaction what comes after it: dwell, cart, purchase, return,
rating, and whether the user comes back. One code for the logged past, for the loop in one process,
and for visits over HTTP.

Axis letters: S slates, K list length, R places of a memory.
"""

from dataclasses import dataclass

import numpy as np

from pipelines.world.config import WorldConfig
from pipelines.world.draws import normal, uniform
from pipelines.world.families import FAMILY, Draws, Look, Match
from pipelines.world.numbers import sigmoid
from pipelines.world.planning import NO_INTENT, Visits
from pipelines.world.population import DAY_US, KINDS
from pipelines.world.state import MEMORY, remember, remember_clicks
from pipelines.world.timeline import YEAR_DAYS, novelty_of_change
from pipelines.world.truth import State, Truth

INTENT_CUT = 1 / 3
"""Of the intent's boost, what all other categories lose."""

MOST_LOOKS = 4.0
"""Boredom with one item grows no further."""

NEW_FOR_DAYS = 7.0
"""How long an item counts as news."""

BOT_CHANCE = 0.2
"""A script clicks any place with this chance, whatever stands there."""

NOT_TO_BE_HAD = 6.0
"""Logits lost by what is retired or sold out."""

LEARNS = 0.15
"""Weight of one slate in the running mean of satisfaction."""

SATISFIES = {"quality": 1.1, "style": 0.6, "taste": 0.8, "price": 0.4}
"""Logits of satisfaction per unit; price is taken away."""

WITHOUT_CLICK = 0.47
"""Satisfaction with a slate on which nothing was worth a click."""

FREE_MS = 200.0
"""Waiting that nobody minds."""

DELAYS_S = ((0.0, 3600.0), (3600.0, 86_400.0), (86_400.0, 30 * 86_400.0))
DELAY_SHARES = (0.35, 0.15, 0.5)
"""From click to purchase: a third within the hour, half within the day, a tail to 30 days."""

DWELL_S, DWELL_SIGMA = 40.0, 0.8
"""Median of a click that satisfies by half; log-normal."""


@dataclass(frozen=True, slots=True)
class Appraisal:
    """What items are to users at this moment; each (S, K)."""

    attraction: np.ndarray  # chance of a click on what is looked at, by what it is
    satisfaction: np.ndarray  # 0..1 that it will bring, once taken


@dataclass(frozen=True, slots=True)
class Reaction:
    """What happened on S slates of K places, and the truth behind it."""

    # What a platform can see; (S, K).
    click: np.ndarray  # bool
    cart: np.ndarray  # bool
    purchase: np.ndarray  # bool
    stars: np.ndarray  # int, 0 = no rating
    # What happened and no event tells; (S, K) unless said otherwise.
    left: np.ndarray  # (S,) bool: gave up waiting, saw nothing, and ends the session
    examined: np.ndarray  # bool
    delay_s: np.ndarray  # from click to purchase, wherever there is one
    dwell_s: np.ndarray  # 0 where there is no click
    returned: np.ndarray  # bool, of the purchases
    disliked: np.ndarray  # bool, of the clicks
    # Chances; (S, K).
    examination: np.ndarray
    attraction: np.ndarray
    utility: np.ndarray  # expected clicks of the place: stays x examination x chance
    satisfaction: np.ndarray


def appraise(truth: Truth, state: State, visits: Visits, item_ix: np.ndarray) -> Appraisal:
    """What S visitors think of (S, K) items now: rows of `truth.items`."""
    match = matched(truth, state, visits.user_ix, item_ix)
    logits = FAMILY[truth.config.family].utility(match)
    logits = logits + truth.users.generosity[visits.user_ix][:, None]
    logits += _intended(truth, visits, item_ix) + _of_the_day(truth, visits, item_ix)
    logits -= _tired(truth, state, visits, item_ix)
    gone = visits.at_us[:, None] >= truth.items.retires_at[item_ix]
    logits -= NOT_TO_BE_HAD * (gone | (state.stock[item_ix] < 1))
    return Appraisal(sigmoid(logits), _satisfying(truth, match, item_ix))


def matched(truth: Truth, state: State, user_ix: np.ndarray, item_ix: np.ndarray) -> Match:
    """How (S, K) items fit (S,) users with today's taste."""
    users, items = truth.users, truth.items
    distance = np.abs(items.price_level[item_ix] - users.budget_level[user_ix][:, None])
    return Match(
        taste=state.taste[user_ix[:, None], items.category[item_ix]],
        style=np.einsum("sd,skd->sk", state.style[user_ix], items.style[item_ix]),
        price=distance if truth.config.on("price") else np.zeros(item_ix.shape),
        appeal=items.appeal[item_ix],
    )


def react(
    truth: Truth,
    state: State,
    visits: Visits,
    item_ix: np.ndarray,
    latency_ms: np.ndarray | float = 0.0,
) -> Reaction:
    """What visitors do with their slates; `experience` then lets them remember it.

    Nothing is changed, so another slate for the same visits is a counterfactual twin: same mood,
    same memory, same luck.

    Args:
        truth: the world.
        state: as the visitors come; rows of distinct users are independent of each other.
        visits: S visits.
        item_ix: (S, K) rows of `truth.items`.
        latency_ms: (S,) or one for all: how long the slate took to come.
    """
    config, luck = truth.config, visits.luck[:, None]
    appraisal = appraise(truth, state, visits, item_ix)
    places = np.arange(item_ix.shape[1])[None, :]
    draws = Draws(
        look=uniform(luck, "look", places),
        like=uniform(luck, "like", item_ix),
        trust=uniform(luck, "trust", item_ix),
    )
    trust = truth.users.trust[visits.user_ix] * config.on("trust")
    look = FAMILY[config.family].look(appraisal.attraction, visits.device, trust, draws)
    look, mistaken = _mistakes(config, visits, item_ix, look)
    look = _scripts(truth, visits, item_ix, look)
    leaves = _leaving(truth, visits, latency_ms)
    left = uniform(visits.luck, "leaves") < leaves
    click = look.click & ~left[:, None]
    satisfaction = np.where(mistaken, 0.1, appraisal.satisfaction)
    return Reaction(
        click=click,
        left=left,
        examined=look.examined & ~left[:, None],
        examination=look.examination,
        attraction=appraisal.attraction,
        utility=(1 - leaves)[:, None] * look.examination * look.chance,
        satisfaction=satisfaction,
        **_after_click(truth, visits, item_ix, click, satisfaction),
    )


def experience(
    truth: Truth, state: State, visits: Visits, item_ix: np.ndarray, reaction: Reaction
) -> None:
    """Let visitors (distinct users) remember what they saw, and be the happier or sadder for it."""
    who = visits.user_ix
    if truth.config.on("satiation"):
        remember(state, who, visits.at_us, item_ix, reaction.examined)
        remember_clicks(state, who, item_ix, reaction.click)
    clicks = reaction.click.sum(axis=1)
    felt = (reaction.click * reaction.satisfaction).sum(axis=1) / np.maximum(clicks, 1)
    felt = np.where(clicks > 0, felt, WITHOUT_CLICK)
    felt = np.where(reaction.left, 0.0, felt)
    state.satisfaction[who] += LEARNS * (felt - state.satisfaction[who])
    state.left[who] = np.where(reaction.left, visits.session, state.left[who])
    np.subtract.at(state.stock, item_ix[reaction.purchase], 1.0)


def comes(state: State, visits: Visits) -> np.ndarray:
    """(S,) bool: who is still there for this page of the session."""
    still: np.ndarray = state.left[visits.user_ix] != visits.session
    return still


def _intended(truth: Truth, visits: Visits, item_ix: np.ndarray) -> np.ndarray:
    """What the session is about is clicked more, everything else less."""
    intent = visits.intent[:, None]
    meant = truth.items.category[item_ix] == intent
    moved = np.where(meant, 1.0, -INTENT_CUT) * truth.config.intent_boost
    return np.where(intent == NO_INTENT, 0.0, moved)


def _of_the_day(truth: Truth, visits: Visits, item_ix: np.ndarray) -> np.ndarray:
    """What time adds: the charm of the new, hits, the season, and a change of the platform."""
    config, items = truth.config, truth.items
    at_us = visits.at_us[:, None]
    age_days = np.maximum((at_us - items.launched_at[item_ix]) / DAY_US, 0.0)
    added = np.zeros(item_ix.shape)
    if config.on("lifecycle"):
        added += config.charm * 2.0 ** -(age_days / items.half_life_days[item_ix])
    if config.on("novelty"):
        curiosity = truth.users.curiosity[visits.user_ix][:, None]
        added += config.novelty * curiosity * (age_days < NEW_FOR_DAYS)
        added += novelty_of_change(truth, visits.at_us)[:, None]
    if config.on("hits"):
        since = (at_us - items.hit_at[item_ix]) / DAY_US
        faded = np.exp(-np.maximum(since, 0.0) / config.hit_days)
        added += np.where(since >= 0, config.hit_size * faded, 0.0)
    if config.on("season"):
        away = at_us / DAY_US - items.season_peak[item_ix]
        added += config.season_size * np.cos(2 * np.pi * away / YEAR_DAYS)
    return added


def _tired(truth: Truth, state: State, visits: Visits, item_ix: np.ndarray) -> np.ndarray:
    """Logits lost to boredom: with this item, with its kind, and with what was clicked before."""
    config, items, who = truth.config, truth.items, visits.user_ix
    if not config.on("satiation"):
        return np.zeros(item_ix.shape)
    seen = state.seen_item[who]  # (S, R)
    age_days = (visits.at_us[:, None] - state.seen_at[who]) / DAY_US
    weight = np.where(seen >= 0, np.exp(-np.maximum(age_days, 0) / config.satiation_days), 0.0)
    same = (seen[:, None, :] == item_ix[:, :, None]).astype(np.float64)  # (S, K, R)
    looks = np.minimum(np.einsum("skr,sr->sk", same, weight), MOST_LOOKS)
    kind = items.category * KINDS + items.kind
    alike = (kind[seen][:, None, :] == kind[item_ix][:, :, None]).astype(np.float64)
    share = np.einsum("skr,sr->sk", alike, weight) / (MEMORY / 5)
    bored = config.satiation * looks + config.sameness * np.minimum(share, 1.0)
    clicked = (state.clicked_item[who][:, None, :] == item_ix[:, :, None]).any(axis=2)
    tired: np.ndarray = truth.users.boredom[who][:, None] * bored + config.clicked_again * clicked
    return tired


def _satisfying(truth: Truth, match: Match, item_ix: np.ndarray) -> np.ndarray:
    """Quality, style and taste satisfy, a wrong price grates; appeal has no say."""
    good = SATISFIES["quality"] * truth.items.quality[item_ix] + SATISFIES["style"] * match.style
    liked = SATISFIES["taste"] * (match.taste - 0.5)
    return sigmoid(good + liked - SATISFIES["price"] * match.price)


def _mistakes(
    config: WorldConfig, visits: Visits, item_ix: np.ndarray, look: Look
) -> tuple[Look, np.ndarray]:
    """Fingers on phones touch what they did not mean; also says which clicks are such."""
    if not config.on("accidents"):
        return look, np.zeros(item_ix.shape, bool)
    rate = np.where(visits.device == "mobile", config.accidents, 0.0)[:, None]
    slips = look.examined & (uniform(visits.luck[:, None], "slip", item_ix) < rate)
    mistaken = slips & ~look.click
    chance = look.chance + (1 - look.chance) * rate
    return Look(look.examination, chance, look.examined, look.click | slips), mistaken


def _scripts(truth: Truth, visits: Visits, item_ix: np.ndarray, look: Look) -> Look:
    """Bots look at every place and click without taste."""
    bot = truth.users.bot[visits.user_ix][:, None]
    if not bot.any():
        return look
    click = uniform(visits.luck[:, None], "bot", item_ix) < BOT_CHANCE
    return Look(
        np.where(bot, 1.0, look.examination),
        np.where(bot, BOT_CHANCE, look.chance),
        bot | look.examined,
        np.where(bot, click, look.click),
    )


def _leaving(truth: Truth, visits: Visits, latency_ms: np.ndarray | float) -> np.ndarray:
    """(S,) chance to give up before the slate is there."""
    if not truth.config.on("latency"):
        return np.zeros(len(visits))
    waited_s = np.maximum(np.asarray(latency_ms, float) - FREE_MS, 0.0) / 1000
    patience = truth.users.patience[visits.user_ix]
    leaving: np.ndarray = 1 - np.exp(-truth.config.latency_loss * waited_s / patience)
    return leaving


def _after_click(
    truth: Truth, visits: Visits, item_ix: np.ndarray, click: np.ndarray, satisfaction: np.ndarray
) -> dict[str, np.ndarray]:
    """A purchase implies a cart, a cart a click, stars and a return a purchase.

    Drawn only where there is a click: one place in twenty.
    """
    config, shape = truth.config, click.shape
    slate, place = np.nonzero(click)
    luck, item, felt = visits.luck[slate], item_ix[slate, place], satisfaction[slate, place]

    def happens(what: str, chance: np.ndarray | float) -> np.ndarray:
        return uniform(luck, what, item) < chance

    cart = happens("cart", config.cart_rate * felt) & ~truth.users.bot[visits.user_ix[slate]]
    in_stock = truth.items.retires_at[item] > visits.at_us[slate]
    purchase = cart & happens("purchase", config.purchase_rate) & in_stock
    rated = purchase & happens("rated", config.rating_rate)
    stars = np.clip(np.rint(1 + 3.5 * felt + normal(luck, "stars", item) * 0.7), 1, 5)
    part = np.searchsorted(np.cumsum(DELAY_SHARES)[:-1], uniform(luck, "delay", item))
    low, high = np.array(DELAYS_S)[part].T
    first = low == 0
    spread = uniform(luck, "within", item)
    # Evenly within the hour; later log-evenly, so that most of a tail lies at its beginning.
    start = np.maximum(low, 1.0)
    waits = np.where(first, 60 + spread * (high - 60), start * (high / start) ** spread)
    dwell = DWELL_S * np.exp(2 * (felt - 0.5) + DWELL_SIGMA * normal(luck, "dwell", item))

    def placed(values: np.ndarray) -> np.ndarray:
        whole = np.zeros(shape, values.dtype)
        whole[slate, place] = values
        return whole

    return {
        "cart": placed(cart),
        "purchase": placed(purchase),
        "stars": placed(np.where(rated, stars, 0).astype(np.int64)),
        "delay_s": placed(np.where(purchase, waits, 0.0)),
        "dwell_s": placed(dwell),
        "returned": placed(purchase & happens("returned", config.return_rate * (1 - felt))),
        "disliked": placed(happens("disliked", config.dislike_rate * (1 - felt))),
    }
