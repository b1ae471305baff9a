"""The batch views as SQL, one text for Spark and DuckDB.

Every window is a whole number of UTC days that ends at 00:00 of the as-of day, so events are summed
per (entity, date) once and the sums are joined to the as-of days, not the events: ten as-of days
over 90 days cost one pass over the events and a join of rows that are fewer by far.

    events -> facts -> per entity and date -> join days on date in [day - window, day) -> row of day

Glossary: `day`, `date` are days since 1970; `at_us` is µs since 1970; an *act* is any event except
an impression, which is ours and not the user's; *known* is the first moment an entity existed.
`unix_micros` and `unix_date` are Spark's names; `features.batch` teaches them to DuckDB. Fractions
are written 7e0, because Spark reads 7.0 as a decimal and rounds the quotient to six digits.
"""

from collections.abc import Mapping, Sequence

from features.definitions import (
    BATCH_WINDOW_DAYS,
    BY_NAME,
    NEVER_DAYS,
    PRIOR_CLICKS,
    PRIOR_IMPRESSIONS,
    SESSION_GAP,
    VIEWS,
    of_view,
)

DAY_US = 86_400_000_000
SESSION_GAP_US = int(SESSION_GAP.total_seconds() * 1e6)

BATCH_VIEWS = tuple(view.name for view in VIEWS.values() if view.source == "batch")


def _total(column: str) -> str:
    """Sum of a per-date column over the feature's own window."""
    return f"sum(CASE WHEN w.date >= w.day - {{window}} THEN w.{column} ELSE 0 END)"


def _click_rate() -> str:
    """Never above 1: without impressions there is nothing to divide by, and the prior stands."""
    clicks, shown = _total("clicks"), _total("impressions")
    return f"(least({clicks}, {shown}) + {PRIOR_CLICKS}e0) / ({shown} + {PRIOR_IMPRESSIONS}e0)"


IDLE_DAYS = f"(w.day * {DAY_US} - max(w.last_positive)) / {DAY_US}e0"

AGGREGATES: Mapping[str, str] = {
    "purchases_30d": _total("purchases"),
    "positives_7d": _total("positives"),
    "positives_30d": _total("positives"),
    "active_days_30d": _total("active"),
    "user_click_rate_30d": _click_rate(),
    "price_mean_90d": f"CAST({_total('money')} AS DOUBLE) / nullif({_total('priced')}, 0)",
    "user_idle_days": IDLE_DAYS,
    "item_rating_90d": f"CAST({_total('stars')} AS DOUBLE) / nullif({_total('ratings')}, 0)",
    "item_ratings_90d": _total("ratings"),
    "item_positives_1d": _total("positives"),
    "item_positives_7d": _total("positives"),
    "item_positives_30d": _total("positives"),
    "item_purchases_30d": _total("purchases"),
    "item_click_rate_30d": _click_rate(),
    "item_trend_7d": "(sum(CASE WHEN w.date >= w.day - 7 THEN w.positives ELSE 0 END) / 7e0 + 1)"
    f" / ({_total('positives')} / {{window}}e0 + 1)",
    "item_idle_days": IDLE_DAYS,
    "category_positives_30d": _total("positives"),
    "category_positives_90d": _total("positives"),
    "category_idle_days": IDLE_DAYS,
}
"""Feature -> aggregate over one entity's dates inside the window, per as-of day."""

DERIVED: Mapping[str, str] = {
    "account_age_days": f"(k.day * {DAY_US} - k.known) / {DAY_US}e0",
    "purchase_frequency_90d": "a.purchases_90d * 7e0 / "
    f"least({BATCH_WINDOW_DAYS}e0, greatest(7e0, (k.day * {DAY_US} - k.known) / {DAY_US}e0))",
    "sessions_30d": "s.sessions",
    "session_minutes_mean_30d": "s.minutes",
    "categories_90d": "c.categories",
    "item_price": "k.price",
    "item_age_days": f"(k.day * {DAY_US} - k.known) / {DAY_US}e0",
    "item_users_30d": "u.users",
    "category_share_90d": "a.category_positives_90d * 1e0 / t.positives",
}
"""Feature -> expression over the joined parts: `k` known, `a` aggregates, others by their view."""


