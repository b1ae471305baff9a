"""E-13: what a late feature costs, by what it is a feature of.

Interview: Streaming is dear. Which features deserve it?
    Those whose truth changes while the user is still there: above all which items they have just
    had. A user's ninety days are the same tomorrow, so a nightly job will do. Measure it by serving
    old values to the same people: the curve over staleness is steep where minutes matter and flat
    where they do not. Measured, it was steep without any intent in the sessions too, and a day-old
    count cost next to nothing as long as the list of items was fresh.
    Trade-off: a model trained on fresh rows and served stale ones pays for the mismatch too; one
    trained on stale rows would lose less, and has less to lose.
    Shown by: tests/pipelines/experiments/test_e13.py::test_who_is_told_late_knows_only_what_is_old_enough
"""

from collections.abc import Mapping
from datetime import timedelta

from pipelines.experiments.card import Card, Claim, Direction, Measured, Setting, Tier
from pipelines.experiments.line import Line, Lived, lived, trained_line
from pipelines.experiments.staleness import items_of, late, users_of
from pipelines.experiments.world import FAMILIES

PRESET = "intent_shift"
"""Sessions are about something, and turn to something else on three pages of ten."""

DAYS = 2
"""That each shop serves."""

LATE = {
    "0s": timedelta(0),
    "10s": timedelta(seconds=10),
    "1min": timedelta(minutes=1),
    "10min": timedelta(minutes=10),
    "1h": timedelta(hours=1),
    "24h": timedelta(hours=24),
}
"""Before what users did is known: clicks, and what they were shown."""

WEEK, USER, ITEM = timedelta(days=7), "user_7d", "item_7d"
COUNTS = "24h_counts_only"
LINES = ("what users do", "users' rows, a week older", "items' rows, a week older")

CARD = Card(
    number="E-13",
    title="Freshness has a price curve",
    question="Which features must be seconds fresh, and which may be a day old?",
    sentence=(
        "What a user does now is worth being told within minutes where sessions have an intent, and "
        "much less where they have none; a week-old aggregate of a user costs next to nothing."
    ),
    varied=(
        f"by how much what users do is told late ({', '.join(LATE)}), or by a day only what is counted of "
        "it, while the list of what was taken, which retrieval and the seen filter read, is fresh; rows "
        f"of users, and of items, a week older than last night's; sessions with intent (preset {PRESET}) "
        "and the same world without. Items' rows fresher than nightly are not varied: here the platform "
        "works at night"
    ),
    measured=(
        "share lost of the expected clicks per slate by the truth, against everything fresh, on the same "
        f"{DAYS} days; the ranker is the same and learned from fresh rows"
    ),
    claims=(
        Claim(
            "lost_24h",
            "told a day late, what users do is worth clicks that are lost",
            Direction.more,
            0.03,
            (0.03, 0.25),
            "Pinterest: real-time actions +6 % repins, +11 % for non-core users; Airbnb: in-session "
            "embeddings +21 %",
        ),
        Claim(
            "lost_24h_by_intent",
            "less is lost where sessions have no intent",
            Direction.more,
            0.02,
            (0.02, 0.25),
            "reasoned: without intent a session says about a user what the history says",
        ),
        Claim(
            "hour_minus_user_week",
            "an hour's delay of events costs more than a week's delay of users' aggregates",
            Direction.more,
            0.01,
            (0.01, 0.20),
            "reasoned: thirty and ninety days change little in seven",
        ),
    ),
    observed="counted_lost_24h",
    true="lost_24h",
    change_our_mind=(
        "a model trained on stale rows that serves as well as the fresh one; or sessions that turn within "
        "pages in which a nightly job is as good"
    ),
    tier=Tier.L,
    families=FAMILIES,
    scale="small",
)


def measure(setting: Setting, seed: int) -> Measured:
    """Every staleness in a world with intent; fresh and a day late in the same world without."""
    with trained_line(setting, seed, preset=PRESET) as line:
        found = served(line, LATE, older=True)
    with trained_line(setting, seed, preset=PRESET, switched_off=("intent",)) as line:
        flat = served(line, {name: LATE[name] for name in ("0s", "24h")}, older=False)
    return graded(found, flat)


def served(line: Line, delays: Mapping[str, timedelta], *, older: bool) -> dict[str, Lived]:
    """The same days by shops that are told late and, where asked for, by shops with older rows."""
    trained = line.fit(line.teaching())
    shops = {name: late(line, trained, by) for name, by in delays.items()}
    if older:
        shops[COUNTS] = late(line, trained, LATE["24h"], counts_only=True)
        shops |= {USER: users_of(line, trained, WEEK), ITEM: items_of(line, trained, WEEK)}
    return {name: lived(line, shop, DAYS) for name, shop in shops.items()}


def graded(found: Mapping[str, Lived], flat: Mapping[str, Lived]) -> Measured:
    """Shares lost against what is fresh; `flat` is of the world without intent."""
    fresh = found["0s"]
    lost = {name: 1 - one.expected / fresh.expected for name, one in found.items()}
    lost_flat = 1 - flat["24h"].expected / flat["0s"].expected
    values = {
        **{f"clicks_{name}": one.expected for name, one in found.items()},
        **{f"lost_{name}": share for name, share in lost.items() if name != "0s"},
        "counted_lost_24h": 1 - found["24h"].clicked / fresh.clicked,
        "clicks_0s_no_intent": flat["0s"].expected,
        "lost_24h_no_intent": lost_flat,
        "lost_24h_by_intent": lost["24h"] - lost_flat,
        "hour_minus_user_week": lost["1h"] - lost[USER],
    }
    level = [[lost[name] for name in LATE], *([lost[row]] * len(LATE) for row in (USER, ITEM))]
    return Measured(values, curves=dict(zip(LINES, level, strict=True)))
