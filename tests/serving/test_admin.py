"""The admin port: nobody without the token, and what the operator does reaches a running API."""

import io
import json
import os
import stat
import threading
from contextlib import redirect_stderr

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from starlette.routing import Mount
from starlette.websockets import WebSocketDisconnect

from infra.admin_token import ensure, rotate, token_file
from models import versions
from serving.admin import create_app
from tests.serving.conftest import running, shop_parts, until

UNKNOWN_PATHS = [
    "/", "/admin", "/admin/", "/nothing", "//admin/status", "/admin//status", "/admin/status/",
    "/admin/../admin/status", "/admin%2Fstatus", "/Admin/Status", "/healthz/", "/healthz/x",
    "/healthz%2F..%2Fadmin%2Fstatus", "/healthz/../admin/status", "/openapi.json", "/docs", "/metrics",
]  # fmt: skip


@pytest.fixture
def admin(shop):
    return TestClient(create_app(shop.settings), base_url="http://localhost")


def bearer(shop) -> dict[str, str]:
    return {"Authorization": f"Bearer {token_file(shop.settings).read_text().strip()}"}


def routes_of(admin: TestClient) -> list[tuple[str, str]]:
    """Every route behind the door, whatever is added later."""
    (door,) = (route for route in admin.app.routes if isinstance(route, Mount))
    inner = door.app.app
    assert isinstance(inner, FastAPI)
    return [(method, path) for path, method in _paths(inner.routes)]


def _paths(routes) -> list[tuple[str, str]]:
    found = []
    for route in routes:
        inner = getattr(route, "routes", None) or getattr(
            getattr(route, "original_router", None), "routes", []
        )
        found += _paths(inner)
        found += [(route.path, m) for m in getattr(route, "methods", None) or []]
    return found


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": ""},
        {"Authorization": "Bearer"},
        {"Authorization": "Bearer "},
        {"Authorization": "Bearer wrong-but-long-enough-to-be-one"},
        {
            "Authorization": b"Bearer \xff\xfe\xff\xfe\xff\xfe\xff\xfe\xff\xfe\xff\xfe\xff\xfe\xff\xfe"
        },
    ],
)
def test_nothing_but_the_health_check_answers_without_the_token(admin, headers):
    routes = routes_of(admin)
    assert {("GET", "/admin/status"), ("POST", "/admin/rollback"), ("POST", "/admin/promote")} <= {
        *routes
    }
    methods = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE")
    for method, path in [*routes, *((m, p) for p in UNKNOWN_PATHS for m in methods)]:
        answer = admin.request(method, path, headers=headers)
        assert answer.status_code == 401, (method, path)
        assert answer.headers["www-authenticate"] == "Bearer"
    assert admin.get("/healthz", headers=headers).json() == {"status": "ok"}
    assert admin.post("/healthz", headers=headers).status_code == 401
    with pytest.raises(WebSocketDisconnect), admin.websocket_connect("/admin/status"):
        pass


def test_a_token_in_another_place_or_scheme_is_none(admin, shop):
    token = bearer(shop)["Authorization"].removeprefix("Bearer ")
    assert admin.get("/admin/status", params={"token": token}).status_code == 401
    for said in (token, f"Basic {token}", f"Bearer {token}x", f"Bearer {token[:-1]}"):
        assert admin.get("/admin/status", headers={"Authorization": said}).status_code == 401
    lower = {"Authorization": f"bearer {token}"}  # the scheme's case is free
    assert admin.get("/admin/status", headers=lower).status_code == 200


def test_with_the_token_an_unknown_path_is_a_404(admin, shop):
    assert admin.get("/nothing", headers=bearer(shop)).status_code == 404


def test_the_first_start_makes_a_token_for_the_owner_alone(shop, admin):
    path = token_file(shop.settings)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert len(path.read_text().strip()) >= 43  # 256 bits in base64
    before = path.read_text()
    create_app(shop.settings)
    assert path.read_text() == before  # the next start finds it
    assert os.listdir(path.parent) == [path.name]  # nothing half-written stays behind


