"""Single checks on canned answers: what would take a cluster to bring about for real."""

import itertools
from collections.abc import Callable

import httpx
import pytest

from infra.settings import Settings
from pipelines.smoke import loop, shop, stack
from pipelines.smoke.stack import Failed, Given, Skipped, Stack

Answer = dict | list | str | httpx.Response


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    """Canned answers do not change by waiting."""
    monkeypatch.setattr(shop, "LIST_SECONDS", 0.0)
    monkeypatch.setattr(loop, "RECORD_SECONDS", 0.0)
    monkeypatch.setattr(loop, "SCRAPE_SECONDS", 0.0)
    monkeypatch.setattr(loop, "VISIT_SECONDS", 0.2)
    monkeypatch.setattr(stack.time, "sleep", lambda _: None)


def answering(answers: dict[str, Callable[[httpx.Request], Answer] | Answer], **given) -> Stack:
    """A stack whose paths give these answers; everything else is 404."""

    def handle(request: httpx.Request) -> httpx.Response:
        found = answers.get(request.url.path, httpx.Response(404, json={}))
        found = found(request) if callable(found) else found
        if isinstance(found, httpx.Response):
            return found
        return httpx.Response(200, **{"text" if isinstance(found, str) else "json": found})

    made = Stack(Given("http://api", **given), Settings())
    made.client = httpx.Client(base_url="http://api", transport=httpx.MockTransport(handle))
    return made


SERVICES = {"mode": "services", "ready": True, "features": True, "trained": True, "reasons": []}
NEW = {**SERVICES, "bundle": "new"}


def slate(replica: str, bundle: str) -> httpx.Response:
    return httpx.Response(200, json={"bundle": bundle}, headers={"X-Upstream": replica})


def behind_nginx(*slates: httpx.Response) -> Stack:
    turn = itertools.cycle(slates)
    return answering({"/healthz": slate("1:8000", ""), "/v1/recommendations": lambda _: next(turn)})


def test_two_replicas_with_one_bundle_agree():
    seen = shop.replicas_agree(behind_nginx(slate("1:8000", "new"), slate("2:8000", "new")))
    assert seen == "2 replicas, all with new"


def test_replicas_with_different_bundles_are_told():
    with pytest.raises(Failed, match=r"'1:8000': 'old', '2:8000': 'new'"):
        shop.replicas_agree(behind_nginx(slate("1:8000", "old"), slate("2:8000", "new")))


def test_a_second_replica_that_never_answers_is_missed():
    with pytest.raises(Failed, match=r"\{'1:8000': 'new'\}"):
        shop.replicas_agree(behind_nginx(slate("1:8000", "new")))


def test_the_replica_that_answered_is_the_last_that_was_asked():
    seen = shop.replicas_agree(
        behind_nginx(slate("dead:8000, 1:8000", "new"), slate("2:8000", "new"))
    )
    assert seen.startswith("2 replicas")


def test_without_a_proxy_there_are_no_replicas_to_compare():
    with pytest.raises(Skipped, match="no header X-Upstream"):
        shop.replicas_agree(answering({"/healthz": {"status": "ok"}}))


def registry(bundle: str, status: str = "FINISHED", metrics: int = 3) -> Stack:
    version = {"version": "7", "run_id": "r", "tags": [{"key": "bundle", "value": bundle}]}
    run = {"info": {"status": status}, "data": {"metrics": [{}] * metrics}}
    api = "/api/2.0/mlflow"
    return answering(
        {
            "/readyz": NEW,
            "/v1/users": {"dataset": "world"},
            f"{api}/registered-models/alias": {"model_version": version},
            f"{api}/runs/get": {"run": run},
        }
    )


def test_the_champion_is_the_served_bundle_with_its_run():
    assert loop.champion(registry("new")) == (
        "shortlist-world version 7 is new; its run has 3 metrics"
    )


@pytest.mark.parametrize(
    ("stack", "told"),
    [
        (registry("old"), "names old, served is new"),
        (registry("new", status="RUNNING"), "run r is RUNNING"),
        (registry("new", metrics=0), "0 metrics"),
        (
            answering({"/readyz": NEW, "/v1/users": {"dataset": "world"}}),
            "alias champion of shortlist-world does not exist",
        ),
    ],
)
def test_a_registry_that_does_not_follow_is_told(stack, told):
    with pytest.raises(Failed, match=told):
        loop.champion(stack)