def facts(positive_types: Sequence[str]) -> str:
    """One row per event with its category, price and kind; reads `events` and `items`."""
    positive = ", ".join(f"'{name}'" for name in positive_types)
    return f"""
SELECT e.user_id, e.item_id, e.event_id, e.session_id, e.value, i.category, i.price,
       unix_date(e.event_date) AS date, unix_micros(e.event_at) AS at_us, e.event_type,
       CASE WHEN e.event_type IN ({positive}) THEN 1 ELSE 0 END AS positive,
       CASE WHEN e.event_type = 'impression' THEN 0 ELSE 1 END AS act
FROM events e LEFT JOIN items i ON e.item_id = i.item_id"""


def known(table: str, entity: str) -> str:
    """When each entity was first known: its created_at or its first event, the earlier one."""
    return f"""
SELECT coalesce(t.{entity}, f.{entity}) AS {entity}, {"t.price," if entity == "item_id" else ""}
       least(unix_micros(t.created_at), f.first_at) AS known
FROM {table} t FULL OUTER JOIN
     (SELECT {entity}, min(at_us) AS first_at FROM facts GROUP BY {entity}) f
     ON t.{entity} = f.{entity}
WHERE t.created_at IS NOT NULL OR f.first_at IS NOT NULL"""


SESSIONS = f"""
SELECT user_id, concat('id:', session_id) AS session, date, at_us FROM facts
WHERE act = 1 AND session_id IS NOT NULL
UNION ALL
SELECT user_id, concat('gap:', CAST(sum(opens) OVER
         (PARTITION BY user_id ORDER BY at_us, event_id ROWS UNBOUNDED PRECEDING) AS STRING)),
       date, at_us
FROM (SELECT user_id, date, at_us, event_id,
             CASE WHEN at_us - lag(at_us) OVER (PARTITION BY user_id ORDER BY at_us, event_id)
                       <= {SESSION_GAP_US} THEN 0 ELSE 1 END AS opens
      FROM facts WHERE act = 1 AND session_id IS NULL) g"""
"""Acts with the session each belongs to: the one they name, else a run without a long gap."""


def user_daily() -> str:
    """A row for every user known before the day."""
    purchases = _total("purchases").format(window=BATCH_WINDOW_DAYS)
    return f"""
WITH by_date AS ({_by_date("user_id")}),
a AS ({_windowed("user_daily", "user_id", f"{purchases} AS purchases_90d")}),
by_session AS (SELECT user_id, session, date, min(at_us) AS first_at, max(at_us) AS last_at
               FROM sessions GROUP BY user_id, session, date),
s AS (SELECT user_id, day, count(*) AS sessions, avg(last_at - first_at) / 6e7 AS minutes
      FROM (SELECT w.user_id, w.session, d.day,
                   min(w.first_at) AS first_at, max(w.last_at) AS last_at
            FROM by_session w JOIN days d ON {_inside("sessions_30d")}
            GROUP BY w.user_id, w.session, d.day) x
      GROUP BY user_id, day),
by_category AS (SELECT DISTINCT user_id, category, date FROM facts
                WHERE positive = 1 AND category IS NOT NULL),
c AS (SELECT w.user_id, d.day, count(DISTINCT w.category) AS categories
      FROM by_category w JOIN days d ON {_inside("categories_90d")} GROUP BY w.user_id, d.day),
k AS (SELECT u.user_id, u.known, d.day FROM known_users u JOIN days d ON u.known < d.day * {DAY_US})
SELECT k.user_id, k.day, {_columns("user_daily")}
FROM k LEFT JOIN a ON a.user_id = k.user_id AND a.day = k.day
       LEFT JOIN s ON s.user_id = k.user_id AND s.day = k.day
       LEFT JOIN c ON c.user_id = k.user_id AND c.day = k.day"""


def item_daily() -> str:
    """A row for every item known before the day."""
    return f"""
WITH by_date AS ({_by_date("item_id")}),
a AS ({_windowed("item_daily", "item_id")}),
by_user AS (SELECT DISTINCT item_id, user_id, date FROM facts WHERE positive = 1),
u AS (SELECT w.item_id, d.day, count(DISTINCT w.user_id) AS users
      FROM by_user w JOIN days d ON {_inside("item_users_30d")} GROUP BY w.item_id, d.day),
k AS (SELECT i.item_id, i.price, i.known, d.day
      FROM known_items i JOIN days d ON i.known < d.day * {DAY_US})
SELECT k.item_id, k.day, {_columns("item_daily")}
FROM k LEFT JOIN a ON a.item_id = k.item_id AND a.day = k.day
       LEFT JOIN u ON u.item_id = k.item_id AND u.day = k.day"""


