"""The batch features in plain Python, one event at a time: slow, and easy to check by eye."""

from collections import Counter, defaultdict
from datetime import datetime, timedelta
from itertools import pairwise
from statistics import mean

from features.definitions import (
    NEVER_DAYS,
    PRIOR_CLICKS,
    PRIOR_EXPECTED,
    PRIOR_IMPRESSIONS,
    SESSION_GAP,
)
from features.position_curve import FLAT, MAX_POSITION, UNKNOWN_POSITION, week_of

ONE_DAY = timedelta(days=1)


class PlainBatch:
    """Values of the batch views as of `day` (or of an hour), per entity."""

    def __init__(self, events, items, users, day: datetime, positive_types, curves):
        self.day, self.positive_types, self.curves = day, positive_types, curves
        self.all = events
        self.items = {row["item_id"]: row for row in items}
        self.users = {row["user_id"]: row for row in users}

    def inside(self, days, events):
        return [e for e in events if self.day - days * ONE_DAY <= e["event_at"] < self.day]

    def positives(self, events):
        return [e for e in events if e["event_type"] in self.positive_types]

    def of_type(self, kind, events):
        return [e for e in events if e["event_type"] == kind]

    def idle(self, events):
        last = [e["event_at"] for e in self.positives(self.inside(90, events))]
        return (self.day - max(last)) / ONE_DAY if last else NEVER_DAYS

    def rate(self, part, of, events):
        of = len(self.of_type(of, events))
        part = min(len(self.of_type(part, events)), of)
        return (part + PRIOR_CLICKS) / (of + PRIOR_IMPRESSIONS)

    def coec(self, events):
        clicks = [e for e in self.of_type("click", events) if e["request_id"] is not None]
        expected = 0.0
        for e in self.of_type("impression", events):
            curve = self.curves.get(week_of(e["event_at"].date()), FLAT)
            expected += curve[min(e["position"] or UNKNOWN_POSITION, MAX_POSITION)]
        return (len(clicks) + PRIOR_EXPECTED) / (expected + PRIOR_EXPECTED)

    def price_quantile(self, row, at):
        """Share of the category's priced items of the last Monday that are cheaper, equal ones half."""
        monday = at.replace(hour=0, minute=0, second=0, microsecond=0) - at.weekday() * ONE_DAY
        there = [r for r in self.items.values() if not r["created_at"] or r["created_at"] < monday]
        if row.get("price") is None or row not in there:
            return None
        rivals = [r for r in there if r["category"] == row["category"]]
        prices = [r["price"] for r in rivals if r["price"] is not None]
        cheaper = sum(price < row["price"] for price in prices)
        return (cheaper + prices.count(row["price"]) / 2) / len(prices)

    def age(self, created_at, events):
        known = [e["event_at"] for e in events] + ([created_at] if created_at else [])
        if not known or min(known) >= self.day:
            return None
        return (self.day - min(known)) / ONE_DAY

    def sessions(self, events):
        """Lists of times. The runs of acts without an id are cut over the whole past."""
        found, run = defaultdict(list), []
        acts = [e for e in events if e["event_type"] != "impression" and e["event_at"] < self.day]
        for e in acts:
            if e["session_id"] is not None:
                found[e["session_id"]].append(e["event_at"])
        loose = sorted(e["event_at"] for e in acts if e["session_id"] is None)
        for before, at in pairwise([None, *loose]):
            if before is not None and at - before > SESSION_GAP:
                found["run", run[0]] = run
                run = []
            run = [*run, at]
        if run:
            found["run", run[0]] = run
        inside = [[at for at in times if at >= self.day - 30 * ONE_DAY] for times in found.values()]
        return [times for times in inside if times]

    def user_daily(self, user_id):
        events = [e for e in self.all if e["user_id"] == user_id]
        age = self.age(self.users.get(user_id, {}).get("created_at"), events)
        if age is None:
            return None
        last_30, last_90 = self.inside(30, events), self.inside(90, events)
        bought = [
            (self.items.get(e["item_id"], {}), e["event_at"]) for e in self.positives(last_90)
        ]
        prices = [row["price"] for row, _ in bought if row.get("price") is not None]
        levels = [level for b in bought if (level := self.price_quantile(*b)) is not None]
        minutes = [(max(t) - min(t)) / timedelta(minutes=1) for t in self.sessions(events)]
        acts = [e for e in last_30 if e["event_type"] != "impression"]
        weeks = min(90.0, max(7.0, age)) / 7
        return {
            "account_age_days": age,
            "purchase_frequency_90d": len(self.of_type("purchase", last_90)) / weeks,
            "purchases_30d": len(self.of_type("purchase", last_30)),
            "positives_7d": len(self.positives(self.inside(7, events))),
            "positives_30d": len(self.positives(last_30)),
            "sessions_30d": len(minutes),
            "session_minutes_mean_30d": mean(minutes) if minutes else 0.0,
            "active_days_30d": len({e["event_at"].date() for e in acts}),
            "user_click_rate_30d": self.rate("click", "impression", last_30),
            "user_coec_30d": self.coec(last_30),
            "price_mean_90d": mean(prices) if prices else 0.0,
            "price_quantile_90d": mean(levels) if levels else 0.5,
            "categories_90d": len({row["category"] for row, _ in bought if row.get("category")}),
            "user_idle_days": self.idle(events),
        }

    def item_daily(self, item_id):
        events = [e for e in self.all if e["item_id"] == item_id]
        row = self.items.get(item_id, {})
        age = self.age(row.get("created_at"), events)
        if age is None:
            return None
        last_7, last_30 = self.inside(7, events), self.inside(30, events)
        ratings = self.of_type("rating", self.inside(90, events))
        stars = [e["value"] for e in ratings if e["value"] is not None]
        positives_7, positives_30 = len(self.positives(last_7)), len(self.positives(last_30))
        takers = Counter(e["user_id"] for e in self.positives(self.inside(90, events)))
        level = self.price_quantile(row, self.day)
        return {
            "item_price": row.get("price") or 0.0,
            "item_price_quantile": 0.5 if level is None else level,
            "item_age_days": age,
            "item_rating_90d": mean(stars) if stars else 0.0,
            "item_ratings_90d": len(stars),
            "item_positives_7d": positives_7,
            "item_positives_30d": positives_30,
            "item_purchases_30d": len(self.of_type("purchase", last_30)),
            "item_users_30d": len({e["user_id"] for e in self.positives(last_30)}),
            "item_click_rate_30d": self.rate("click", "impression", last_30),
            "item_coec_30d": self.coec(last_30),
            "item_purchase_rate_30d": self.rate("purchase", "click", last_30),
            "item_repeat_share_90d": sum(n > 1 for n in takers.values()) / max(len(takers), 1),
            "item_trend_7d": (positives_7 / 7 + 1) / (positives_30 / 30 + 1),
            "item_trend_7d_v2": (positives_7 + 1) / (positives_30 * 7 / 30 + 1),
            "item_idle_days": self.idle(events),
        }

    def item_hourly(self, item_id):
        """As of an hour; no row where nothing happened for 25 hours."""
        events = [e for e in self.all if e["item_id"] == item_id]
        if not self.inside(25 / 24, events):
            return None
        last_24 = self.inside(1, events)
        in_1h, in_24h = (len(self.positives(self.inside(d, events))) for d in (1 / 24, 1))
        return {
            "item_positives_1h": in_1h,
            "item_positives_24h": in_24h,
            "item_coec_24h": self.coec(last_24),
            "item_surge_1h": (in_1h + 1) / (in_24h / 24 + 1),
        }

    def user_category_daily(self, user_id, category):
        all_of_user = [e for e in self.all if e["user_id"] == user_id]
        events = [
            e for e in all_of_user if self.items.get(e["item_id"], {}).get("category") == category
        ]
        last_90 = self.positives(self.inside(90, events))
        if not last_90:
            return None
        return {
            "category_positives_30d": len(self.positives(self.inside(30, events))),
            "category_positives_90d": len(last_90),
            "category_share_90d": len(last_90) / len(self.positives(self.inside(90, all_of_user))),
            "category_coec_30d": self.coec(self.inside(30, events)),
            "category_idle_days": self.idle(events),
        }
