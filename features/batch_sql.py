"""The batch views as SQL, one text for Spark and DuckDB.

Every window is a whole number of slots (UTC days, or hours for `item_hourly`) that ends at the moment
of the row, so events are summed per (entity, slot) once and the sums are joined to the moments, not
the events: ten as-of days over 90 days cost one pass over the events and a join of rows that are
fewer by far.

    events -> facts -> per entity and slot -> join on slot in [moment - window, moment) -> row of the moment

Glossary: `moment` and `slot` are days, or hours, since 1970; `at_us` is µs since 1970; an *act* is any event
except an impression, which is ours and not the user's; *known* is the first moment an entity existed.
`unix_micros` and `unix_date` are Spark's names; `features.batch` teaches them to DuckDB. Fractions
are written 7e0, because Spark reads 7.0 as a decimal and rounds the quotient to six digits.
"""

from collections.abc import Mapping, Sequence
from datetime import date, timedelta

from features.definitions import (
    BATCH_WINDOW_DAYS,
    BY_NAME,
    DAY,
    HOUR,
    NEVER_DAYS,
    PRIOR_CLICKS,
    PRIOR_EXPECTED,
    PRIOR_IMPRESSIONS,
    SESSION_GAP,
    VIEWS,
    Feature,
    stored_of,
)
from features.position_curve import MAX_POSITION, MONDAY, UNKNOWN_POSITION

DAY_US, HOUR_US = int(DAY.total_seconds() * 1e6), int(HOUR.total_seconds() * 1e6)
SESSION_GAP_US = int(SESSION_GAP.total_seconds() * 1e6)
SHARES = "DECIMAL(38, 15)"
"""Type in which numbers of at most 1 are summed, so that their order does not matter."""

HOURS_BACK = 25
"""One hour more than the longest window of `item_hourly`: when the last event leaves it, a row of zeros
says so; after that the item has no row, and the defaults, which are the same."""


def _total(column: str) -> str:
    """Sum of a per-slot column over the feature's own window."""
    return f"sum(CASE WHEN w.slot >= w.moment - {{window}} THEN w.{column} ELSE 0 END)"


def _rate(part: str, of: str) -> str:
    """Never above 1: without impressions there is nothing to divide by, and the prior stands."""
    part, of = _total(part), _total(of)
    return f"(least({part}, {of}) + {PRIOR_CLICKS}e0) / ({of} + {PRIOR_IMPRESSIONS}e0)"


COEC = (
    f"({_total('slate_clicks')} + {PRIOR_EXPECTED}e0) / ({_total('expected')} + {PRIOR_EXPECTED}e0)"
)

IDLE_DAYS = f"(w.moment * {DAY_US} - max(w.last_positive)) / {DAY_US}e0"


def _in_last(slots: int, column: str) -> str:
    return _total(column).format(window=slots)


AGGREGATES: Mapping[str, str] = {
    "purchases_30d": _total("purchases"),
    "positives_7d": _total("positives"),
    "positives_30d": _total("positives"),
    "active_days_30d": _total("active"),
    "user_click_rate_30d": _rate("clicks", "impressions"),
    "user_coec_30d": COEC,
    "price_mean_90d": f"CAST({_total('money')} AS DOUBLE) / nullif({_total('priced')}, 0)",
    "price_quantile_90d": f"CAST({_total('levels')} AS DOUBLE) / nullif({_total('levelled')}, 0)",
    "user_idle_days": IDLE_DAYS,
    "item_rating_90d": f"CAST({_total('stars')} AS DOUBLE) / nullif({_total('ratings')}, 0)",
    "item_ratings_90d": _total("ratings"),
    "item_positives_7d": _total("positives"),
    "item_positives_30d": _total("positives"),
    "item_purchases_30d": _total("purchases"),
    "item_click_rate_30d": _rate("clicks", "impressions"),
    "item_coec_30d": COEC,
    "item_purchase_rate_30d": _rate("purchases", "clicks"),
    "item_trend_7d": f"({_in_last(7, 'positives')} / 7e0 + 1) / ({_total('positives')} / 30e0 + 1)",
    "item_trend_7d_v2": f"({_in_last(7, 'positives')} + 1e0)"
    f" / ({_total('positives')} * 7e0 / 30e0 + 1e0)",
    "item_idle_days": IDLE_DAYS,
    "item_positives_1h": _total("positives"),
    "item_positives_24h": _total("positives"),
    "item_coec_24h": COEC,
    "item_surge_1h": f"({_in_last(1, 'positives')} + 1e0) / ({_total('positives')} / 24e0 + 1e0)",
    "category_positives_30d": _total("positives"),
    "category_positives_90d": _total("positives"),
    "category_coec_30d": COEC,
    "category_idle_days": IDLE_DAYS,
}
"""Column -> aggregate over one entity's slots inside the window, per moment."""