def prometheus(*targets: tuple[str, str], values: tuple[str, ...] = ("9",), **given) -> Stack:
    given = {"prometheus": "http://prometheus:9090", **given}
    active = [{"labels": {"job": job}, "health": health} for job, health in targets]
    turn = itertools.chain(values, itertools.repeat(values[-1] if values else ""))

    def query(_: httpx.Request) -> Answer:
        value = next(turn)
        return {"data": {"result": [{"value": [0, value]}] if value else []}}

    return answering(
        {
            "/readyz": NEW, "/healthz": {"status": "ok"},
            "/api/v1/targets": {"data": {"activeTargets": active}}, "/api/v1/query": query,
        },
        **given,
    )  # fmt: skip


def test_all_targets_are_counted_by_job():
    seen = loop.targets(prometheus(("api", "up"), ("api", "up"), ("stream", "up")))
    assert seen == "2 api, 1 stream: all up"


def test_a_target_that_is_down_is_told():
    with pytest.raises(Failed, match=r"'stream': \['down'\]"):
        loop.targets(prometheus(("api", "up"), ("stream", "down")))


def test_somebody_elses_prometheus_is_not_asked():
    with pytest.raises(Skipped, match="no Prometheus of this stack"):
        loop.targets(prometheus(("api", "down"), prometheus=None))


def test_behind_composes_proxy_prometheus_has_to_be_there():
    replica = answering({"/healthz": slate("1:8000", "")})
    with pytest.raises(Failed, match="/api/v1/targets gave 404"):
        loop.targets(replica)


def test_prometheus_must_know_the_answers():
    assert loop.served_is_counted(prometheus(("api", "up"))).endswith("_total 9")
    with pytest.raises(Failed, match="no value of shortlist_recommendations_total"):
        loop.served_is_counted(prometheus(("api", "up"), values=("",)))


def test_visitors_have_arrived_when_rows_grow_by_themselves():
    seen = loop.visitors_arrive(prometheus(("api", "up"), values=("5", "5", "8")))
    assert seen.startswith("3 feature rows")
    with pytest.raises(Failed, match="still 5 rows pushed"):
        loop.visitors_arrive(prometheus(("api", "up"), values=("5",)))


def test_where_there_is_no_prometheus_the_worker_itself_is_asked():
    rows = itertools.count(3)
    worker = {
        "/readyz": NEW,
        "/healthz": {"status": "ok"},
        "/metrics": lambda _: (
            "# TYPE shortlist_stream_rows_pushed counter\n"
            f"shortlist_stream_rows_pushed_total {next(rows)}.0\n"
        ),
    }
    assert loop.visitors_arrive(answering(worker)).startswith("1 feature rows")


def test_nobody_is_expected_where_nobody_was_sent():
    with pytest.raises(Skipped, match="no-users"):
        loop.visitors_arrive(prometheus(("api", "up"), expects_users=False))


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"items": 9}, "9 items instead of 10"),
        ({"twice": True}, "an item twice"),
        ({"title": ""}, "an item without a title"),
        ({"timing": "rank;dur=1"}, "no header Server-Timing with a total"),
    ],
)
def test_a_list_with_something_wrong_is_told(change, told):
    items = [
        {"item_id": f"i{0 if change.get('twice') else place}", "title": change.get("title", "A"),
         "position": place + 1}
        for place in range(change.get("items", 10))
    ]  # fmt: skip
    headers = {"Server-Timing": change.get("timing", "total;dur=2.0")}
    answer = httpx.Response(200, json={"items": items}, headers=headers)
    with pytest.raises(Failed, match=told):
        shop.slate_of(answering({"/v1/recommendations": answer}), "ann")


def test_a_page_that_misses_a_file_is_told():
    html = httpx.Response(200, html='<script src="/static/gone.js"></script>')
    with pytest.raises(Failed, match=r"/static/gone\.js gave 404"):
        shop.page(answering({"/": html}))


def test_clicks_go_to_the_rarest_category_that_has_enough():
    items = [{"item_id": str(n), "category": c} for n, c in enumerate("aaaaaaabbbbbbcc")]
    category, chosen = shop._one_category(items)
    assert (category, len(chosen)) == ("b", shop.CLICKS)
