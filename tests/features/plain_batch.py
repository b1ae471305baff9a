"""The batch features in plain Python, one event at a time: slow, and easy to check by eye."""

from collections import defaultdict
from datetime import datetime, timedelta
from itertools import pairwise
from statistics import mean

from features.definitions import NEVER_DAYS, PRIOR_CLICKS, PRIOR_IMPRESSIONS, SESSION_GAP

ONE_DAY = timedelta(days=1)


class PlainBatch:
    """Values of the batch views as of `day`, per entity."""

    def __init__(self, events, items, users, day: datetime, positive_types):
        self.day, self.positive_types = day, positive_types
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

    def click_rate(self, events):
        window = self.inside(30, events)
        shown = len(self.of_type("impression", window))
        clicks = min(len(self.of_type("click", window)), shown)
        return (clicks + PRIOR_CLICKS) / (shown + PRIOR_IMPRESSIONS)

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
        bought = [self.items.get(e["item_id"], {}) for e in self.positives(last_90)]
        prices = [row["price"] for row in bought if row.get("price") is not None]
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
            "user_click_rate_30d": self.click_rate(events),
            "price_mean_90d": mean(prices) if prices else 0.0,
            "categories_90d": len({row["category"] for row in bought if row.get("category")}),
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
        per_day_7 = len(self.positives(last_7)) / 7
        return {
            "item_price": row.get("price") or 0.0,
            "item_age_days": age,
            "item_rating_90d": mean(stars) if stars else 0.0,
            "item_ratings_90d": len(stars),
            "item_positives_1d": len(self.positives(self.inside(1, events))),
            "item_positives_7d": len(self.positives(last_7)),
            "item_positives_30d": len(self.positives(last_30)),
            "item_purchases_30d": len(self.of_type("purchase", last_30)),
            "item_users_30d": len({e["user_id"] for e in self.positives(last_30)}),
            "item_click_rate_30d": self.click_rate(events),
            "item_trend_7d": (per_day_7 + 1) / (len(self.positives(last_30)) / 30 + 1),
            "item_idle_days": self.idle(events),
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
            "category_idle_days": self.idle(events),
        }