DERIVED: Mapping[str, str] = {
    "account_age_days": f"(k.moment * {DAY_US} - k.known) / {DAY_US}e0",
    "purchase_frequency_90d": "a.purchases_90d * 7e0 / "
    f"least({BATCH_WINDOW_DAYS}e0, greatest(7e0, (k.moment * {DAY_US} - k.known) / {DAY_US}e0))",
    "sessions_30d": "s.sessions",
    "session_minutes_mean_30d": "s.minutes",
    "categories_90d": "c.categories",
    "item_price": "k.price",
    "item_price_quantile": "k.price_quantile",
    "item_age_days": f"(k.moment * {DAY_US} - k.known) / {DAY_US}e0",
    "item_users_30d": "u.users_30d",
    "item_repeat_share_90d": "u.again_90d * 1e0 / u.users_90d",
    "category_share_90d": "a.category_positives_90d * 1e0 / t.positives",
}
"""Column -> expression over the joined parts: `k` known, `a` aggregates, others by their view."""


def _week(day: str) -> str:
    """Number of the week of a day since 1970, as `features.position_curve.week_of` counts."""
    return f"CAST(floor(({day} + {MONDAY}) / 7e0) AS BIGINT)"


LEVELS = f"""
SELECT w.moment AS week, i.item_id,
       (rank() OVER (PARTITION BY w.moment, i.category ORDER BY i.price) - 1
          + count(*) OVER (PARTITION BY w.moment, i.category, i.price) * 5e-1)
       / count(*) OVER (PARTITION BY w.moment, i.category) AS price_quantile
FROM items i JOIN weeks w
     ON coalesce(unix_micros(i.created_at), 0) < (7 * w.moment - {MONDAY}) * {DAY_US}
WHERE i.price IS NOT NULL"""
"""Each price's place within its category, among the items that were there when the week began: a place
among later ones would know the future, and move. Equal prices share the middle of theirs."""


def facts(positive_types: Sequence[str], from_day: int) -> str:
    """One row per event since `from_day` with its category, price, kind and expected clicks.

    Reads `events`, `items`, `levels` and `curves`.
    """
    positive = ", ".join(f"'{name}'" for name in positive_types)
    return f"""
SELECT e.user_id, e.item_id, e.event_id, e.session_id, e.value, i.category, i.price, l.price_quantile,
       unix_date(e.event_date) AS day, unix_micros(e.event_at) AS at_us, e.event_type,
       CASE WHEN e.event_type IN ({positive}) THEN 1 ELSE 0 END AS positive,
       CASE WHEN e.event_type = 'impression' THEN 0 ELSE 1 END AS act,
       CASE WHEN e.event_type = 'click' AND e.request_id IS NOT NULL THEN 1 ELSE 0 END AS slate_click,
       CAST(coalesce(c.rate, 0e0) AS {SHARES}) AS expected
FROM events e LEFT JOIN items i ON e.item_id = i.item_id
     LEFT JOIN levels l ON e.item_id = l.item_id AND l.week = {_week("unix_date(e.event_date)")}
     LEFT JOIN curves c ON e.event_type = 'impression'
          AND c.week = {_week("unix_date(e.event_date)")}
          AND c.position = least(coalesce(e.position, {UNKNOWN_POSITION}), {MAX_POSITION})
WHERE e.event_date >= {_date(from_day)}"""


def known(table: str, entity: str) -> str:
    """When each entity was first known: its created_at or its first event, the earlier one.

    The only part that looks at the whole past, and at two columns of it.
    """
    of_item = "t.price," if entity == "item_id" else ""
    return f"""
SELECT coalesce(t.{entity}, f.{entity}) AS {entity}, {of_item}
       least(unix_micros(t.created_at), f.first_at) AS known
FROM {table} t FULL OUTER JOIN
     (SELECT {entity}, unix_micros(min(event_at)) AS first_at FROM events GROUP BY {entity}) f
     ON t.{entity} = f.{entity}
WHERE t.created_at IS NOT NULL OR f.first_at IS NOT NULL"""