def user_category_daily() -> str:
    """A row for every category in which a user had a positive inside the window."""
    return f"""
WITH by_date AS (SELECT user_id, category, date,
                        sum(positive) AS positives, max(at_us) AS last_positive
                 FROM facts WHERE positive = 1 GROUP BY user_id, category, date),
a AS (SELECT w.user_id, w.category, w.day, {_aggregates("user_category_daily")}
      FROM (SELECT b.*, d.day FROM by_date b JOIN days d ON {_inside("category_share_90d", "b")}) w
      WHERE w.category IS NOT NULL GROUP BY w.user_id, w.category, w.day),
t AS (SELECT w.user_id, d.day, sum(w.positives) AS positives
      FROM by_date w JOIN days d ON {_inside("category_share_90d")} GROUP BY w.user_id, d.day)
SELECT a.user_id, a.category, a.day, {_columns("user_category_daily")}
FROM a JOIN t ON t.user_id = a.user_id AND t.day = a.day"""


def _by_date(entity: str) -> str:
    price, value = (f"CAST(least({name}, 1e20) AS DECIMAL(38, 6))" for name in ("price", "value"))
    # As decimals, cut to what fits: a sum of floating numbers depends on their order, that is on
    # the threads, in its last digit.
    return f"""
SELECT {entity}, date, sum(positive) AS positives, max(act) AS active,
       sum(CASE WHEN event_type = 'purchase' THEN 1 ELSE 0 END) AS purchases,
       sum(CASE WHEN event_type = 'click' THEN 1 ELSE 0 END) AS clicks,
       sum(CASE WHEN event_type = 'impression' THEN 1 ELSE 0 END) AS impressions,
       sum(CASE WHEN positive = 1 AND price IS NOT NULL THEN 1 ELSE 0 END) AS priced,
       sum(CASE WHEN positive = 1 AND price IS NOT NULL THEN {price} ELSE 0 END) AS money,
       sum(CASE WHEN event_type = 'rating' AND value IS NOT NULL THEN 1 ELSE 0 END) AS ratings,
       sum(CASE WHEN event_type = 'rating' AND value IS NOT NULL THEN {value} ELSE 0 END) AS stars,
       max(CASE WHEN positive = 1 THEN at_us END) AS last_positive
FROM facts GROUP BY {entity}, date"""


def _windowed(view: str, entity: str, extra: str | None = None) -> str:
    columns = ", ".join(filter(None, [_aggregates(view), extra]))
    return f"""
SELECT w.{entity}, w.day, {columns}
FROM (SELECT b.*, d.day FROM by_date b
      JOIN days d ON b.date < d.day AND b.date >= d.day - {BATCH_WINDOW_DAYS}) w
GROUP BY w.{entity}, w.day"""


def _aggregates(view: str) -> str:
    """`<expression> AS <feature>` for each feature of the view that is an aggregate."""
    return ", ".join(
        f"{AGGREGATES[f.name].format(window=f.window_days)} AS {f.name}"
        for f in of_view(view)
        if f.name in AGGREGATES
    )


def _columns(view: str) -> str:
    """The view's features in table order, with the type and the default of the definition."""
    return ", ".join(
        f"CAST(coalesce({DERIVED.get(f.name, f'a.{f.name}')}, {f.default}e0) AS "
        f"{'BIGINT' if f.dtype == 'int' else 'DOUBLE'}) AS {f.name}"
        for f in of_view(view)
    )


def _inside(feature: str, table: str = "w") -> str:
    """The date lies inside the feature's window of the as-of day, itself not part of it."""
    return f"{table}.date < d.day AND {table}.date >= d.day - {BY_NAME[feature].window_days}"


assert float(BATCH_WINDOW_DAYS) == NEVER_DAYS, "an idle time is looked for as far back as it counts"
