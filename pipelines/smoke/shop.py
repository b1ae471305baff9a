"""What a visitor would notice: the page, the lists, and that a click changes them."""

import re
from collections import Counter
from typing import Any

import httpx

from pipelines.smoke.stack import Failed, Skipped, Stack, Visit, new_id, within
from pipelines.steps import console

K = 10
CLICKS = 5
FEATURE_SECONDS = 30.0
"""A click is a feature within a second; a busy machine gets more, a missing worker never ends."""

LIST_SECONDS = 15.0


def page(stack: Stack) -> str:
    """The page and all that it loads."""
    html = stack.get("/")
    if html.status_code != httpx.codes.OK or "text/html" not in html.headers["content-type"]:
        raise Failed(f"/ gave {html.status_code} {html.headers.get('content-type')}")
    files = sorted(set(re.findall(r'(?:href|src)="(/static/[^"]+)"', html.text)))
    if not files:
        raise Failed("the page loads no script and no style")
    sizes = []
    for path in files:
        answer = stack.get(path)
        if answer.status_code != httpx.codes.OK or not answer.content:
            raise Failed(f"{path} gave {answer.status_code}, {len(answer.content)} bytes")
        sizes.append(len(answer.content))
    return f"HTML and {len(files)} files, {sum(sizes) / 1000:.0f} kB"


def ready(stack: Stack) -> str:
    """A bundle answers, with features."""
    told = stack.ready()
    if not (told["ready"] and told["features"]):
        raise Failed("; ".join(told["reasons"]) or f"{told}")
    return f"mode {told['mode']}, bundle {told['bundle']}"


def trained(stack: Stack) -> str:
    """The bundle was trained; the popular list of the first minutes has been replaced."""

    def look() -> str | None:
        state = stack.ready()
        return str(state["bundle"]) if state["trained"] else None

    def missing() -> str:
        return f"{stack.ready()['bundle']} is still a popular list, nothing in it was trained"

    if not stack.ready()["trained"]:
        console.print(
            f"[dim]waiting up to {stack.given.wait_s:.0f} s for the first trained bundle "
            f"({missing()})[/]"
        )
    with console.status("the first bundle is being trained"):
        bundle, waited = within(stack.given.wait_s, look, missing)
    return bundle + (f" after {waited:.0f} s" if waited > 1 else "")


def known_user(stack: Stack) -> str:
    """A list for somebody with a history."""
    people = stack.json("/v1/users", limit=30)["users"]
    if not people:
        raise Failed("/v1/users knows nobody")
    user = people[0]["user_id"]
    slate = slate_of(stack, user)
    return f"{user}: {K} different items with titles, rung {slate['rung']}, {_stages(slate)}"


def new_user(stack: Stack) -> str:
    """A list for somebody whom nobody has seen."""
    slate = slate_of(stack, new_id("new"))
    sources = Counter(item["source"] for item in slate["items"])
    told = ", ".join(f"{count} {source}" for source, count in sources.most_common(3))
    return f"{K} different items, rung {slate['rung']}: {told}"


def bad_input(stack: Stack) -> str:
    """Mistakes are refused, and the field is named."""
    event = {"event_id": new_id("event"), "user_id": new_id("bad"), "item_id": "x"}
    mistakes = {
        "k": ("/v1/recommendations", {"user_id": "x", "k": 0}),
        "user_id": ("/v1/recommendations", {"k": 3}),
        "event_type": ("/v1/events", {**event, "event_type": "impression"}),
    }
    for field, (path, body) in mistakes.items():
        answer = stack.post(path, body)
        named = [problem.get("field") for problem in answer.json().get("detail", ())]
        if answer.status_code != httpx.codes.UNPROCESSABLE_ENTITY or field not in named:
            raise Failed(f"a wrong {field} gave {answer.status_code}, naming {named}")
    return f"422 naming {', '.join(mistakes)}"