def test_processes_that_start_together_agree_on_one_token(tmp_path):
    path, made, barrier = tmp_path / "s" / "token", [], threading.Barrier(8)

    def start() -> None:
        barrier.wait()
        made.append(ensure(path))

    threads = [threading.Thread(target=start) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 8
    assert set(made) == {path.read_text().strip()}


def test_rotating_is_replacing_the_file(admin, shop):
    old = bearer(shop)
    assert admin.get("/admin/status", headers=old).status_code == 200
    rotate(token_file(shop.settings))
    assert admin.get("/admin/status", headers=old).status_code == 401
    assert admin.get("/admin/status", headers=bearer(shop)).status_code == 200


@pytest.mark.parametrize("content", ["", "\n", "short\n", None])
def test_a_file_without_a_secret_lets_nobody_in(admin, shop, content):
    path = token_file(shop.settings)
    path.unlink()
    if content is not None:
        path.write_text(content)
    said = {"Authorization": f"Bearer {(content or '').strip()}"}
    assert admin.get("/admin/status", headers=said).status_code == 401


def test_a_foreign_host_name_is_refused_on_loopback(admin, shop):
    for path in ("/admin/status", "/healthz"):
        answer = admin.get(path, headers=bearer(shop) | {"Host": "evil.example"})
        assert answer.status_code == 400
        assert answer.json()["detail"][0]["field"] == "host"


def test_status_names_the_pointer_and_what_can_be_promoted(admin, shop):
    first = versions.current(shop.workspace.bundles)
    second = shop.promote(shop_parts(seed=8))
    told = admin.get("/admin/status", headers=bearer(shop)).json()
    assert (told["current"], told["previous"]) == (second, first)
    assert {bundle["bundle"] for bundle in told["published"]} == {first, second}
    assert all(bundle["as_of"] and "metrics" in bundle for bundle in told["published"])


def test_a_running_api_follows_the_operator(shop):
    first = versions.current(shop.workspace.bundles)
    second = shop.promote(shop_parts(seed=8))
    admin = TestClient(create_app(shop.settings), base_url="http://localhost")
    with running(shop) as api:

        def answering(bundle_id: str) -> bool:
            return (
                api.post("/v1/recommendations", json={"user_id": "ann"}).json()["bundle"]
                == bundle_id
            )

        assert answering(second)
        done = admin.post("/admin/rollback", headers=bearer(shop))
        assert done.json() == {"bundle": first, "left": second}
        until(lambda: answering(first), timeout_s=10)
        done = admin.post("/admin/promote", headers=bearer(shop), json={"bundle": second})
        assert "the gate was not asked" in done.json()["note"]
        until(lambda: answering(second), timeout_s=10)


def test_there_is_no_way_back_from_the_first_bundle(admin, shop):
    answer = admin.post("/admin/rollback", headers=bearer(shop))
    assert answer.status_code == 409
    assert "no earlier bundle" in answer.json()["detail"][0]["message"]


@pytest.mark.parametrize(
    "bundle",
    ["../../etc", "..", "", "/etc/passwd", "0123456789abcde/", "0123456789ABCDEF", "0" * 16 + "\n",
     "0" * 17, "....0000000000", "%2e%2e%2f%2e%2e%2f0000", "０" * 16, None, 7, ["a"], {"a": 1}],
)  # fmt: skip
def test_a_bundle_id_is_never_a_path(admin, shop, bundle):
    before = versions.current(shop.workspace.bundles)
    answer = admin.post("/admin/promote", headers=bearer(shop), json={"bundle": bundle})
    assert answer.status_code == 422
    assert versions.current(shop.workspace.bundles) == before


def test_a_bundle_that_is_unknown_a_link_or_damaged_is_not_pointed_at(admin, shop, tmp_path):
    bundles = shop.workspace.bundles
    first, second = versions.current(bundles), shop.promote(shop_parts(seed=8))
    versions.point_to(bundles, first)
    (bundles / "versions" / ("f" * 16)).symlink_to(bundles / "versions" / second)
    for unknown in ("e" * 16, "f" * 16):
        answer = admin.post("/admin/promote", headers=bearer(shop), json={"bundle": unknown})
        assert answer.status_code == 404
    popular = bundles / "versions" / second / "popular.npy"
    popular.write_bytes(popular.read_bytes()[:-1])
    answer = admin.post("/admin/promote", headers=bearer(shop), json={"bundle": second})
    assert answer.status_code == 409
    assert "popular.npy" in answer.json()["detail"][0]["message"]
    assert versions.current(bundles) == first


def test_every_action_leaves_a_line_and_the_line_has_no_token(shop):
    log = io.StringIO()
    shop.promote(shop_parts(seed=8))
    admin = TestClient(create_app(shop.settings), base_url="http://localhost")
    with redirect_stderr(log):
        admin.post("/admin/rollback", headers={"Authorization": "Bearer stolen-guess-0123456789"})
        admin.post("/admin/rollback", headers=bearer(shop))
        admin.post("/admin/promote", headers=bearer(shop), json={"bundle": "0" * 16})
    lines = [json.loads(line) for line in log.getvalue().splitlines() if line.startswith("{")]
    assert [line["event"] for line in lines] == ["admin refused", "admin", "admin"]
    assert (lines[1]["action"], lines[1]["outcome"]) == ("rollback", "done")
    assert (lines[2]["action"], lines[2]["outcome"]) == ("promote", "refused")
    assert lines[1]["left"] != lines[1]["bundle"]
    assert "stolen" not in log.getvalue()
    assert bearer(shop)["Authorization"].split()[1] not in log.getvalue()
