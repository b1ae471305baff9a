"""What published logs look like, each fact a function of a simulated log, with range and source.

The world's parameters are set by these and by nothing else. Facts of which a log can tell are read
from the log; a few need the truth and say so.

Axis letters: S slates, K list length.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from pipelines.world.behaviour import Reaction
from pipelines.world.history import LoggedDay
from pipelines.world.planning import Visits
from pipelines.world.play import joined
from pipelines.world.population import DAY_US
from pipelines.world.truth import Truth

YOUNG_DAYS = 28
"""Ageing is measured on items that are no older."""

SOME_CLICKS = 50
"""A share of fewer clicks says nothing."""


@dataclass(frozen=True, slots=True)
class Log:
    """A logged past as arrays, in order of time; slates that nobody waited for are left out."""

    truth: Truth
    visits: Visits
    item_ix: np.ndarray  # (S, K)
    randomised: np.ndarray  # (S,) bool
    reaction: Reaction

    @property
    def clicks(self) -> np.ndarray:
        """(S, K) bool."""
        return self.reaction.click


@dataclass(frozen=True, slots=True)
class Fact:
    """One thing that is so in published logs."""

    measure: Callable[[Log], float]
    low: float
    high: float
    source: str

    def holds(self, value: float) -> bool:
        """Whether a measured value lies in the range; one that could not be measured does not."""
        return self.low <= value <= self.high


def log_of(truth: Truth, days: Sequence[LoggedDay]) -> Log:
    """Put days together."""
    stays = np.concatenate([~day.played.reaction.left for day in days])
    rows = np.flatnonzero(stays)
    visits = [day.played.visits for day in days]
    whole = Visits(*(np.concatenate(column) for column in zip(*map(_columns, visits), strict=True)))
    return Log(
        truth,
        whole.take(rows),
        np.concatenate([day.played.item_ix for day in days])[rows],
        np.concatenate([day.randomised for day in days])[rows],
        joined([day.played.reaction for day in days], rows),
    )


def click_rate(log: Log) -> float:
    """Clicks per impression."""
    return float(log.clicks.mean())


def slot_ratio(log: Log) -> float:
    """Clicks on the first place over clicks on the last."""
    by_place = log.clicks.sum(axis=0)
    return float(by_place[0] / by_place[-1])


def top_items_share(log: Log) -> float:
    """Share of clicks on the most clicked hundredth of the catalogue."""
    return float(_head(log)[log.item_ix[log.clicks]].mean())


def top_users_share(log: Log) -> float:
    """Share of sessions by the most active tenth of those who came at all."""
    who = log.visits.user_ix[_first_pages(log)]
    sessions = np.sort(np.bincount(who)[np.unique(who)])[::-1]
    return float(sessions[: max(1, len(sessions) // 10)].sum() / sessions.sum())


def pages_per_session(log: Log) -> float:
    """Mean slates per session."""
    return float(_session_lengths(log).mean())


def pages_off_geometric(log: Log) -> float:
    """Total variation between session lengths and the geometric law of their mean."""
    lengths = _session_lengths(log)
    counts = np.bincount(lengths)[1:] / len(lengths)
    stop = 1 / lengths.mean()
    law = stop * (1 - stop) ** np.arange(len(counts))
    return float((np.abs(counts - law).sum() + (1 - law.sum())) / 2)


def purchase_rate(log: Log) -> float:
    """Purchases per click."""
    return float(log.reaction.purchase.sum() / log.clicks.sum())


def bought_within_hour(log: Log) -> float:
    """Share of purchases within an hour of the click."""
    return _bought_within(log, 3600)


def bought_within_day(log: Log) -> float:
    """Share of purchases within a day of the click."""
    return _bought_within(log, 86_400)


def bought_after_week(log: Log) -> float:
    """Share of purchases later than a week after the click."""
    return 1 - _bought_within(log, 7 * 86_400)


def day_over_night(log: Log) -> float:
    """Slates per hour from 8 to 23 over those from 0 to 6 o'clock."""
    hours = np.bincount(log.visits.at_us // 3_600_000_000 % 24, minlength=24)
    return float(hours[8:23].mean() / max(hours[0:6].mean(), 1e-9))


def weekly_cycle(log: Log) -> float:
    """Sessions on a weekend day over those on a working day, minus 1."""
    day = log.visits.at_us[_first_pages(log)] // DAY_US
    first, count = day.min(), np.bincount(day - day.min())
    weekend = (np.arange(len(count)) + first + 3) % 7 >= 5
    return float(count[weekend].mean() / count[~weekend].mean() - 1) if weekend.any() else np.nan


def repeat_decay(log: Log) -> float:
    """Click rate from the third time on that a user is shown an item, over that of the first time.

    Corrected for place and item: expected clicks are the place's first-time rate times how much
    more or less than others the item is clicked the first time.
    """
    nth = _exposures(log)
    first = nth == 0
    shown = first.sum(axis=0)
    place_rate = (log.clicks & first).sum(axis=0) / np.maximum(shown, 1)
    expected = np.broadcast_to(place_rate, log.clicks.shape)
    n = len(log.truth.items.ids)
    clicks = np.bincount(log.item_ix[first], log.clicks[first].astype(float), n)
    due = np.bincount(log.item_ix[first], expected[first], n)
    item_rate = (clicks + 1) / (due + 1)
    again = nth >= 2
    return float(log.clicks[again].sum() / (expected * item_rate[log.item_ix])[again].sum())


def perfect_auc(log: Log) -> float:
    """AUC of the true chance of a click (examination included): no model can do better."""
    score, click = log.reaction.utility.ravel(), log.clicks.ravel()
    order = np.argsort(score, kind="stable")
    ranks = np.empty(len(score))
    ranks[order] = np.arange(1, len(score) + 1)
    ties = np.unique(score, return_inverse=True)[1]
    ranks = (np.bincount(ties, ranks) / np.bincount(ties))[ties]
    clicks = click.sum()
    return float(
        (ranks[click].sum() - clicks * (clicks + 1) / 2) / (clicks * (len(click) - clicks))
    )


def user_variance_share(log: Log) -> float:
    """Share of the variance of slates' true click rates that lies between users (one-way ANOVA).

    The true rate and not the clicks: nine tenths of the variance of single clicks is the coin.
    """
    people = ~log.truth.users.bot[log.visits.user_ix]  # a script is no heterogeneity
    value = log.reaction.utility.mean(axis=1)[people]
    who = np.unique(log.visits.user_ix[people], return_inverse=True)[1]
    size = np.bincount(who).astype(float)
    mean = np.bincount(who, value) / size
    users, slates = len(size), len(value)
    within = ((value - mean[who]) ** 2).sum() / (slates - users)
    between = (size * (mean - value.mean()) ** 2).sum() / (users - 1)
    typical = (slates - (size**2).sum() / slates) / (users - 1)
    component = max((between - within) / typical, 0.0)
    return float(component / (component + within))


def item_half_life_days(log: Log) -> float:
    """Days in which a new item's true attraction halves: log-linear in age, per item."""
    slope = _ageing(log, np.ones(len(log.truth.items.ids), bool))
    return float(np.log(2) / -slope) if slope < 0 else np.inf


def category_half_lives(log: Log) -> float:
    """How many times as fast items age in the faster half of the categories (by truth)."""
    fast = log.truth.items.half_life_days < log.truth.config.half_life_days
    quick, slow = _ageing(log, fast), _ageing(log, ~fast)
    return float(quick / slow) if slow < 0 else np.inf


def topic_lift(log: Log) -> float:
    """How much more the category clicked last is clicked than others: within the session, over across.

    Corrected for the place. The user's lasting taste is in both, so what is left is the session's.
    """
    category = log.truth.items.category[log.item_ix]
    last, session = _last_click(log, category)
    same, known = category == last[:, None], (last >= 0)[:, None]
    now = (session == log.visits.session)[:, None]
    due = np.broadcast_to(log.clicks.mean(axis=0), category.shape)

    def rate(where: np.ndarray) -> float:
        return float(log.clicks[where].sum() / due[where].sum())

    if min(log.clicks[same & known & when].sum() for when in (now, ~now)) < SOME_CLICKS:
        return np.nan
    within, across = (rate(same & known & w) / rate(~same & known & w) for w in (now, ~now))
    return within / across


def price_consistency(log: Log) -> float:
    """Correlation of the price levels (log price over the category's median) of a user's clicks.

    Without the most clicked hundredth: everybody clicks each of those once, at whatever price.
    """
    _, user, _, _, level = _click_chain(log, _head(log))
    pair = user[1:] == user[:-1]
    if pair.sum() < SOME_CLICKS:
        return np.nan
    return float(np.corrcoef(level[1:][pair], level[:-1][pair])[0, 1])


def retention(log: Log) -> float:
    """Share of the first week's visitors who come in the last week too."""
    day = log.visits.at_us // DAY_US
    early = np.unique(log.visits.user_ix[day < day.min() + 7])
    late = np.unique(log.visits.user_ix[day > day.max() - 7])
    return float(np.isin(early, late).mean())


OWN = "own assumption: the effect is published, the range was set with the world"
PLAYBOOK = "usual range of published logs, taken over from the design; no data set checked here"

FACTS: dict[str, Fact] = {
    "click_rate": Fact(click_rate, 0.02, 0.08, PLAYBOOK),
    "slot_ratio": Fact(
        slot_ratio, 6, 15, "web search: the first place gets about ten times the tenth"
    ),
    "top_items_share": Fact(top_items_share, 0.2, 0.4, PLAYBOOK),
    "top_users_share": Fact(top_users_share, 0.4, 0.8, PLAYBOOK),
    "pages_per_session": Fact(pages_per_session, 3, 6, PLAYBOOK),
    "pages_off_geometric": Fact(pages_off_geometric, 0, 0.1, PLAYBOOK),
    "purchase_rate": Fact(purchase_rate, 0.02, 0.05, PLAYBOOK),
    "bought_within_hour": Fact(bought_within_hour, 0.28, 0.42, "Criteo: about 35 %"),
    "bought_within_day": Fact(bought_within_day, 0.42, 0.58, "Criteo: about 50 %"),
    "bought_after_week": Fact(bought_after_week, 0.1, 0.4, "Criteo: a tail to 30 days"),
    "day_over_night": Fact(day_over_night, 3, 20, PLAYBOOK),
    "weekly_cycle": Fact(weekly_cycle, 0.1, 0.2, PLAYBOOK),
    "repeat_decay": Fact(repeat_decay, 0.2, 0.8, OWN),
    "perfect_auc": Fact(perfect_auc, 0.75, 0.85, PLAYBOOK),
    "user_variance_share": Fact(user_variance_share, 0.2, 0.8, PLAYBOOK),
    "item_half_life_days": Fact(item_half_life_days, 7, 90, OWN),
    "category_half_lives": Fact(category_half_lives, 1.3, 20, OWN),
    "topic_lift": Fact(topic_lift, 1.1, 4, OWN),
    "price_consistency": Fact(price_consistency, 0.02, 0.8, OWN),
    "retention": Fact(retention, 0.2, 0.9, OWN),
}


def _columns(visits: Visits) -> list[np.ndarray]:
    return [getattr(visits, name) for name in Visits.__slots__]


def _first_pages(log: Log) -> np.ndarray:
    """(S,) bool: the first slate of each session that was seen."""
    sessions = _session_keys(log)
    first = np.zeros(len(sessions), bool)
    first[np.unique(sessions, return_index=True)[1]] = True
    return first


def _session_keys(log: Log) -> np.ndarray:
    return log.visits.session * len(log.truth.users.ids) + log.visits.user_ix


def _session_lengths(log: Log) -> np.ndarray:
    return np.unique(_session_keys(log), return_counts=True)[1]


def _bought_within(log: Log, seconds: float) -> float:
    delays = log.reaction.delay_s[log.reaction.purchase]
    return float((delays < seconds).mean())


def _exposures(log: Log) -> np.ndarray:
    """(S, K) how often the user was shown the item before."""
    pair = (log.visits.user_ix[:, None] * len(log.truth.items.ids) + log.item_ix).ravel()
    order = np.argsort(pair, kind="stable")
    ordered = pair[order]
    first = np.r_[True, ordered[1:] != ordered[:-1]]
    start = np.maximum.accumulate(np.where(first, np.arange(len(pair)), 0))
    nth = np.empty(len(pair), np.int64)
    nth[order] = np.arange(len(pair)) - start
    return nth.reshape(log.item_ix.shape)


def _ageing(log: Log, among: np.ndarray) -> float:
    """Slope per day of log attraction over age, within young items."""
    items = log.truth.items
    age = (log.visits.at_us[:, None] - items.launched_at[log.item_ix]) / DAY_US
    young = (age < YOUNG_DAYS) & (age >= 0) & among[log.item_ix] & (_exposures(log) == 0)
    item, age, value = log.item_ix[young], age[young], np.log(log.reaction.attraction[young])
    size = np.maximum(np.bincount(item, minlength=len(items.ids)), 1)
    age = age - (np.bincount(item, age, len(items.ids)) / size)[item]
    value = value - (np.bincount(item, value, len(items.ids)) / size)[item]
    return float((age * value).sum() / max((age**2).sum(), 1e-9))


def _last_click(log: Log, category: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(S,) category and session of the user's latest click on an earlier slate; -1 = none."""
    order = np.argsort(log.visits.user_ix, kind="stable")
    clicked = log.clicks[order].any(axis=1)
    rows = np.arange(len(order))
    latest = np.maximum.accumulate(np.where(clicked, rows, -1))
    before = np.r_[-1, latest[:-1]]
    who = log.visits.user_ix[order]
    known = (before >= 0) & (who[before] == who)
    place = log.clicks.shape[1] - 1 - np.argmax(log.clicks[:, ::-1], axis=1)  # the slate's last
    chosen = np.take_along_axis(category, place[:, None], axis=1)[:, 0]
    last, session = np.full(len(order), -1), np.full(len(order), -1)
    last[order] = np.where(known, chosen[order][before], -1)
    session[order] = np.where(known, log.visits.session[order][before], -1)
    return last, session


def _head(log: Log) -> np.ndarray:
    """(N,) bool: the most clicked hundredth of the catalogue."""
    clicks = np.bincount(log.item_ix[log.clicks], minlength=len(log.truth.items.ids))
    top = max(1, round(log.truth.config.items / 100))
    head = np.zeros(len(clicks), bool)
    head[np.argsort(-clicks, kind="stable")[:top]] = True
    return head


def _click_chain(log: Log, without: np.ndarray | None = None) -> tuple[np.ndarray, ...]:
    """Clicks by user and time, but on some items: slate, user, session, category, price level."""
    clicks = log.clicks if without is None else log.clicks & ~without[log.item_ix]
    slate, place = np.nonzero(clicks)
    slate, place = (
        part[np.argsort(log.visits.user_ix[slate], kind="stable")] for part in (slate, place)
    )
    items, item = log.truth.items, log.item_ix[slate, place]
    price = np.log(items.price)
    usual = np.array(
        [
            np.median(price[items.category == c]) if (items.category == c).any() else 0
            for c in range(items.category.max() + 1)
        ]
    )
    level = (price - usual[items.category])[item]
    return slate, log.visits.user_ix[slate], log.visits.session[slate], items.category[item], level