def click_becomes_feature(stack: Stack) -> str:
    """Clicks of a new user are accepted, and are features of that user within seconds."""
    user = new_id("user")
    slate = slate_of(stack, user, k=50)
    category, chosen = _one_category(slate["items"])
    kinds = stack.json("/v1/users", limit=1)["positive_types"]
    kind = "click" if "click" in kinds else kinds[0]
    events = [
        {
            "event_id": new_id("event"), "event_type": kind, "user_id": user,
            "item_id": item["item_id"], "request_id": slate["request_id"],
            "position": item["position"],
        }
        for item in chosen
    ]  # fmt: skip
    clicked = [item["item_id"] for item in chosen]
    before = [item["item_id"] for item in slate["items"][:K]]
    accepted = stack.post("/v1/events", {"events": events})
    if accepted.status_code != httpx.codes.ACCEPTED:
        raise Failed(f"/v1/events gave {accepted.status_code}: {accepted.text[:200]}")
    stack.visit = Visit(user, before, clicked)
    known: dict[str, Any] = {}

    def look() -> bool | None:
        known.update(stack.json(f"/v1/users/{user}"))
        arrived = {entry["item_id"] for entry in known["history"]}
        return True if arrived >= set(clicked) else None

    def missing() -> str:
        return f"{len(known['history'])} of {len(clicked)} clicks in the user's history"

    _, waited = within(FEATURE_SECONDS, look, missing)
    return f"{len(clicked)} clicks of {category}: 202, in the user's history after {waited:.1f} s"


def list_follows(stack: Stack) -> str:
    """After the clicks the same user gets another list, from the full line."""
    if stack.visit is None:
        raise Failed("no click was accepted, so no list could follow one")
    visit = stack.visit
    last: dict[str, Any] = {}

    def look() -> dict[str, Any] | None:
        slate = slate_of(stack, visit.user_id)
        last.update(rung=slate["rung"], degraded=slate["degraded"])
        differs = [item["item_id"] for item in slate["items"]] != visit.before
        last["differs"] = differs
        return slate if differs and slate["rung"] == 0 else None

    def missing() -> str:
        same = "another list" if last["differs"] else "the same list as before the clicks"
        return f"{same}, rung {last['rung']}, degraded {last['degraded']}"

    slate, _ = within(LIST_SECONDS, look, missing)
    new = len({item["item_id"] for item in slate["items"]} - set(visit.before))
    return f"{new} of {K} items are new, rung 0"


def replicas_agree(stack: Stack) -> str:
    """Every replica behind the proxy answers from the same bundle."""
    if not stack.is_behind_a_proxy:
        raise Skipped("one API: no header X-Upstream, so no proxy in front of several")
    bundles: dict[str, str] = {}

    def look() -> bool | None:
        bundles.clear()
        for _ in range(20):
            answer = stack.post("/v1/recommendations", {"user_id": new_id("replica"), "k": 1})
            replica = answer.headers["X-Upstream"].split(",")[-1].strip()
            bundles[replica] = str(answer.json().get("bundle"))
        return True if len(bundles) > 1 and len(set(bundles.values())) == 1 else None

    within(LIST_SECONDS, look, lambda: f"replicas and bundles: {bundles}")
    return f"{len(bundles)} replicas, all with {next(iter(bundles.values()))}"


def slate_of(stack: Stack, user: str, k: int = K) -> dict[str, Any]:
    """One list, checked as far as anybody could check it by looking.

    Raises:
        Failed: a wrong length, an item twice, no title, no timing.
    """
    answer = stack.post("/v1/recommendations", {"user_id": user, "k": k})
    if answer.status_code != httpx.codes.OK:
        raise Failed(f"/v1/recommendations gave {answer.status_code}: {answer.text[:200]}")
    slate: dict[str, Any] = answer.json()
    items = slate["items"]
    wrong = [
        f"{len(items)} items instead of {k}" * (len(items) != k),
        "an item twice" * (len({item["item_id"] for item in items}) != len(items)),
        "an item without a title" * (not all(item["title"] for item in items)),
        "positions not 1, 2, 3, ..."
        * ([item["position"] for item in items] != list(range(1, len(items) + 1))),
        "no header Server-Timing with a total"
        * ("total;dur=" not in answer.headers.get("Server-Timing", "")),
    ]
    if any(wrong):
        raise Failed(f"{user}: {', '.join(filter(None, wrong))}")
    return slate


def _one_category(items: list[dict[str, Any]]) -> tuple[str, list[dict[str, Any]]]:
    """Up to CLICKS items of one category: the rarest that has enough, so that its rise shows."""
    by_category: dict[str, list[dict[str, Any]]] = {}
    for item in items:
        by_category.setdefault(item["category"] or "no category", []).append(item)
    enough = {name: found for name, found in by_category.items() if len(found) >= CLICKS}
    chosen = min(enough or by_category, key=lambda name: (len(by_category[name]), name))
    return chosen, by_category[chosen][:CLICKS]


def _stages(slate: dict[str, Any]) -> str:
    return f"{slate['timings_ms']['total']:.1f} ms in the server"
