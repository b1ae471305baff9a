"""The same visits for Locust, for those who have it: locust -f tests/load/locustfile.py

A *closed* model: each simulated user waits for an answer before asking again, so while the server
stalls nobody new arrives, and the percentiles look better than what users would see. Good for
clicking around in its page; figures to be quoted come from `shortlist load`.
"""

import random
import uuid

from locust import HttpUser, between, task  # not in the locks: install it beside them


class Visitor(HttpUser):
    wait_time = between(0.5, 1.5)

    @task
    def visit(self) -> None:
        user_id = f"load-{min(int(random.paretovariate(1.0)), 1_000)}"
        slate = self.client.post("/v1/recommendations", json={"user_id": user_id}).json()
        if slate.get("items") and random.random() < 0.25:
            shown = random.choice(slate["items"])
            click = {
                "event_id": uuid.uuid4().hex, "event_type": "click", "user_id": user_id,
                "item_id": shown["item_id"], "request_id": slate["request_id"],
                "position": shown["position"],
            }  # fmt: skip
            self.client.post("/v1/events", json=click)
