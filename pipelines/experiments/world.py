"""Opens the world for experiments that need a log alone: names in, logs with their truth out."""

from collections.abc import Callable
from typing import Any

import numpy as np

from pipelines.experiments.card import Setting
from pipelines.experiments.log import Catalogue, Log, Logged
from pipelines.world.config import FAMILIES as WORLD_FAMILIES
from pipelines.world.config import configure
from pipelines.world.draws import uniform
from pipelines.world.facts import FACTS
from pipelines.world.generate import WORLD_END
from pipelines.world.history import LoggedDay, log_past
from pipelines.world.logs import simulated, wide
from pipelines.world.play import Played, play_day
from pipelines.world.population import DAY_US, DEVICES, KINDS, populate
from pipelines.world.state import begin_day, fresh_state
from pipelines.world.truth import State, Truth

FAMILIES = WORLD_FAMILIES
"""Three click models and shapes of utility; a headline claim is graded in each."""

KNOBS = {
    "trust_mean": (0.1, 0.9),
    "explored": (0.05, 0.8),
    "generosity_sigma": (0.3, 1.2),
    "satiation": (0.1, 1.0),
}
"""Parameters of the world that E-47b moves, and where to."""

RANGES = {name: (fact.low, fact.high, fact.source) for name, fact in FACTS.items()}
"""Stylised facts: lowest and highest published value, and who says so."""

CUT = (0.5, 0.8)
"""Shares of the days: up to the first the past, up to the second the recent rows, then the test."""

JUDGED_DAYS, JUDGED_CUT = 10, (0.2, 0.3)
"""For experiments that train nothing: three days warm the world up, seven judge."""


def facts(setting: Setting, seed: int) -> tuple[dict[str, float], np.ndarray, np.ndarray]:
    """Every stylised fact of one world; (K,) clicks and (K,) true looks per slate by place.

    On logs as wide as those of `shortlist world check`, so that the ranges decide and not the coin.
    """
    log = simulated(wide(setting.scale, seed, setting.family))
    found = {name: fact.measure(log) for name, fact in FACTS.items()}
    return found, log.clicks.mean(axis=0), log.reaction.examination.mean(axis=0)


def logged(
    setting: Setting, seed: int, *, cut: tuple[float, float] = CUT, **changes: Any
) -> Logged:
    """Make a world, let its logging platform run, and cut the log in time.

    Test slates are shown twice: as logged, and to the same visitors in the same mood and with the
    same luck in random order; a twin's memory starts each day where the log's did.

    Args:
        setting: family and scale.
        seed: of the world.
        cut: of the days, as shares.
        changes: parameters of the world other than its base, such as slots.
    """
    config = configure(setting.scale, seed, setting.family, **changes)
    truth = populate(config, WORLD_END)
    state = fresh_state(truth)
    past = log_past(truth, state)
    counted, trained = (round(share * config.days) for share in cut)
    days: list[LoggedDay] = []
    twins: list[tuple[np.ndarray, Played]] = []
    for number in range(config.days):
        morning = state.copy()
        days.append(next(past))
        if number >= trained:
            twins.append(_twin(truth, morning, days[-1]))
    played, by_policy = [day.played for day in days], [~day.randomised for day in days]

    def part(first: int, last: int) -> Log:
        return _log(played[first:last], by_policy[first:last])

    return Logged(
        catalogue=_catalogue(truth),
        users=len(truth.users.ids),
        past=part(0, counted),
        recent=part(counted, trained),
        test=part(trained, config.days),
        randomised=_log(played[:trained], [day.randomised for day in days[:trained]]),
        shuffled=_log(
            [twin for _, twin in twins], [np.ones(len(shuffle), bool) for shuffle, _ in twins]
        ),
        shuffle=np.concatenate([shuffle for shuffle, _ in twins]),
    )


def judging(setting: Setting, seed: int, **changes: Any) -> Logged:
    """A shorter log, nearly all of it for judging: for what needs no training."""
    return logged(setting, seed, cut=JUDGED_CUT, days=JUDGED_DAYS, **changes)


def _twin(truth: Truth, morning: State, day: LoggedDay) -> tuple[np.ndarray, Played]:
    """The slates that the policy wrote and somebody saw, in random order; and that order."""
    seen = ~day.randomised & ~day.played.reaction.left
    visits = day.played.visits.take(np.flatnonzero(seen))
    item_ix = day.played.item_ix[seen]
    places = np.arange(item_ix.shape[1])[None, :]
    shuffle = np.argsort(uniform(visits.luck[:, None], "shuffle", places), axis=1)
    begin_day(truth, morning, int(visits.at_us[0] // DAY_US))
    shown = np.take_along_axis(item_ix, shuffle, axis=1)
    return shuffle, play_day(truth, morning, visits, shown.__getitem__)


def _log(played: list[Played], which: list[np.ndarray]) -> Log:
    """Chosen slates of some days as one log; those that nobody waited for are none."""
    days = list(zip(played, which, strict=True))

    def column(read: Callable[[Played], np.ndarray]) -> np.ndarray:
        return np.concatenate([read(day)[rows & ~day.reaction.left] for day, rows in days])

    return Log(
        user_ix=column(lambda day: day.visits.user_ix),
        device=column(lambda day: np.searchsorted(np.sort(DEVICES), day.visits.device)),
        item_ix=column(lambda day: day.item_ix),
        click=column(lambda day: day.reaction.click),
        attraction=column(lambda day: day.reaction.attraction),
        examination=column(lambda day: day.reaction.examination),
        chance=column(lambda day: day.reaction.utility),
    )


def _catalogue(truth: Truth) -> Catalogue:
    items = truth.items
    return Catalogue(items.category, items.category * KINDS + items.told_kind, items.price)