SESSIONS = f"""
SELECT user_id, concat('id:', session_id) AS session, day, at_us FROM facts
WHERE act = 1 AND session_id IS NOT NULL
UNION ALL
SELECT user_id, concat('gap:', CAST(sum(opens) OVER
         (PARTITION BY user_id ORDER BY at_us, event_id ROWS UNBOUNDED PRECEDING) AS STRING)),
       day, at_us
FROM (SELECT user_id, day, at_us, event_id,
             CASE WHEN at_us - lag(at_us) OVER (PARTITION BY user_id ORDER BY at_us, event_id)
                       <= {SESSION_GAP_US} THEN 0 ELSE 1 END AS opens
      FROM facts WHERE act = 1 AND session_id IS NULL) g"""
"""Acts with the session each belongs to: the one they name, else a run without a long gap."""


def user_daily() -> str:
    """A row for every user known before the day."""
    purchases = _in_last(BATCH_WINDOW_DAYS, "purchases")
    return f"""
WITH by_slot AS ({_by_slot("user_id")}),
a AS ({_windowed("user_daily", "user_id", BATCH_WINDOW_DAYS, f"{purchases} AS purchases_90d")}),
by_session AS (SELECT user_id, session, day AS slot, min(at_us) AS first_at, max(at_us) AS last_at
               FROM sessions GROUP BY user_id, session, day),
s AS (SELECT user_id, moment, count(*) AS sessions, avg(last_at - first_at) / 6e7 AS minutes
      FROM (SELECT w.user_id, w.session, m.moment,
                   min(w.first_at) AS first_at, max(w.last_at) AS last_at
            FROM by_session w JOIN days m ON {_inside("sessions_30d")}
            GROUP BY w.user_id, w.session, m.moment) x
      GROUP BY user_id, moment),
by_category AS (SELECT DISTINCT user_id, category, day AS slot FROM facts
                WHERE positive = 1 AND category IS NOT NULL),
c AS (SELECT w.user_id, m.moment, count(DISTINCT w.category) AS categories
      FROM by_category w JOIN days m ON {_inside("categories_90d")} GROUP BY w.user_id, m.moment),
k AS (SELECT u.user_id, u.known, m.moment FROM known_users u JOIN days m ON u.known < m.moment * {DAY_US})
SELECT k.user_id, k.moment, {_columns("user_daily")}
FROM k LEFT JOIN a ON a.user_id = k.user_id AND a.moment = k.moment
       LEFT JOIN s ON s.user_id = k.user_id AND s.moment = k.moment
       LEFT JOIN c ON c.user_id = k.user_id AND c.moment = k.moment"""


def item_daily() -> str:
    """A row for every item known before the day."""
    return f"""
WITH by_slot AS ({_by_slot("item_id")}),
a AS ({_windowed("item_daily", "item_id", BATCH_WINDOW_DAYS)}),
by_user AS (SELECT item_id, user_id, day AS slot, count(*) AS positives FROM facts
            WHERE positive = 1 GROUP BY item_id, user_id, day),
u AS (SELECT item_id, moment, sum(lately) AS users_30d, count(*) AS users_90d,
             sum(CASE WHEN positives >= 2 THEN 1 ELSE 0 END) AS again_90d
      FROM (SELECT w.item_id, w.user_id, m.moment, sum(w.positives) AS positives,
                   max(CASE WHEN {_inside("item_users_30d")} THEN 1 ELSE 0 END) AS lately
            FROM by_user w JOIN days m ON {_inside("item_repeat_share_90d")}
            GROUP BY w.item_id, w.user_id, m.moment) x
      GROUP BY item_id, moment),
k AS (SELECT i.item_id, i.price, l.price_quantile, i.known, m.moment
      FROM known_items i JOIN days m ON i.known < m.moment * {DAY_US}
           LEFT JOIN levels l ON l.item_id = i.item_id AND l.week = {_week("m.moment")})
SELECT k.item_id, k.moment, {_columns("item_daily")}
FROM k LEFT JOIN a ON a.item_id = k.item_id AND a.moment = k.moment
       LEFT JOIN u ON u.item_id = k.item_id AND u.moment = k.moment"""


def item_hourly() -> str:
    """A row for every item with an event in the last HOURS_BACK hours."""
    hour = f"CAST(floor(at_us / {HOUR_US}e0) AS BIGINT)"
    return f"""
WITH by_slot AS ({_by_slot("item_id", hour)}),
a AS ({_windowed("item_hourly", "item_id", HOURS_BACK)})
SELECT a.item_id, a.moment, {_columns("item_hourly")} FROM a"""


def user_category_daily() -> str:
    """A row for every category in which a user had a positive inside the window."""
    return f"""
WITH by_slot AS (SELECT user_id, category, day AS slot, sum(positive) AS positives,
                        sum(slate_click) AS slate_clicks, sum(expected) AS expected,
                        max(CASE WHEN positive = 1 THEN at_us END) AS last_positive
                 FROM facts GROUP BY user_id, category, day),
a AS (SELECT w.user_id, w.category, w.moment, {_aggregates("user_category_daily")}
      FROM (SELECT b.*, m.moment FROM by_slot b JOIN days m ON {_inside("category_share_90d", "b")}) w
      WHERE w.category IS NOT NULL GROUP BY w.user_id, w.category, w.moment HAVING sum(w.positives) > 0),
t AS (SELECT w.user_id, m.moment, sum(w.positives) AS positives
      FROM by_slot w JOIN days m ON {_inside("category_share_90d")} GROUP BY w.user_id, m.moment)
SELECT a.user_id, a.category, a.moment, {_columns("user_category_daily")}
FROM a JOIN t ON t.user_id = a.user_id AND t.moment = a.moment"""


def _by_slot(entity: str, slot: str = "day") -> str:
    price, value = (f"CAST(least({name}, 1e20) AS DECIMAL(38, 6))" for name in ("price", "value"))
    level = f"CAST(price_quantile AS {SHARES})"
    # As decimals, cut to what fits: a sum of floating numbers depends on their order, that is on
    # the threads, in its last digit.
    return f"""
SELECT {entity}, {slot} AS slot, sum(positive) AS positives, max(act) AS active,
       sum(CASE WHEN event_type = 'purchase' THEN 1 ELSE 0 END) AS purchases,
       sum(CASE WHEN event_type = 'click' THEN 1 ELSE 0 END) AS clicks,
       sum(CASE WHEN event_type = 'impression' THEN 1 ELSE 0 END) AS impressions,
       sum(slate_click) AS slate_clicks, sum(expected) AS expected,
       sum(CASE WHEN positive = 1 AND price IS NOT NULL THEN 1 ELSE 0 END) AS priced,
       sum(CASE WHEN positive = 1 AND price IS NOT NULL THEN {price} ELSE 0 END) AS money,
       sum(CASE WHEN positive = 1 AND price_quantile IS NOT NULL THEN 1 ELSE 0 END) AS levelled,
       sum(CASE WHEN positive = 1 AND price_quantile IS NOT NULL THEN {level} ELSE 0 END) AS levels,
       sum(CASE WHEN event_type = 'rating' AND value IS NOT NULL THEN 1 ELSE 0 END) AS ratings,
       sum(CASE WHEN event_type = 'rating' AND value IS NOT NULL THEN {value} ELSE 0 END) AS stars,
       max(CASE WHEN positive = 1 THEN at_us END) AS last_positive
FROM facts GROUP BY {entity}, {slot}"""


def _windowed(view: str, entity: str, slots: int, extra: str | None = None) -> str:
    moments = "hours" if VIEWS[view].every == HOUR else "days"
    columns = ", ".join(filter(None, [_aggregates(view), extra]))
    return f"""
SELECT w.{entity}, w.moment, {columns}
FROM (SELECT b.*, m.moment FROM by_slot b
      JOIN {moments} m ON b.slot < m.moment AND b.slot >= m.moment - {slots}) w
GROUP BY w.{entity}, w.moment"""


def _aggregates(view: str) -> str:
    """`<expression> AS <column>` for each column of the view that is an aggregate."""
    return ", ".join(
        f"{AGGREGATES[f.column].format(window=slots_of(f))} AS {f.column}"
        for f in stored_of(view)
        if f.column in AGGREGATES
    )


def slots_of(feature: Feature) -> int:
    """The feature's window in rows of its view; 0 where it has none."""
    return 0 if feature.window is None else feature.window // VIEWS[feature.view].every


def _columns(view: str) -> str:
    """The view's columns in table order, with the type and the default of the definition."""
    return ", ".join(
        f"CAST(coalesce({DERIVED.get(f.column, f'a.{f.column}')}, {f.default}e0) AS "
        f"{'BIGINT' if f.dtype == 'int' else 'DOUBLE'}) AS {f.column}"
        for f in stored_of(view)
    )


def _inside(feature: str, table: str = "w") -> str:
    """The slot lies inside the feature's window before the moment, itself not part of it."""
    return f"{table}.slot < m.moment AND {table}.slot >= m.moment - {slots_of(BY_NAME[feature])}"


def _date(day: int) -> str:
    return f"DATE '{date(1970, 1, 1) + timedelta(days=day)}'"


assert float(BATCH_WINDOW_DAYS) == NEVER_DAYS, "an idle time is looked for as far back as it counts"
